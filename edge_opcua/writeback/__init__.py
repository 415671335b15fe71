"""Writes results back to PLCs: who may, what exactly, and how it all falls safe."""
