"""What a change of models costs in a running server."""
