"""A model on a server that somebody else runs, by the Open Inference Protocol (KServe v2)."""

from edge_opcua.inference.backends.remote.backend import RemoteBackend

__all__ = ["RemoteBackend"]
