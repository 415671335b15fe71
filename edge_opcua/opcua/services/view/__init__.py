"""The View services (Part 4 §5.9): Browse, and paths to nodes."""
