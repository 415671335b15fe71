"""A program that does what its request says: answers, refuses, dies, hangs, or prints nonsense before."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

from edge_opcua.errors import ModelError
from edge_opcua.inference.apart import answer_with, tell


def work(request: Mapping[str, Any]) -> dict[str, Any]:
    """Do it."""
    what = request["what"]
    tell({"step": "began"})
    if what == "die":
        sys.stderr.write("first\nthe last words\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "tell":
        for number in range(int(request["times"])):
            tell({"step": str(number)})
            time.sleep(0.02)
        return {"told": request["times"]}
    if what == "hang":
        signal.pause()
    if what == "refuse":
        raise ModelError("no such thing", code="M504")
    if what == "grow":
        return {"size": len(bytearray(int(request["bytes"])))}
    if what == "exit":
        os._exit(3)
    sys.stdout.write("[W:onnxruntime] something\n{not json\n[1, 2]\n")
    return {"said": request["say"]}


if __name__ == "__main__":
    answer_with(work)
