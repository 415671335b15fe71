"""pylogix reads tags again and again: ``pylogix_client.py PORT TIMES TAG...``; prints times as JSON, ms."""

from __future__ import annotations

import json
import sys
import time

from pylogix import PLC


def main() -> None:
    """Read all tags some times."""
    port, times, *tags = sys.argv[1:]
    took = []
    with PLC("127.0.0.1", port=int(port)) as plc:
        plc.Read(tags)
        before = time.process_time()
        for _ in range(int(times)):
            started = time.perf_counter()
            answers = plc.Read(tags)
            took.append(1000 * (time.perf_counter() - started))
            wrong = [answer.Status for answer in answers if answer.Status != "Success"]
            if wrong:
                sys.exit(f"{len(wrong)} of {len(tags)} failed: {wrong[0]}")
        cpu = 1000 * (time.process_time() - before) / int(times)
    sys.stdout.write(json.dumps({"took": took, "cpu": cpu}))


if __name__ == "__main__":
    main()
