"""Subscriptions and monitored items (Part 4 §5.13, §5.14): what is watched, kept and sent."""
