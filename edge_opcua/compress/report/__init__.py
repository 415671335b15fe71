"""What came of a search, for people (terminal, HTML) and for programs (JSON)."""
