"""The C client of snap7 reads scattered blocks, 20 a call: the floor for reading an S7 PLC.

Run by the Python of tests/peers/.installed/snap7: ``snap7_client.py PORT BLOCKS BYTES STEP TIMES``; prints
the milliseconds of each refresh, and those of processor time of one on average, as JSON.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time

from snap7.client import Client
from snap7.type import Area, S7DataItem, WordLen

MOST_ITEMS = 20


def main() -> None:
    """Read all blocks again and again."""
    port, blocks, size, step, times = map(int, sys.argv[1:])
    client = Client()
    client.connect("127.0.0.1", 0, 1, port)
    items = []
    for block in range(blocks):
        item = S7DataItem()
        item.Area, item.WordLen, item.DBNumber = int(Area.DB.value), int(WordLen.Byte.value), 1
        item.Start, item.Amount = step * block, size
        item.pData = ctypes.cast((ctypes.c_uint8 * size)(), ctypes.POINTER(ctypes.c_uint8))
        items.append(item)
    # What fits one PDU is one call; the library refuses a call whose answer does not.
    per_call = max(1, min(MOST_ITEMS, (client.get_pdu_length() - 14) // (size + size % 2 + 4)))
    calls = [items[at : at + per_call] for at in range(0, blocks, per_call)]
    arrays = [(S7DataItem * len(call))(*call) for call in calls]
    took = []
    before = time.process_time()
    for _ in range(times):
        started = time.perf_counter()
        for array in arrays:
            code, answers = client.read_multi_vars(array)
            if code or any(answer.Result for answer in answers):
                sys.exit(f"read failed: {code}, {[answer.Result for answer in answers]}")
        took.append(1000 * (time.perf_counter() - started))
    cpu = 1000 * (time.process_time() - before) / times
    sys.stdout.write(json.dumps({"took": took, "cpu": cpu}))
    client.disconnect()


if __name__ == "__main__":
    main()
