"""The information model as files for other products, made without a running server."""
