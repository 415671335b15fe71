"""Reads a configuration with its tag tables, finds all that is wrong in one run, and resolves the rest."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Final

from edge_opcua.config.areas import read_areas, with_areas
from edge_opcua.config.backendcheck import check_backends, not_a_plugin
from edge_opcua.config.compose import Composition, compose
from edge_opcua.config.crosscheck import check_security, cross_check, split_url
from edge_opcua.config.draft import DeviceDraft, Draft, tables_of, text_of
from edge_opcua.config.environment import substitute
from edge_opcua.config.locate import Path
from edge_opcua.config.outputs import OutputConfig
from edge_opcua.config.problem import Problem, Severity, nearest, quoted
from edge_opcua.config.schema import (
    CaptureConfig,
    DeviceConfig,
    EdgeConfig,
    GroupConfig,
    ModelsConfig,
    PipelineConfig,
)
from edge_opcua.config.syntax import read_document
from edge_opcua.config.tagmachines import RepeatedTables
from edge_opcua.config.tags import DEFAULT_GROUP, TagRows
from edge_opcua.config.tagtable import TagTables
from edge_opcua.config.templates import Machine
from edge_opcua.config.validate import Checked, Source, check, type_word
from edge_opcua.config.writecheck import check_limits
from edge_opcua.core.collector import paused
from edge_opcua.core.ports import Address, DriverPlugin
from edge_opcua.core.values import Scalar
from edge_opcua.errors import AddressError, ConfigError
from edge_opcua.plugins import (
    DRIVERS,
    InstalledPlugins,
    PluginBrokenError,
    PluginNotFoundError,
    Plugins,
)

DEFAULT_PERIOD_MS: Final = 1000
_WHOLE: Final = frozenset(Scalar(number) for number in range(Scalar.SBYTE, Scalar.UINT64 + 1))
_CAPTURE_TYPES: Final[dict[str, tuple[frozenset[Scalar], str]]] = {
    "sequence": (_WHOLE, "a whole number"),
    "ready": (frozenset({Scalar.BOOLEAN}), "BOOL"),
    "ready_ns": (frozenset({Scalar.INT64, Scalar.UINT64}), "LINT or ULINT"),
    "stroke": (_WHOLE, "a whole number"),
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of reading a configuration.

    Args:
        path: The file.
        config: The configuration, or None if anything in it is wrong.
        problems: Errors, warnings and notices, in the order of the files.
        document: The TOML files, for places of what is found later.
    """

    path: FilePath
    config: EdgeConfig | None
    problems: tuple[Problem, ...]
    document: Composition

    @property
    def ok(self) -> bool:
        """Whether the server may start with it."""
        return self.config is not None

    def count(self, severity: Severity) -> int:
        """Return how many problems of one severity there are."""
        return sum(problem.severity is severity for problem in self.problems)


def load(path: FilePath, *, env: Mapping[str, str] = os.environ, plugins: Plugins | None = None) -> Loaded:
    """Read a configuration; everything wrong with it is reported at once.

    Args:
        path: The TOML file; its name stands in messages as it is given here.
        env: The environment, for ``${…}``.
        plugins: Where drivers and backends are looked up; the installed ones if None.

    Returns:
        The configuration if it is right, and all problems. Nothing is raised for what a file holds.
    """
    document = compose(read_document(path, str(path)), env)
    if document.raw is None:
        return Loaded(path, None, tuple(document.problems), document)
    loader = _Loader(path, document, env, plugins or InstalledPlugins())
    with paused():  # a large tag table is many objects, none of which is garbage before the last is read
        config = loader.run(document.raw)
    problems = loader.sorted_problems()
    is_sound = not any(problem.is_error for problem in problems)
    return Loaded(path, config if is_sound else None, problems, document)


