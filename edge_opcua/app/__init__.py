"""Composition root and supervisor: the only place that builds, connects, restarts and reconfigures things."""
