"""Transforms of windows into features: pure functions on arrays, the same in training and serving."""
