"""Events for clients: which they want, which fields of them, and where they are seen."""
