"""The namespaces this server has, in the order that is promised to clients, and the ids of its types.

A client stores ``ns=7;s=…`` once and uses it for ten years: order and numbers below never change, new ones
are only ever appended (architecture §3.11).
"""

from __future__ import annotations

import enum
from typing import Final

from asyncua import ua

DI_URI: Final = "http://opcfoundation.org/UA/DI/"
IA_URI: Final = "http://opcfoundation.org/UA/IA/"
MACHINERY_URI: Final = "http://opcfoundation.org/UA/Machinery/"
RESULT_URI: Final = "http://opcfoundation.org/UA/Machinery/Result/"
INFERENCE_URI: Final = "http://edge-opcua.org/UA/Inference/"


class Namespace(enum.IntEnum):
    """Index of each namespace on the wire; 1 is the server's own (its ApplicationUri)."""

    UA = 0
    SERVER = 1
    DI = 2
    IA = 3
    MACHINERY = 4
    RESULT = 5
    INFERENCE = 6
    PLANT = 7


TYPE_URIS: Final = (DI_URI, IA_URI, MACHINERY_URI, RESULT_URI, INFERENCE_URI)


def namespace_order(plant_uri: str) -> tuple[str, ...]:
    """Return the URIs of the namespaces 2, 3, … of a plant, in their frozen order."""
    return (*TYPE_URIS, plant_uri)


def plant_id(name: str) -> ua.NodeId:
    """Return the NodeId of a node of the plant, e.g. ``ns=7;s=Press01.Process.die_temp``."""
    return ua.NodeId(name, Namespace.PLANT)


def plant_name(name: str) -> ua.QualifiedName:
    """Return a BrowseName in the plant's namespace."""
    return ua.QualifiedName(name, Namespace.PLANT)


def _id(number: int, namespace: Namespace) -> ua.NodeId:
    return ua.NodeId(number, namespace)


class Ids:
    """NodeIds of the companion types, as in ``nodesets/``."""

    DEVICE_SET: Final = _id(5001, Namespace.DI)
    DEVICE_HEALTH: Final = _id(6244, Namespace.DI)

    MACHINES: Final = _id(1001, Namespace.MACHINERY)
    MACHINE_IDENTIFICATION_TYPE: Final = _id(1012, Namespace.MACHINERY)
    MONITORING_TYPE: Final = _id(1014, Namespace.MACHINERY)

    RESULT_EVALUATION: Final = _id(3002, Namespace.RESULT)
    PROCESSING_TIMES: Final = _id(3006, Namespace.RESULT)
    RESULT_META_DATA: Final = _id(3007, Namespace.RESULT)
    RESULT_DATA: Final = _id(3008, Namespace.RESULT)

    INFERENCE_ENGINE_TYPE: Final = _id(1001, Namespace.INFERENCE)
    MODEL_TYPE: Final = _id(1002, Namespace.INFERENCE)
    CONNECTION_TYPE: Final = _id(1003, Namespace.INFERENCE)
    DEVICE_TYPE: Final = _id(1004, Namespace.INFERENCE)
    OUTPUT_AUTHORITY_TYPE: Final = _id(1005, Namespace.INFERENCE)
    CAPTURE_TYPE: Final = _id(1006, Namespace.INFERENCE)
    MODEL_JOB_TYPE: Final = _id(1007, Namespace.INFERENCE)
    MODEL_REPOSITORY_TYPE: Final = _id(1008, Namespace.INFERENCE)
    RECORDS_TYPE: Final = _id(1009, Namespace.INFERENCE)
    RESULT_EVENT_TYPE: Final = _id(1010, Namespace.INFERENCE)
    JOB_EVENT_TYPE: Final = _id(1011, Namespace.INFERENCE)
    LINK_EVENT_TYPE: Final = _id(1012, Namespace.INFERENCE)
    OUTPUT_EVENT_TYPE: Final = _id(1013, Namespace.INFERENCE)
    OUTPUT_FAIL_SAFE_EVENT_TYPE: Final = _id(1014, Namespace.INFERENCE)
    OUTPUT_ACK_REQUIRED_EVENT_TYPE: Final = _id(1015, Namespace.INFERENCE)
    OUTPUT_ACTIVE_EVENT_TYPE: Final = _id(1016, Namespace.INFERENCE)
    MODEL_WATCH_TYPE: Final = _id(1017, Namespace.INFERENCE)
    MODEL_SHADOW_TYPE: Final = _id(1018, Namespace.INFERENCE)
    MODEL_ALARM_EVENT_TYPE: Final = _id(1019, Namespace.INFERENCE)
    MODEL_CHANGED_EVENT_TYPE: Final = _id(1020, Namespace.INFERENCE)
    VERDICT_ANSWER: Final = _id(3002, Namespace.INFERENCE)


class Names:
    """Names of the plant's nodes, in one place: the string part of every NodeId of namespace 7.

    Args:
        machine: Name of the machine, the first part of most names.
    """

    MODELS: Final = "Models"
    RECORDS: Final = "Records"

    def __init__(self, machine: str) -> None:
        self.machine = machine
        self.identification = f"{machine}.Identification"
        self.building_blocks = f"{machine}.MachineryBuildingBlocks"
        self.monitoring = f"{machine}.Monitoring"
        self.health = f"{machine}.Health"
        self.process = f"{machine}.Process"
        self.captures = f"{machine}.Captures"
        self.inferences = f"{machine}.Inference"
        self.outputs = f"{machine}.Outputs"

    def tag(self, tag: str) -> str:
        """Return the name of a tag's variable, unless its table row gives one."""
        return f"{self.process}.{tag}"

    def capture(self, capture: str) -> str:
        """Return the name of a capture's object."""
        return f"{self.captures}.{capture}"

    def inference(self, pipeline: str, member: str = "") -> str:
        """Return the name of a pipeline's inference object, or of one of its variables."""
        return ".".join(part for part in (self.inferences, pipeline, member) if part)

    def output(self, output: str, member: str = "") -> str:
        """Return the name of an output's authority object, or of one of its variables."""
        return ".".join(part for part in (self.outputs, output, member) if part)

    @staticmethod
    def device(device: str, member: str = "") -> str:
        """Return the name of a device's object, or of one of its variables, e.g. ``Connection.State``."""
        return ".".join(part for part in ("Devices", device, member) if part)

    @staticmethod
    def model(name: str, version: int) -> str:
        """Return the name of a model version's object."""
        return f"Models.{name}.{version}"
