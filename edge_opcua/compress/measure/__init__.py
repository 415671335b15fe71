"""What a variant answers, and what it takes on this machine: time beside the original, memory, size."""
