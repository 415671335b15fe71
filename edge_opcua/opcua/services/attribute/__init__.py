"""The Attribute services (Part 4 §5.11): Read, Write, and parts of values."""
