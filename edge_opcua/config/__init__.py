"""One TOML file plus CSV tag tables become one checked ``EdgeConfig``, or a list of all that is wrong."""
