"""Models: where they lie, whether they may be served, what runs them, and the lanes."""
