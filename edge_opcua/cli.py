"""The command line: arguments in, one function call out; nothing is decided here."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from edge_opcua import __version__
from edge_opcua.app.command.arguments import FAMILIES
from edge_opcua.compress.arguments import add_compress
from edge_opcua.core.statedir import default_state_dir, owner_help

CONFIG_PLACES = (Path("edge-opcua.toml"), Path("/etc/edge-opcua/edge-opcua.toml"))


def find_config(named: Path | None) -> Path:
    """Return the configuration to use: the one named, the environment's, or the first that exists."""
    if named is not None:
        return named
    from_environment = os.environ.get("EDGE_OPCUA_CONFIG")
    if from_environment:
        return Path(from_environment)
    return next((place for place in CONFIG_PLACES if place.exists()), CONFIG_PLACES[0])


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of every command; the reference page is made from it."""
    parser = argparse.ArgumentParser(
        prog="edge-opcua",
        description="PLC data in, model verdicts out, over OPC UA.",
        epilog="Exit codes: 0 done, 1 it ran and the answer is no, 2 wrong use or configuration, "
        "3 refused, 4 the server is not running, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"edge-opcua {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    for add in (*FAMILIES, add_compress):
        add(commands)
    return parser


def _parsed(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse, and take a FILE that stands behind the options: before Python 3.12 argparse calls it unknown."""
    args, rest = parser.parse_known_args(arguments)
    if len(rest) == 1 and not rest[0].startswith("-") and getattr(args, "file", ...) is None:
        args.file = Path(rest[0])
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (experience of the field: 0, 1, 2, 3, 4, 130)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["sim"]:
        return _call("edge_opcua.sim.cell", "main", arguments[1:])
    parser = build_parser()
    args = _parsed(parser, arguments)
    fault = _contradiction(args)
    if fault:
        parser.error(fault)
    state = getattr(args, "state", None) or default_state_dir()
    try:
        return _COMMANDS[args.command](args, state)
    except PermissionError as exc:
        sys.stderr.write(f"{exc.filename}: {exc.strerror}\n{owner_help(state)}\n")
        return 3
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _contradiction(args: argparse.Namespace) -> str:
    """Return what is wrong with options that argparse takes one by one; "" for nothing."""
    if args.command == "trust" and args.remove and args.selector is None:
        return "trust --remove needs a thumbprint; edge-opcua trust --list shows them"
    if args.command == "trust" and args.list and (args.selector or args.remove or args.role):
        return "trust --list shows who is trusted and changes nothing: it takes neither N nor --role"
    if args.command == "trust" and args.devices and args.role:
        return "trust --devices is about servers that are read: they have no role here"
    if args.command == "outputs":
        return _outputs_contradiction(args)
    if args.command == "check" and args.live and args.security:
        return "check --live and check --security are two things; ask for one"
    if args.command == "check" and args.show and (args.json or args.live or args.security):
        return "check --show prints TOML and nothing else: it takes neither --json nor --live nor --security"
    return ""


def _outputs_contradiction(args: argparse.Namespace) -> str:
    if args.action and not args.name:
        return f"outputs {args.action} needs the NAME of an output; edge-opcua outputs lists them"
    if args.why and not args.action:
        return "outputs --why says why something is done: name what"
    if args.set and args.action != "manual":
        return "outputs --set goes with manual: otherwise the model writes"
    return ""


def _config(args: argparse.Namespace) -> Path:
    return find_config(args.file or args.config)


def _call(module: str, function: str, *arguments: object, **named: object) -> int:
    """Import a command's module only when it is wanted, so that ``--help`` stays quick."""
    code: int = getattr(import_module(module), function)(*arguments, **named)
    return code


def _check(args: argparse.Namespace, state: Path) -> int:
    config = _config(args)
    if args.security:
        return _call("edge_opcua.app.command.security", "command", config, state, as_json=args.json)
    if args.show:
        return _call("edge_opcua.app.command.show", "show", config, args.show)
    if args.live:
        return _call("edge_opcua.app.command.live", "check_live", config, state, as_json=args.json)
    return _call("edge_opcua.app.command.run", "check", config, as_json=args.json, state_dir=state)


def _probe(args: argparse.Namespace, state: Path) -> int:
    module = import_module("edge_opcua.app.command.probe")
    options = module.ProbeOptions(args.read, args.units, args.timeout, args.json, args.scan, args.yes, state)
    code: int = module.probe(args.target, options)
    return code


def _records(args: argparse.Namespace, state: Path) -> int:
    return _call(
        "edge_opcua.app.command.records", "records", state, args.kind, last=args.last, as_json=args.json
    )


def _tags(args: argparse.Namespace) -> int:
    if args.action == "import":
        module = import_module("edge_opcua.app.command.tags")
        options = module.ImportOptions(
            args.format, args.policy, args.out, args.db, dry_run=args.dry_run, as_json=args.json
        )
        code: int = module.import_tags(args.file, find_config(args.config), args.device, options)
        return code
    form = "csv" if args.format == "auto" else args.format
    if args.as_what == "device":
        return _call(
            "edge_opcua.app.command.tags",
            "export_device_tags",
            _config(args),
            product=form,
            device=args.device,
            out=args.out,
        )
    return _call(
        "edge_opcua.app.command.export",
        "export_tags",
        _config(args),
        form=form,
        out=args.out,
        device=args.device,
        server_name=args.server_name,
        path_style=args.path,
    )


