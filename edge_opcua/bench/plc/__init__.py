"""``edge-opcua bench plc``: how fast and how evenly PLCs are read, beside C clients and another gateway."""
