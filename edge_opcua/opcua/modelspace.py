"""The objects of models: the folder, a version of a model, and what a running model is watched by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from asyncua import ua

from edge_opcua.core.clock import Clock
from edge_opcua.opcua.models import ModelInfo
from edge_opcua.opcua.namespaces import Ids, Names, plant_name
from edge_opcua.opcua.nodes import NodeMaker, VariableSpec
from edge_opcua.opcua.plantspace import PlantSpace
from edge_opcua.opcua.slots import assign_now
from edge_opcua.opcua.values import utc

__all__ = ["JOB_MEMBERS", "add_model", "add_models", "show_bounds", "show_version"]

JOB_MEMBERS: Final = (
    "JobId",
    "ModelName",
    "ModelVersion",
    "State",
    "Percent",
    "Reason",
    "Kind",
    "Pipelines",
    "Note",
    "User",
    "ShadowWanted",
    "ShadowCompared",
    "ShadowAgreement",
    "ShadowAgreementLow",
)
"""What the object of the youngest job shows."""

_STRING: Final = ua.NodeId(ua.ObjectIds.String)
_INT64: Final = ua.NodeId(ua.ObjectIds.Int64)
_DOUBLE: Final = ua.NodeId(ua.ObjectIds.Double)
_KINDS: Final = ua.VariantType


def add_models(maker: NodeMaker, space: PlantSpace, models: Sequence[ModelInfo]) -> None:
    """Add the folder of the models with its methods, its last job and the versions there are."""
    objects = ua.NodeId(ua.ObjectIds.ObjectsFolder)
    space.models = maker.instance(objects, Names.MODELS, Ids.MODEL_REPOSITORY_TYPE, notifier=True)
    version = ua.Variant("0", _KINDS.String)
    maker.property(space.models, Names.MODELS, "NodeVersion", version, data_type=_STRING)
    maker.refer(space.machine, ua.ObjectIds.HasNotifier, space.models)
    space.job = {member: maker.slot(f"{Names.MODELS}.LastJob.{member}") for member in JOB_MEMBERS}
    for model in models:
        add_model(maker, space, model)


def add_model(maker: NodeMaker, space: PlantSpace, model: ModelInfo) -> None:
    """Add the object of a version of a model."""
    name = Names.model(model.name, model.version)
    browse_name = plant_name(f"{model.name} {model.version}")
    node = maker.instance(space.models, name, Ids.MODEL_TYPE, browse_name=browse_name)
    for member, variant in _members(model):
        maker.slot(f"{name}.{member}").value = ua.DataValue(variant)
    _add_figures(maker, f"{name}.Proof", model.proof)
    _add_figures(maker, f"{name}.Provenance", model.provenance)
    space.model_nodes[model.key] = node


def show_version(maker: NodeMaker, model: ModelInfo, clock: Clock) -> None:
    """Show a version of a model as it is now, and tell who watches it; its figures stay as they were."""
    name = Names.model(model.name, model.version)
    for member, variant in _members(model):
        assign_now(maker.slot(f"{name}.{member}"), variant.Value, variant.VariantType, clock)


def _members(model: ModelInfo) -> Iterator[tuple[str, ua.Variant]]:
    """Yield what the object of a version shows; the state last, when the rest is there."""
    trained = utc(model.trained_ns)
    yield "Name", ua.Variant(model.name, _KINDS.String)
    yield "Version", ua.Variant(model.version, _KINDS.UInt32)
    yield "Sha256", ua.Variant(model.sha256, _KINDS.String)
    yield "Trained", ua.Variant(trained, _KINDS.Null if trained is None else _KINDS.DateTime)
    yield "MaxAgeDays", ua.Variant(model.max_age_days, _KINDS.Double)
    yield "WhenOld", ua.Variant(model.when_old, _KINDS.String)
    yield "Precision", ua.Variant(model.precision, _KINDS.String)
    yield "Reason", ua.Variant(model.reason, _KINDS.String)
    yield "Pipelines", ua.Variant(list(model.pipelines), _KINDS.String)
    yield "State", ua.Variant(model.state, _KINDS.String)


def show_bounds(maker: NodeMaker, inference: str, bounds_us: Sequence[int]) -> None:
    """Say where the classes of the latency histogram of a pipeline end, µs."""
    variant = ua.Variant([int(each) for each in bounds_us], _KINDS.UInt64, is_array=True)
    maker.slot(f"{inference}.Watch.LatencyBounds").value = ua.DataValue(variant)


def _add_figures(maker: NodeMaker, folder: str, figures: Mapping[str, float | int | str]) -> None:
    for figure, value in figures.items():
        maker.variable(
            maker.node_id(folder), f"{folder}.{figure}", _figure(value), browse_name=plant_name(figure)
        )


def _figure(value: float | str) -> VariableSpec:
    if isinstance(value, str):
        return VariableSpec(_STRING, value=ua.Variant(value, _KINDS.String))
    if isinstance(value, int):
        return VariableSpec(_INT64, value=ua.Variant(value, _KINDS.Int64))
    return VariableSpec(_DOUBLE, value=ua.Variant(float(value), _KINDS.Double))
