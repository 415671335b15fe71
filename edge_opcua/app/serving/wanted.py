"""What a pipeline asks of a model: composed once, for lanes that serve it and for whoever only tries it."""

from __future__ import annotations

from collections.abc import Iterable

from edge_opcua.app.serving.extractors import complete, extractor_of
from edge_opcua.app.serving.judges import judge_of
from edge_opcua.config.schema import EdgeConfig, PipelineConfig
from edge_opcua.core.ports import Backend
from edge_opcua.errors import ModelError
from edge_opcua.inference.readiness import Wanted
from edge_opcua.inference.repository import ModelFiles
from edge_opcua.inference.schedule.request import LaneClass
from edge_opcua.inference.spec import lane_spec
from edge_opcua.plugins import BACKENDS, InstalledPlugins


def wanted_for(
    config: EdgeConfig,
    pipeline: PipelineConfig,
    files: Iterable[ModelFiles],
    spares: Iterable[ModelFiles] | None = None,
) -> Wanted:
    """Return a pipeline with the models that shall judge for it.

    Args:
        config: The configuration.
        pipeline: The pipeline.
        files: Verified files of its model, and after it those of the cheaper ones.
        spares: Those of further ones, of which one answers as well if it is fit and faster here; None: nobody
            asks for one.

    Raises:
        ModelError: The backend must not be in its lane (M579), or the steps of a model cannot be
            computed (M600 … M603).
        ConfigError: The backend cannot be imported.
    """
    spec = lane_spec(config, pipeline.name)
    return Wanted(
        spec,
        tuple(complete(each) for each in files),
        backend_for(pipeline).load,
        extractor_of,
        pipeline.provider,
        pipeline.options,
        1 if spec.lane is LaneClass.SAFETY else pipeline.max_batch,
        pipeline.load_s,
        judge_of,
        None if spares is None else tuple(complete(each) for each in spares),
    )


def backend_for(pipeline: PipelineConfig) -> type[Backend]:
    """Return the backend of a pipeline; M579 if it must not be in its lane."""
    plugin: type[Backend] = InstalledPlugins().load(BACKENDS, pipeline.backend)
    if pipeline.lane in getattr(plugin, "REFUSED_LANES", ()):
        message = f"the backend {pipeline.backend} must not be in a lane of class {pipeline.lane}"
        raise ModelError(message, code="M579")
    return plugin
