"""What ``edge-opcua bench compress`` measures: models made smaller, and some better left as they are."""
