"""Looks whether the backend of each pipeline is there, and holds the pipeline's options against its own."""

from __future__ import annotations

from typing import Any

from edge_opcua.config.draft import Draft
from edge_opcua.config.locate import Path
from edge_opcua.config.problem import Problem, alternatives, nearest, quoted
from edge_opcua.config.schema import PipelineConfig
from edge_opcua.config.validate import Source, check
from edge_opcua.plugins import BACKENDS, PluginBrokenError, Plugins


def check_backends(draft: Draft, plugins: Plugins, source: Source) -> None:
    """Report backends that are not there and options they do not have; the others keep what was given.

    Args:
        draft: The configuration.
        plugins: Where backends are looked up.
        source: The file, for places and for texts from the environment.
    """
    known = plugins.names(BACKENDS)
    for index, pipeline in tuple(draft.pipelines.items()):
        path: Path = ("pipelines", index)
        if pipeline.backend not in known:
            not_a_plugin(draft, (*path, "backend"), pipeline.backend, known)
            continue
        try:
            plugin = plugins.load(BACKENDS, pipeline.backend)
        except PluginBrokenError as exc:
            message = f"the backend {quoted(pipeline.backend)} cannot be imported: {exc.reason}"
            help_text = "install it again; edge-opcua doctor says more"
            draft.report((*path, "backend"), Problem("C113", message, help=help_text))
            continue
        options = _options(draft, path, pipeline, plugin, source)
        if options is not None:
            draft.pipelines[index] = pipeline.model_copy(update={"options": options})


def _options(
    draft: Draft, path: Path, pipeline: PipelineConfig, plugin: Any, source: Source
) -> dict[str, Any] | None:
    """Return the options that were given, in the backend's words; None if they are not right."""
    checked = check(plugin.Options, pipeline.options, source, (*path, "options"))
    draft.problems += [draft.document.at(problem) for problem in checked.problems]
    if checked.value is None:
        return None
    found: dict[str, Any] = checked.value.model_dump(mode="json", exclude_unset=True)
    return found


def not_a_plugin(draft: Draft, path: Path, name: str, known: tuple[str, ...]) -> None:
    """Report that no driver or backend has this name."""
    message = f"{quoted(name)} is not one of {alternatives(known)}"
    draft.report(path, Problem("C104", message, suggestion=nearest(name, known)))
