"""Reads and writes PLCs and sensor units: what to ask for, when, and what the answers are worth."""
