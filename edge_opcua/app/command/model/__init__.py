"""``edge-opcua model``: one file per verb, and what the verbs share."""
