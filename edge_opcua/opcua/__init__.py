"""The OPC UA server: the address space of the machine, fed from the tag bus."""
