"""Watching a model while it serves: drift, inputs, latency, references, age, trend; beside the verdicts."""
