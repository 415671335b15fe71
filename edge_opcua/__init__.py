"""edge_opcua: PLC data in, model verdicts out, over OPC UA, before a deadline, safe when something fails."""

__all__ = ["__version__"]

__version__ = "0.1.0"
