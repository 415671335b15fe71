"""Simulated plants behind real protocol servers: the demo and the tests share them."""