class _Loader:
    def __init__(
        self, path: FilePath, document: Composition, env: Mapping[str, str], plugins: Plugins
    ) -> None:
        self._path = path
        self._document = document
        self._env = env
        self._plugins = plugins
        self._files: list[str] = [document.file, *document.parts]
        self._problems: list[Problem] = list(document.problems)
        self._draft = Draft(document, {})
        self._drivers: dict[str, type[DriverPlugin]] = {}
        self._shared: dict[Hashable, RepeatedTables] = {}

    def run(self, parsed: dict[str, Any]) -> EdgeConfig | None:
        """Return the configuration, which is to be thrown away if there are errors."""

        def report(path: Path, problem: Problem) -> None:
            self._draft.report(path, problem)
            self._draft.unset.add(path)

        self._draft.raw = parsed
        raw, from_environment = substitute(parsed, self._env, report)
        filled = from_environment | self._document.filled
        self._draft.raw = raw
        tag_files = [device.pop("tags", None) for device in tables_of(raw, "devices")]
        unset = frozenset(self._draft.unset)
        source = Source(raw, self._document.places, filled, unset, damaged=self._document.damaged)
        checked = check(EdgeConfig, raw, source)
        self._take(checked)
        self._draft.config = checked.value
        for index, table in enumerate(tables_of(raw, "devices")):
            self._draft.devices.append(self._device(index, table, tag_files[index], checked, source))
        self._typed(checked, source)
        read_areas(self._draft)
        check_backends(self._draft, self._plugins, source)
        models = self._models()
        if not self._document.damaged:
            cross_check(self._draft)
        check_security(self._draft)
        resolved = self._resolved(self._draft.config, models)
        if resolved is not None and not any(problem.is_error for problem in self.sorted_problems()):
            check_limits(self._draft, resolved)  # times only mean something once all of them are right
        return resolved

    def sorted_problems(self) -> tuple[Problem, ...]:
        """Return all problems, each once, in the order of the files."""
        found = [*self._problems, *self._draft.problems]
        for device in self._draft.devices:
            found += device.tables.problems
        order = {file: number for number, file in enumerate(self._files)}
        found.sort(
            key=lambda problem: (order.get(problem.file, -1), problem.place.line, problem.place.column)
        )
        return tuple(dict.fromkeys(found))

    def _take(self, checked: Checked) -> None:
        self._problems += [self._document.at(problem) for problem in checked.problems]

    def _device(
        self, index: int, table: dict[str, Any], tag_files: Any, checked: Checked, source: Source
    ) -> DeviceDraft:
        path: Path = ("devices", index)
        plugin = self._driver((*path, "driver"), text_of(table, "driver"))
        groups = [name for group in tables_of(table, "groups") if (name := text_of(group, "name"))]
        parse = plugin.parse_address if plugin else None
        device = DeviceDraft(
            index, text_of(table, "name"), TagTables(parse, groups or [DEFAULT_GROUP]), plugin
        )
        if checked.is_sound(path):
            found = check(DeviceConfig, table, source, path)
            device.config = found.value
        self._options(device, table, source)
        self._url((*path, "url"), text_of(table, "url"), plugin)
        self._tag_tables(device, tag_files)
        self._captures(device, table, checked, source)
        return device

    def _driver(self, path: Path, name: str) -> type[DriverPlugin] | None:
        if not name:
            return None
        try:
            if name not in self._drivers:  # a look-up reads what is installed: once is enough
                self._drivers[name] = self._plugins.load(DRIVERS, name)
        except PluginNotFoundError as exc:
            not_a_plugin(self._draft, path, name, exc.known)
        except PluginBrokenError as exc:
            message = f"the driver {quoted(name)} cannot be imported: {exc.reason}"
            self._draft.report(
                path, Problem("C113", message, help="install it again; edge-opcua doctor says more")
            )
        else:
            return self._drivers[name]
        return None

    def _options(self, device: DeviceDraft, table: dict[str, Any], source: Source) -> None:
        options = table.get("options", {})
        if device.plugin is None or not isinstance(options, dict):
            return
        checked = check(device.plugin.Config, options, source, (*device.path, "options"))
        self._take(checked)
        if checked.value is not None:
            device.options = checked.value.model_dump(mode="json")

    def _url(self, path: Path, url: str, plugin: type[DriverPlugin] | None) -> None:
        if not url:
            return
        parts = split_url(url)
        if parts is None:
            message = f"{quoted(url)} is not a URL"
            self._draft.report(path, Problem("C114", message, help="write e.g. modbus://192.168.0.20:502/1"))
            return
        if parts.password is not None:
            message = "a URL must not hold a password; it would stand in logs"
            self._draft.report(path, Problem("C114", message))
            return
        if plugin is None:
            return
        try:
            plugin.check_url(url)
        except ConfigError as exc:
            self._draft.report(path, Problem("C114", str(exc)))

    def _tag_tables(self, device: DeviceDraft, tag_files: Any) -> None:
        path: Path = (*device.path, "tags")
        if tag_files is None:
            return
        names = [tag_files] if isinstance(tag_files, str) else tag_files
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            message = f"this is {type_word(tag_files)}; the name of a CSV file is needed, or a list of them"
            self._draft.report(path, Problem("C105", message))
            device.is_complete = False
            return
        machine = self._document.machines.get(device.path)
        folder = os.path.dirname(self._document.file_of(path))  # noqa: PTH120 - keeps "./" as typed
        key = (folder, tuple(names), device.plugin, tuple(device.tables.groups))
        if machine and self._repeat(device, machine, key):
            return
        device.tables.machine = machine
        for index, name in enumerate(names):
            self._tag_table(device, path if isinstance(tag_files, str) else (*path, index), name, folder)
        if machine and device.is_complete and key not in self._shared:
            self._shared[key] = RepeatedTables(device.tables)

    def _repeat(self, device: DeviceDraft, machine: Machine, key: Hashable) -> bool:
        """Take over the tables of another machine of the template; return whether that is possible."""
        shared = self._shared.get(key)
        tables = shared.tables_for(machine) if shared else None
        if tables is not None:
            device.tables = tables
        return tables is not None

    def _tag_table(self, device: DeviceDraft, path: Path, name: str, beside: str) -> None:
        file = str(FilePath(beside, name))
        if file not in self._files:
            self._files.append(file)
        before = len(device.tables.problems)
        could_open = device.tables.read(FilePath(file), file)
        found = device.tables.problems[before:]
        device.is_complete &= not any(problem.code in {"T201", "T202", "T220"} for problem in found)
        if not could_open:
            del device.tables.problems[before:]
            missing = found[-1]
            device.is_complete = False
            folder = FilePath(file)
            near = nearest(folder.name, _csv_names(folder.parent)) if folder.name else ""
            suggestion = str(FilePath(name).with_name(near)) if near else ""
            self._draft.report(
                path,
                Problem(
                    "T201", f"{quoted(name)}: {missing.message}", help=missing.help, suggestion=suggestion
                ),
            )

    def _captures(self, device: DeviceDraft, table: dict[str, Any], checked: Checked, source: Source) -> None:
        for index, capture_table in enumerate(tables_of(table, "captures")):
            path: Path = (*device.path, "captures", index)
            name = text_of(capture_table, "name")
            capture: CaptureConfig | None = None
            if checked.is_sound(path):
                capture = check(CaptureConfig, capture_table, source, path).value
            if device.plugin is not None:
                capture = self._capture(device.plugin, path, capture_table, capture)
            if name:
                device.captures[name] = capture

    def _capture(
        self, plugin: type[DriverPlugin], path: Path, table: dict[str, Any], capture: CaptureConfig | None
    ) -> CaptureConfig | None:
        """Read the addresses of a capture; return it with its length, or None if one of them is wrong."""
        is_sound = True
        for key, (types, word) in _CAPTURE_TYPES.items():
            text = text_of(table, key)
            address = self._address(plugin, (*path, key), text) if text else None
            is_sound &= address is not None or not text
            if address is not None and (address.scalar not in types or address.length):
                message = f"{quoted(text)} is {_type_text(address)}; {word} is needed"
                self._draft.report((*path, key), Problem("C117", message))
                is_sound = False
        text = text_of(table, "samples")
        samples = self._address(plugin, (*path, "samples"), text) if text else None
        if samples is None:
            return None
        if not samples.length or not samples.scalar.is_number:
            message = f"{quoted(text)} is {_type_text(samples)}; an array of numbers is needed"
            self._draft.report((*path, "samples"), Problem("C117", message, help="write e.g. INT[2000]"))
            return None
        if capture is None or not is_sound:
            return None
        return capture.model_copy(update={"sample_count": samples.length})

    def _address(self, plugin: type[DriverPlugin], path: Path, text: str) -> Address | None:
        try:
            return plugin.parse_address(text)
        except AddressError as exc:
            message = str(exc) if text in str(exc) else f"{quoted(text)}: {exc}"
            self._draft.report(path, Problem(exc.code, message, help=exc.hint))
            return None

    def _typed(self, checked: Checked, source: Source) -> None:
        """Take the pipelines and outputs that are right for themselves, whatever else is wrong."""
        for index, table in enumerate(tables_of(self._draft.raw, "pipelines")):
            if checked.is_sound(("pipelines", index)):
                pipeline: PipelineConfig | None = check(
                    PipelineConfig, table, source, ("pipelines", index)
                ).value
                if pipeline is not None:
                    self._draft.pipelines[index] = pipeline
        for index, table in enumerate(tables_of(self._draft.raw, "outputs")):
            if checked.is_sound(("outputs", index)):
                output: OutputConfig | None = check(OutputConfig, table, source, ("outputs", index)).value
                if output is not None:
                    self._draft.outputs[index] = output

    def _resolved(self, config: EdgeConfig | None, models: ModelsConfig) -> EdgeConfig | None:
        if config is None:
            return None
        rows = {id(device.tables): TagRows.of(device.tables.tags) for device in self._unlike_devices()}
        devices = []
        for settings, device in zip(config.devices, self._draft.devices, strict=True):
            resolved = settings.model_copy(
                update={
                    "tags": rows[id(device.tables)],
                    "template": self._template_of(device),
                    "groups": settings.groups
                    or (GroupConfig(name=DEFAULT_GROUP, period_ms=DEFAULT_PERIOD_MS),),
                    "captures": tuple(capture for capture in device.captures.values() if capture),
                    "options": device.options,
                }
            )
            devices.append(with_areas(resolved, device, config.outputs))
        pipelines = tuple(
            self._draft.pipelines.get(index, each) for index, each in enumerate(config.pipelines)
        )
        update = {
            "devices": tuple(devices),
            "pipelines": pipelines,
            "models": models,
            "file": self._path.absolute(),
        }
        return config.model_copy(update=update)

    def _unlike_devices(self) -> list[DeviceDraft]:
        """Return the devices, only the first of those that share their tags."""
        return list({id(device.tables): device for device in reversed(self._draft.devices)}.values())

    def _template_of(self, device: DeviceDraft) -> str:
        machine = self._document.machines.get(device.path)
        return machine.template if machine else ""

    def _models(self) -> ModelsConfig:
        """Find the folder of the delivered models and what lies in it."""
        beside = self._path.absolute().parent
        table = self._draft.raw.get("models")
        named = text_of(table, "folder") if isinstance(table, dict) else ""
        folder = beside / (named or "models")
        if not _is_folder(folder):
            if named:
                message = f"{quoted(named)}: there is no such folder"
                self._draft.report(("models", "folder"), Problem("C107", message))
            return ModelsConfig()
        self._draft.delivered = _models_in(folder)
        return ModelsConfig(folder=folder)


def _is_folder(path: FilePath) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _models_in(folder: FilePath) -> dict[str, list[int]]:
    """Return the version numbers of each model in a folder ``<name>/<version>/model.onnx``."""
    found: dict[str, list[int]] = {}
    for file in sorted(folder.glob("*/*/model.onnx")):
        version, name = file.parent.name, file.parent.parent.name
        if version.isascii() and version.isdigit():
            found.setdefault(name, []).append(int(version))
    return found


def _csv_names(folder: FilePath) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() == ".csv")
    except (OSError, ValueError):
        return []


def _type_text(address: Address) -> str:
    name = address.scalar.name
    return f"an array of {name}" if address.length and address.scalar is not Scalar.STRING else name
