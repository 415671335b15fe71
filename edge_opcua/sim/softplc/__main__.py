"""A soft PLC that executes Structured Text and serves its areas over S7 and Modbus TCP.

``python -m edge_opcua.sim.softplc FB.st --block FB_EdgeAI_x --area Status=DB20 --area Control=DB21,ro`` calls
the function block in a program of its own; without ``--block`` the files hold a program. Commands come from
the parent, or from stdin; answers are JSON.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edge_opcua.core.clock import SystemClock
from edge_opcua.sim import unit
from edge_opcua.sim.softplc.plc import MAIN
from edge_opcua.sim.softplc.process import SoftPlcUnit

_COMMANDS: Final = """\
commands on stdin:
  get NAME ...           values of variables, such as edge.InUse or Status[1]
  set NAME VALUE         TRUE, 5, 16#FF, 2.5 or [1, 2, 3]
  press NAME [SCANS]     hold a button for some scans
  watch NAME ...         keep the changes of these variables
  trace                  what changed, in which scan and when
  reaction               when InUse of the block fell, and after how much silence
  trigger TIMES          raise Trigger so many times; answers shows how long each took
  freeze on|off          stop scanning; the servers still answer reads
  state                  number of scans, faults, requests
  quit                   end
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the PLC until its parent goes, ``quit`` or SIGTERM."""
    parser = unit.argument_parser(__doc__)
    parser.epilog = _COMMANDS
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("files", nargs="+", type=Path, help="Structured Text")
    parser.add_argument("--program", default=MAIN, help="program in it")
    parser.add_argument("--block", help="function block to call from a program that is made for it")
    parser.add_argument("--payload", type=int, default=0, help="elements of an array Payload in that program")
    parser.add_argument(
        "--area",
        action="append",
        default=[],
        metavar="NAME=PLACE",
        help="array of the program and its place: DB20, DB20.DBB40 or hr:200; ,ro for read-only",
    )
    parser.add_argument("--scan-ms", type=float, default=20.0, help="cycle time")
    parser.add_argument("--port", type=int, default=0, help="port of S7, 0 for any that is free")
    parser.add_argument("--modbus-port", type=int, default=0, help="port of Modbus TCP")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="first values")
    parser.add_argument("--watch", nargs="*", default=[], metavar="NAME", help="variables to trace")
    arguments = parser.parse_args(argv)
    return unit.run(SoftPlcUnit(arguments, clock=SystemClock()), arguments)


if __name__ == "__main__":
    sys.exit(main())
