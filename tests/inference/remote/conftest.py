"""Set before grpcio is imported: what it would print of connections that tests cut is no news."""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
