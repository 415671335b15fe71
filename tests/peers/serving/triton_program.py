"""Triton's program as nvidia-pytriton brings it; its backend for Python is the only one there."""

import os
import pathlib
import sysconfig
import tempfile


def new_repository(port):
    """Return a new folder for models; its name tells whose it is."""
    return pathlib.Path(tempfile.mkdtemp(prefix=f"edge-opcua-triton-{port}-"))


def become(repository, port, environment):
    """Become the server of a repository; ports: HTTP, the next gRPC.

    Its own libpython has to be on the library path, and models find what lies beside this file.
    """
    packages = pathlib.Path(sysconfig.get_path("purelib"))
    server = packages / "pytriton" / "tritonserver"
    surroundings = os.environ | {
        "LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR"),
        "PEER_PATH": f"{pathlib.Path(__file__).parent}:{packages}",
        **environment,
    }
    arguments = {
        "model-repository": repository,
        "backend-directory": server / "backends",
        "http-address": "127.0.0.1",
        "http-port": port,
        "grpc-address": "127.0.0.1",
        "grpc-port": port + 1,
        "allow-metrics": "false",
        "log-error": "true",
        "log-info": "false",
        "log-warning": "false",
        "exit-timeout-secs": 1,
        # By this name whoever ends it finds what it leaves: it is killed before it has tidied up.
        "backend-config": f"python,shm-region-prefix-name=edge-opcua-triton-{port}-",
    }
    program = str(server / "bin" / "tritonserver")
    os.execve(program, [program, *(f"--{key}={value}" for key, value in arguments.items())], surroundings)