def _trust(args: argparse.Namespace, state: Path) -> int:
    more = {"show_trusted": args.list, "remove": args.remove, "as_json": args.json}
    if args.devices:
        module = "edge_opcua.app.command.devicetrust"
        return _call(module, "trust_devices", state, args.selector, **more)
    return _call(
        "edge_opcua.app.command.certificates", "trust", state, args.selector, roles=args.role, **more
    )


def _outputs(args: argparse.Namespace, state: Path) -> int:
    module = "edge_opcua.app.command.outputs"
    if args.action is None:
        return _call(module, "outputs", state, as_json=args.json)
    values = dict(args.set)
    return _call(module, "act", state, args.action, args.name, why=args.why, values=values, as_json=args.json)


def _ladder(args: argparse.Namespace, _: Path) -> int:
    module = "edge_opcua.app.command.ladder"
    if args.action == "show":
        return _call(module, "show_map", _config(args), name=args.output)
    return _call(
        module,
        "export_blocks",
        _config(args),
        name=args.output,
        target=args.target,
        out=args.out,
        force=args.force,
    )


def _users(args: argparse.Namespace, state: Path) -> int:
    module = import_module("edge_opcua.app.command.users")
    options = module.UserOptions(args.name, args.role, args.password_file, args.certificate, args.json)
    code: int = module.users(state, args.action, options)
    return code


def _certs(args: argparse.Namespace, state: Path) -> int:
    module = import_module("edge_opcua.app.command.certificates")
    options = module.CertOptions(
        file=args.file,
        key=args.key,
        chain=args.chain,
        out=args.out,
        names=args.name,
        subject=args.subject,
        new_key=args.new_key,
        config=find_config(args.config),
        yes=args.yes,
        as_json=args.json,
    )
    code: int = module.certs(state, args.action, options)
    return code


def _recert(args: argparse.Namespace, state: Path) -> int:
    module = import_module("edge_opcua.app.command.certificates")
    options = module.CertOptions(names=args.name, config=find_config(args.config), yes=args.yes)
    code: int = module.certs(state, "recert", options)
    return code


_COMMANDS: dict[str, Callable[[argparse.Namespace, Path], int]] = {
    "run": lambda args, state: _call(
        "edge_opcua.app.command.run", "run", _config(args), state, end_with_parent=args.end_with_parent
    ),
    "check": _check,
    "probe": _probe,
    "init": lambda args, state: _call(
        "edge_opcua.app.command.init",
        "init",
        args.file,
        args.device,
        machine=args.name,
        timeout_s=args.timeout,
        force=args.force,
        state_dir=state,
    ),
    "identity": lambda args, state: (
        _call("edge_opcua.app.command.identity", "accept", _config(args), state)
        if args.action == "accept"
        else _call("edge_opcua.app.command.identity", "show", state, as_json=args.json)
    ),
    "tags": lambda args, _: _tags(args),
    "nodesets": lambda args, _: _call(
        "edge_opcua.app.command.export", "export_nodesets", _config(args), out=args.out
    ),
    "explain": lambda args, _: _call("edge_opcua.app.command.run", "explain", args.code),
    "reload": lambda args, state: _call(
        "edge_opcua.app.command.reload", "reload", state, dry_run=args.dry_run, as_json=args.json
    ),
    "status": lambda args, state: _call("edge_opcua.app.command.console", "status", state, as_json=args.json),
    "watch": lambda args, state: _call(
        "edge_opcua.app.command.console",
        "watch",
        state,
        args.file or args.config,
        bad=args.bad,
        as_json=args.json,
        for_s=args.for_s,
    ),
    "lanes": lambda args, state: _call("edge_opcua.app.command.lanes", "lanes", state, as_json=args.json),
    "model": lambda args, state: _call(args.module, "run", args, state),
    "compress": lambda args, state: _call("edge_opcua.compress.command", "run", args, state),
    "outputs": _outputs,
    "ladder": _ladder,
    "trust": _trust,
    "users": _users,
    "records": _records,
    "metrics": lambda args, _: _call(
        "edge_opcua.app.command.metrics", "metrics", args.provision, args.target
    ),
    "certs": _certs,
    "recert": _recert,
    "doctor": lambda args, state: _call(
        "edge_opcua.doctor", "main", state_dir=state, port=args.port, as_json=args.json, nagios=args.nagios
    ),
    "bench": lambda args, _: _call("edge_opcua.bench", "main", args.name, args.json),
    "demo": lambda args, _: _call(
        "edge_opcua.demo", "main", keep=args.keep, state_dir=args.state, plain=args.plain
    ),
}


if __name__ == "__main__":
    sys.exit(main())
