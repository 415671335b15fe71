"""Which version of a model runs where: the jobs that change it, what is written down of it, the way back."""
