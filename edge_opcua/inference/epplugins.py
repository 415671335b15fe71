"""Execution providers of ONNX Runtime that come as packages of their own, and their devices."""

from __future__ import annotations

import importlib
import importlib.metadata
from dataclasses import dataclass
from typing import Any, Final

# Providers that come as packages of their own (OpenVINO, NVIDIA TensorRT for RTX) share this prefix.
_PREFIX: Final = "onnxruntime-ep-"


@dataclass(frozen=True, slots=True)
class EpPlugin:
    """One installed package with execution providers.

    Args:
        package: Its distribution, e.g. ``onnxruntime-ep-openvino``.
        module: What is imported.
        names: Providers in it, by ONNX Runtime's names; the module's name if it cannot be imported.
        library: Path of its library.
        problem: Why it cannot be imported; empty if it can.
    """

    package: str
    module: str
    names: tuple[str, ...]
    library: str = ""
    problem: str = ""


def installed() -> list[EpPlugin]:
    """Return the packages with providers that are installed here, importing each."""
    names = {
        distribution.name.lower().replace("_", "-") for distribution in importlib.metadata.distributions()
    }
    return [plugin for name in sorted(names) if name.startswith(_PREFIX) if (plugin := _open(name))]


def _open(package: str) -> EpPlugin | None:
    """Import a package; None for one that only brings libraries for another one."""
    module_name = package.replace("-", "_")
    try:
        module = importlib.import_module(module_name)
        return EpPlugin(package, module_name, tuple(module.get_ep_names()), str(module.get_library_path()))
    except ModuleNotFoundError as exc:
        if exc.name == module_name:
            return None
        return EpPlugin(package, module_name, (module_name,), problem=f"{exc}")
    except Exception as exc:  # noqa: BLE001 - a package of another vendor may raise anything
        return EpPlugin(package, module_name, (module_name,), problem=" ".join(str(exc).split()))


def provides(provider: str) -> EpPlugin | None:
    """Return the installed package that has a provider; None if no package has it."""
    return next((plugin for plugin in installed() if provider in plugin.names), None)


def devices(ort: Any, plugin: EpPlugin, provider: str) -> list[Any]:
    """Register a package's library, once per process, and return the devices one of its providers finds here.

    Raises:
        Exception: What ONNX Runtime raises when the library cannot be loaded.
    """
    try:
        ort.register_execution_provider_library(plugin.module, plugin.library)
    except Exception as exc:
        if "already registered" not in str(exc):
            raise
    return [device for device in ort.get_ep_devices() if device.ep_name == provider]
