"""Figures for monitoring systems: metrics of the plant and of the host, and what to look at them with."""
