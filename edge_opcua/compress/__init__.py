"""Makes a model smaller and faster, and proves on the user's data that it is as good, or refuses."""
