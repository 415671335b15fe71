"""Tags as clients meet them: rows of bus blocks that answer like nodes, and never become any."""
