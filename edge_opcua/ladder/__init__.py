"""Function blocks, tag tables and timing diagrams for the PLC, made from the map the driver uses."""
