"""The durable record of what was judged, decided and done; behind history, events and audit."""
