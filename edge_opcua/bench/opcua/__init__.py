"""``edge-opcua bench opcua``: our OPC UA server beside plain asyncua's and node-opcua's, in the same run."""
