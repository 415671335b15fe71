"""What runs a model file; each backend implements :class:`edge_opcua.core.ports.Backend`."""
