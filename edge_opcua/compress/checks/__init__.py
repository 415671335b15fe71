"""What is looked at before a model is made smaller: can it be served, where, and is it the trained one."""
