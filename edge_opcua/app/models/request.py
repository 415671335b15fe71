"""What somebody asks for when a model is to be changed: checked before anything is done; pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from edge_opcua.app.models.active import ActiveModels
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.values import BAD_INVALID_ARGUMENT, BAD_INVALID_STATE
from edge_opcua.errors import EdgeError
from edge_opcua.inference.choice import ModelChoice
from edge_opcua.inference.lifecycle import Job, JobKind

MOST_NOTE: Final = 500
MOST_SHADOW: Final = 1_000_000
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}|")


class RequestError(EdgeError):
    """A request that cannot become a job.

    Args:
        message: What is wrong with it.
        status: StatusCode of the answer.
    """

    def __init__(self, message: str, *, status: int = BAD_INVALID_ARGUMENT) -> None:
        super().__init__(message)
        self.status = status


def parse(
    body: Mapping[str, Any],
    kind: JobKind,
    config: EdgeConfig,
    active: ActiveModels,
    running: Callable[[str], ModelChoice],
) -> Job:
    """Return what is asked for as a job without a number.

    Args:
        body: The request.
        kind: What for.
        config: Which pipeline runs which model.
        active: What each pipeline may go back to.
        running: Returns what a pipeline runs.

    Raises:
        RequestError: It cannot be done.
    """
    note, user = _text(body, "note"), _text(body, "user")
    if kind is JobKind.ROLLBACK:
        pipelines = _ways_back(body, config, active)
        model = running(pipelines[0])
        return Job("", model.name, model.version, model.sha256, user, kind, pipelines, note)
    name, version, sha256 = body.get("name"), body.get("version"), body.get("sha256") or ""
    if not isinstance(name, str) or isinstance(version, bool) or not isinstance(version, int):
        raise RequestError("a model is asked for by its name and a version number")
    if not 0 <= version < 1 << 32:  # what OPC UA has room for: events about others could not be sent
        raise RequestError("the version of a model is a number of at most 32 bits")
    if not isinstance(sha256, str) or _SHA256.fullmatch(sha256) is None:
        raise RequestError("the SHA-256 of a model is 64 hexadecimal digits, or left out")
    pipelines = _pipelines(body.get("pipelines"), name, config)
    shadow = _shadow(body.get("shadow"))
    return Job("", name, version, sha256.lower(), user, kind, pipelines, note, shadow=shadow)


def _pipelines(asked: Any, name: str, config: EdgeConfig) -> tuple[str, ...]:
    there = [pipeline.name for pipeline in config.pipelines if pipeline.model == name]
    if not there:
        known = ", ".join(sorted({pipeline.model for pipeline in config.pipelines}))
        raise RequestError(f'no pipeline runs a model "{name[:80]}"; there are: {known}')
    if not asked:
        return tuple(there)
    if not isinstance(asked, list) or not all(isinstance(each, str) for each in asked):
        raise RequestError("pipelines are named by a list of texts")
    for each in asked:
        if each not in there:
            raise RequestError(f'"{each[:80]}" runs no model {name}; it runs in: {", ".join(there)}')
    return tuple(pipeline for pipeline in there if pipeline in asked)


def _ways_back(body: Mapping[str, Any], config: EdgeConfig, active: ActiveModels) -> tuple[str, ...]:
    """Return the pipelines that shall go back: of a model, a single one, or of the only model that can."""
    name, pipeline = body.get("name") or "", body.get("pipeline") or ""
    asked = [each for each in config.pipelines if name in ("", each.model) and pipeline in ("", each.name)]
    if not asked:
        raise RequestError(f'there is no model or pipeline "{str(pipeline or name)[:80]}"')
    able = [each for each in asked if active.ways_back(each.name)]
    if not able:
        what = ", ".join(sorted({each.model for each in asked}))
        raise RequestError(f"{what}: there is no former version to go back to", status=BAD_INVALID_STATE)
    models = sorted({each.model for each in able})
    if len(models) > 1:
        raise RequestError(f"several models have a former version, name one: {', '.join(models)}")
    return tuple(each.name for each in able)


def _shadow(asked: Any) -> int | None:
    if asked is None:
        return None
    if isinstance(asked, bool) or not isinstance(asked, int) or not 0 <= asked <= MOST_SHADOW:
        raise RequestError(f"a shadow takes a number of captures, 0 to {MOST_SHADOW}")
    return asked


def _text(body: Mapping[str, Any], name: str) -> str:
    text = body.get(name) or ""
    if not isinstance(text, str) or len(text) > MOST_NOTE:
        raise RequestError(f"{name} is a text of at most {MOST_NOTE} characters")
    return text.encode(
        "utf-8", "replace"
    ).decode()  # a terminal of another coding gives what nobody can write
