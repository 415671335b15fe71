"""What ``edge-opcua metrics`` does: names every metric, sets Prometheus and Grafana up."""

from __future__ import annotations

from pathlib import Path

from edge_opcua.app.command.tell import ANSWER_IS_NO, complain, say
from edge_opcua.telemetry.names import METRICS
from edge_opcua.telemetry.provision import write


def metrics(provision: Path | None, target: str) -> int:
    """Print the metrics, or write the files.

    Args:
        provision: Folder to write the files of Prometheus and Grafana to; None prints the list.
        target: Where Prometheus finds the metrics, ``host:port``.

    Returns:
        0; 1 if a file cannot be written.
    """
    if provision is None:
        for metric in METRICS.values():
            labels = f" {{{', '.join(metric.labels)}}}" if metric.labels else ""
            say(f"{metric.name}{labels}  {metric.kind}: {metric.help}")
        return 0
    try:
        written = write(provision, target)
    except OSError as exc:
        complain(f"{exc.filename or provision} cannot be written: {exc.strerror}")
        return ANSWER_IS_NO
    for path in written:
        say(f"written: {path}")
    say("docs/howto/monitor.md says where each of them belongs")
    return 0
