"""Detectors of river (BSD-3-Clause) over series of numbers, in the environment of tests/peers/install.

Reads from standard input a list of pairs: names of detectors, and a series of numbers whose healthy mean and
standard deviation are 0 and 1. Writes for each of them at which places each detector saw a change.
"""

import json
import sys

from river import drift


def main() -> None:
    """Run each detector over each series."""
    makers = {
        "ADWIN": lambda: drift.ADWIN(),
        "PageHinkley": lambda: drift.PageHinkley(min_instances=30, delta=0.5, threshold=17.0, mode="both"),
        "KSWIN": lambda: drift.KSWIN(alpha=0.0001, window_size=200, stat_size=100, seed=1),
    }
    found = []
    for names, series in json.load(sys.stdin):
        places = {}
        for name in names:
            detector, places[name] = makers[name](), []
            for place, value in enumerate(series):
                detector.update(value)
                if detector.drift_detected:
                    places[name].append(place)
        found.append(places)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
