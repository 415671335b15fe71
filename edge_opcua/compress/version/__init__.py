"""A variant as a version of its model: with reference samples, profile and manifest of its own."""
