"""Lanes as processes: what one of them does, and who starts, changes, watches and replaces them."""
