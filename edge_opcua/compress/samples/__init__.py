"""Samples out of the files that people have, and recorded windows."""
