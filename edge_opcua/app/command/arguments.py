"""The arguments of each command, a function per family; what they do is nobody's business here."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from edge_opcua.app.command.model.arguments import add_model


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state", type=Path, default=None, metavar="DIR", help="state directory (keys, models, journal)"
    )


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", type=Path, default=None, metavar="FILE", help="configuration file")
    parser.add_argument("-c", "--config", type=Path, default=None, metavar="FILE", help="the same as FILE")


def _add_import(tags: argparse.ArgumentParser) -> None:
    tags.add_argument(
        "--policy",
        choices=("abort", "skip", "rename", "replace"),
        default="skip",
        help="what becomes of names that are there already; abort: nothing if a row is left out (import)",
    )
    tags.add_argument(
        "--db",
        action="append",
        default=[],
        metavar="NUMBER|NAME=NUMBER",
        help="which number a data block has, where its source does not say (import)",
    )
    tags.add_argument("--dry-run", action="store_true", help="write nothing (import)")
    tags.add_argument("--json", action="store_true", help="one JSON object instead of text (import)")


def _add_exports(commands: Any) -> None:
    tags = commands.add_parser("tags", help="tag lists of and for other products")
    tags.add_argument(
        "action",
        choices=("import", "export"),
        help="import: another product's list becomes the tag table of a device; export: write a list for it",
    )
    tags.add_argument(
        "file",
        nargs="?",
        type=Path,
        default=None,
        metavar="FILE",
        help="the list (import), the configuration (export)",
    )
    tags.add_argument("-c", "--config", type=Path, default=None, metavar="FILE", help="the configuration")
    tags.add_argument(
        "--format",
        choices=("auto", "kepware", "ignition", "tia", "rockwell", "neuron", "csv"),
        default="auto",
        help="whose list; auto: what the file looks like (import), csv (export)",
    )
    tags.add_argument(
        "--out",
        type=Path,
        default=None,
        metavar="FILE",
        help="file; else the device's table, or standard output",
    )
    tags.add_argument(
        "--device", default="", metavar="NAME", help="for which device, or only what belongs to it"
    )
    _add_import(tags)
    tags.add_argument(
        "--as",
        dest="as_what",
        choices=("clients", "device"),
        default="clients",
        help="clients: what an OPC UA client needs to read this server; device: what another product needs to"
        " read the device itself (export)",
    )
    tags.add_argument(
        "--server-name", default="", metavar="NAME", help='Ignition\'s OPC connection ("edge_opcua MACHINE")'
    )
    tags.add_argument(
        "--path", choices=("ns", "nsu"), default=None, help="NodeIds by namespace index or by its URI"
    )

    nodesets = commands.add_parser("nodesets", help="the information model as NodeSet2 files")
    nodesets.add_argument("action", choices=("export",), help="write the files")
    _add_config(nodesets)
    nodesets.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the files")


def _add_metrics(commands: Any) -> None:
    metrics = commands.add_parser(
        "metrics",
        help="the metrics that Prometheus may read, and the files it and Grafana are set up with",
        allow_abbrev=False,
    )
    metrics.add_argument(
        "--provision",
        type=Path,
        default=None,
        metavar="DIR",
        help="write scrape configuration, alert rules, data source and dashboard below this folder",
    )
    metrics.add_argument(
        "--target",
        default="127.0.0.1:9464",
        metavar="HOST:PORT",
        help="where Prometheus finds the metrics: `prometheus` of [telemetry]",
    )


def _add_records(commands: Any) -> None:
    records = commands.add_parser(
        "records", help="the journal: who did what, results, model jobs, answers", allow_abbrev=False
    )
    _add_common(records)
    records.add_argument(
        "kind",
        nargs="?",
        choices=("audit", "result", "job", "watch", "answer", "gap"),
        metavar="KIND",
        help="audit, result, job, watch, answer or gap; all if not given",
    )
    records.add_argument(
        "--last", type=_count, default=20, metavar="N", help="how many, the newest (default 20)"
    )
    records.add_argument("--json", action="store_true", help="JSON Lines instead of text")


def _count(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= number <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000000")
    return number


def _add_users(commands: Any) -> None:
    # No abbreviations: --password SECRET would be taken for --password-file, and told as a missing file.
    users = commands.add_parser(
        "users", help="list who can sign in, add a user, or change one", allow_abbrev=False
    )
    _add_common(users)
    users.add_argument(
        "action",
        nargs="?",
        choices=("add", "passwd", "roles", "disable", "enable", "remove"),
        help="what to do with NAME; nothing lists all",
    )
    users.add_argument("name", nargs="?", metavar="NAME", help="the user")
    users.add_argument(
        "--role",
        action="append",
        default=[],
        metavar="ROLE,…",
        help="what he may do (add, roles): observer, operator, supervisor, engineer, configureadmin,"
        " securityadmin",
    )
    users.add_argument(
        "--password-file",
        type=Path,
        default=None,
        metavar="FILE",
        help="take the password from the first line of FILE, - is standard input (add, passwd)",
    )
    users.add_argument(
        "--certificate",
        type=Path,
        default=None,
        metavar="FILE",
        help="he signs in with this certificate (add)",
    )
    users.add_argument("--json", action="store_true", help="one JSON object instead of text")


def _add_certs(commands: Any) -> None:
    certs = commands.add_parser("certs", help="show this server's certificates, renew or replace its own")
    certs.add_argument(
        "action",
        nargs="?",
        choices=("csr", "import", "recert", "crl", "export"),
        help="csr: ask an authority; import: take its answer; recert: make a new one with today's names;"
        " crl: take an authority's revocation list; export: write the certificate; nothing shows all",
    )
    certs.add_argument("file", nargs="?", type=Path, metavar="FILE", help="what is brought (import, crl)")
    certs.add_argument("--key", type=Path, default=None, metavar="FILE", help="its private key (import)")
    certs.add_argument(
        "--chain",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="authorities above it, sent along to clients (import)",
    )
    certs.add_argument("--out", type=Path, default=None, metavar="FILE", help="write there (csr, export)")
    certs.add_argument("--new-key", action="store_true", help="make a new key for the request (csr)")
    certs.add_argument(
        "--subject", default="", metavar="CN=…,O=…", help="who the server is; as before if not given (csr)"
    )
    _add_recert_options(certs)
    certs.add_argument(
        "--json", action="store_true", help="one JSON object instead of text (all but csr and export)"
    )
    recert = commands.add_parser("recert", help="the same as certs recert")
    _add_recert_options(recert)


def _add_recert_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name or address under which clients reach this box (csr, recert)",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask (recert)")
    parser.add_argument(
        "-c", "--config", type=Path, default=None, metavar="FILE", help="whose advertised_urls count"
    )
    _add_common(parser)


def _add_check(commands: Any) -> None:
    check = commands.add_parser(
        "check", help="print what will be polled, written and exposed, and every error"
    )
    _add_config(check)
    check.add_argument(
        "--security", action="store_true", help="print who can do what from where, and what to mend"
    )
    check.add_argument("--live", action="store_true", help="read every tag once, and write nothing")
    check.add_argument(
        "--show", default="", metavar="NAME", help="print a device or machine as templates make it"
    )
    check.add_argument("--json", action="store_true", help="one JSON object instead of text")
    _add_common(check)


def _add_run(commands: Any) -> None:
    run = commands.add_parser("run", help="run the server until it is told to stop")
    _add_config(run)
    _add_common(run)
    run.add_argument("--end-with-parent", action="store_true", help="end when the starting process does")


def _add_reload(commands: Any) -> None:
    reload = commands.add_parser(
        "reload", help="let the running server take over its changed configuration, all of it or nothing"
    )
    _add_common(reload)
    reload.add_argument("--dry-run", action="store_true", help="only say what would happen")
    reload.add_argument("--json", action="store_true", help="one JSON object instead of text")


def _add_probe(commands: Any) -> None:
    probe = commands.add_parser(
        "probe",
        help="find out what a device is and how its values are to be read; never writes",
        allow_abbrev=False,
    )
    probe.add_argument(
        "target",
        metavar="URL|HOST|RANGE",
        help="modbus://192.168.0.20/1; a host alone: the ports 502, 102, 44818 and 4840 are tried;"
        " 192.168.0.0/24 or 192.168.0.10-20: needs --scan",
    )
    probe.add_argument(
        "--read",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="read this too, e.g. hr:100x2 for two registers in every byte order; can be given again",
    )
    probe.add_argument(
        "--units", type=_units, default=None, metavar="A-B", help="look for these units behind a gateway"
    )
    probe.add_argument(
        "--timeout", type=_seconds, default=1.0, metavar="S", help="deadline of one step (default 1)"
    )
    probe.add_argument("--scan", action="store_true", help="a range is meant; at most 10 packets a second")
    probe.add_argument("--yes", action="store_true", help="do not ask before a scan")
    _add_common(probe)
    probe.add_argument("--json", action="store_true", help="one JSON object instead of text")


def _add_init(commands: Any) -> None:
    init = commands.add_parser("init", help="write a commented configuration from what devices say")
    init.add_argument("file", type=Path, metavar="FILE", help="the configuration; its tag tables: tags/*.csv")
    init.add_argument(
        "--device",
        action="append",
        required=True,
        metavar="[NAME=]URL",
        help="a device, e.g. vib=modbus://192.168.0.20/1; can be given again",
    )
    init.add_argument("--name", default="", metavar="NAME", help="name of the machine; else that of FILE")
    init.add_argument(
        "--timeout", type=_seconds, default=1.0, metavar="S", help="deadline of one step (default 1)"
    )
    _add_common(init)
    init.add_argument("--force", action="store_true", help="overwrite files that are there")


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.01 <= number <= 600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.01 to 600")
    return number


def _units(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    numbers = [int(part) if part.isascii() and part.isdigit() else -1 for part in (first, last or first)]
    if not 0 <= numbers[0] <= numbers[1] <= 255:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range of units; write e.g. 1-32")
    return numbers[0], numbers[1]


def _add_identity(commands: Any) -> None:
    identity = commands.add_parser("identity", help="names promised to clients: show them, agree to new ones")
    identity.add_argument("action", choices=("show", "accept"), help="accept: take the new names of FILE")
    _add_config(identity)
    _add_common(identity)
    identity.add_argument("--json", action="store_true", help="one JSON object instead of text (show)")


def _add_explain(commands: Any) -> None:
    explain = commands.add_parser("explain", help="explain an error code")
    explain.add_argument("code", metavar="CODE")


def _add_doctor(commands: Any) -> None:
    doctor = commands.add_parser("doctor", help="say what runs on this machine, and why not")
    _add_common(doctor)
    doctor.add_argument("--json", action="store_true", help="one JSON object instead of text")
    doctor.add_argument("--nagios", action="store_true", help="one line and the exit code of a Nagios plugin")
    doctor.add_argument("--port", type=int, default=4840, help="OPC UA port to test (default 4840)")


def _add_console(commands: Any) -> None:
    status = commands.add_parser("status", help="what the running server does")
    _add_common(status)
    status.add_argument("--json", action="store_true", help="one JSON object instead of text")

    watch = commands.add_parser(
        "watch", help="live values of the running server; without one, of the devices of FILE"
    )
    _add_config(watch)
    _add_common(watch)
    watch.add_argument("--bad", action="store_true", help="only what is not Good")
    watch.add_argument("--json", action="store_true", help="JSON Lines instead of a table")
    watch.add_argument(
        "--for", type=float, default=None, dest="for_s", metavar="S", help="end after S seconds"
    )


def _add_lanes(commands: Any) -> None:
    lanes = commands.add_parser(
        "lanes", help="which pipelines judge in time, and how much room is left", allow_abbrev=False
    )
    _add_common(lanes)
    lanes.add_argument("--json", action="store_true", help="one JSON object instead of text")


def _add_outputs(commands: Any) -> None:
    outputs = commands.add_parser(
        "outputs", help="what is written back to PLCs, and what an operator may do to it", allow_abbrev=False
    )
    _add_common(outputs)
    outputs.add_argument(
        "action",
        nargs="?",
        choices=("acknowledge", "grant", "revoke", "manual", "automatic"),
        help="acknowledge: it may act again after it fell safe; grant, revoke: it may act, or no longer;"
        " manual, automatic: take it from the model, or give it back; nothing lists all",
    )
    outputs.add_argument("name", nargs="?", metavar="NAME", help="the output")
    outputs.add_argument("--why", default="", metavar="TEXT", help="for the journal")
    outputs.add_argument(
        "--set",
        action="append",
        default=[],
        type=_tag_value,
        metavar="DEVICE/TAG=VALUE",
        help="write this meanwhile, a number, true or false; can be given again (manual)",
    )
    outputs.add_argument("--json", action="store_true", help="one JSON object instead of text")


def _add_ladder(commands: Any) -> None:
    ladder = commands.add_parser(
        "ladder", help="function blocks for the PLC of an output, and its map", allow_abbrev=False
    )
    ladder.add_argument(
        "action",
        choices=("export", "show"),
        help="export: the function block as source, its tags, a timing diagram and how to wire it; show: each"
        " word and bit with its address in the device",
    )
    _add_config(ladder)
    ladder.add_argument(
        "--output", default="", metavar="NAME", help="which output; not needed if only one shares a block"
    )
    ladder.add_argument(
        "--target",
        choices=("siemens", "rockwell", "codesys", "all"),
        default="all",
        help="for which PLC; all: each in a folder of its own (export)",
    )
    ladder.add_argument("--out", type=Path, default=None, metavar="DIR", help="folder for the files (export)")
    ladder.add_argument(
        "--force", action="store_true", help="write over files that were changed since (export)"
    )


def _tag_value(text: str) -> tuple[str, float]:
    tag, equals, value = text.partition("=")
    if not (equals and "/" in tag):
        raise argparse.ArgumentTypeError(f"{text!r} is not DEVICE/TAG=VALUE")
    if value.lower() in ("true", "false"):
        return tag, value.lower() == "true"
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{value!r} is no number, nor true or false")
    return tag, number


def _add_trust(commands: Any) -> None:
    trust = commands.add_parser("trust", help="list the clients that knocked, and trust one of them")
    _add_common(trust)
    trust.add_argument("selector", nargs="?", metavar="N|THUMBPRINT", help="whom to trust")
    trust.add_argument(
        "--role",
        action="append",
        metavar="ROLE,…",
        help="what it may do: observer (default), operator, supervisor, engineer, configureadmin,"
        " securityadmin; also for one that is trusted already",
    )
    trust.add_argument("--list", action="store_true", help="list who is trusted, and in which roles")
    trust.add_argument("--remove", action="store_true", help="no longer trust it")
    trust.add_argument(
        "--devices", action="store_true", help="the OPC UA servers that are read, instead of the clients"
    )
    trust.add_argument("--json", action="store_true", help="one JSON object instead of text")


def _add_trials(commands: Any) -> None:
    bench = commands.add_parser("bench", help="measure, against a peer or a floor")
    bench.add_argument("name", nargs="?", metavar="NAME", help="which benchmark; none lists them")
    bench.add_argument(
        "--json", type=Path, default=None, metavar="FILE", help="also write one line per figure"
    )

    demo = commands.add_parser("demo", help="a press cell, a server and a client, in one minute")
    demo.add_argument("--keep", action="store_true", help="run on, and say how to connect")
    demo.add_argument("--state", type=Path, default=None, metavar="DIR", help="keep the state there")
    demo.add_argument("--plain", action="store_true", help="plain lines even on a terminal")

    sim = commands.add_parser("sim", help="the simulated press cell alone, on real protocols")
    sim.add_argument("arguments", nargs=argparse.REMAINDER, help="see edge-opcua sim --help")


# In the order of --help: run it, commission it, look at it, let people in, measure it.
FAMILIES: Final[tuple[Callable[[Any], None], ...]] = (
    _add_run,
    _add_reload,
    _add_check,
    _add_probe,
    _add_init,
    _add_identity,
    _add_exports,
    _add_explain,
    _add_doctor,
    _add_console,
    _add_lanes,
    add_model,
    _add_outputs,
    _add_ladder,
    _add_trust,
    _add_users,
    _add_records,
    _add_metrics,
    _add_certs,
    _add_trials,
)
