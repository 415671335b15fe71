"""Opens a session of ONNX Runtime on exactly the provider that was asked for, in bounded time."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.errors import ModelError
from edge_opcua.inference import epplugins
from edge_opcua.inference.backends import kept
from edge_opcua.inference.backends.ortoptions import (
    CUDA,
    OPENVINO,
    PROVIDERS,
    TENSORRT,
    TENSORRT_RTX,
    OnnxRuntimeOptions,
    provider_settings,
    session_options,
)
from edge_opcua.inference.onnxfile import inspect
from edge_opcua.inference.probe import CPU, NO_DEVICE, linked, preload, sentence, try_provider

_EXTRA: Final = {CUDA: "cuda", TENSORRT: "cuda", OPENVINO: "openvino", TENSORRT_RTX: "rtx"}


@dataclass(frozen=True, slots=True)
class Wish:
    """What shall be opened.

    Args:
        ort: The module ``onnxruntime``.
        path: The ONNX file.
        provider: ONNX Runtime's name of the provider.
        shapes: Shape of each input for one sample.
        options: Options of the pipeline.
        cache: Folder for what takes long to make again; None keeps nothing.
        load_s: Longest time to load (s); None: as long as it takes.
        clock: Tells whether it took longer.
    """

    ort: Any
    path: Path
    provider: str
    shapes: Mapping[str, tuple[int, ...]]
    options: OnnxRuntimeOptions
    cache: Path | None = None
    load_s: float | None = None
    clock: Clock = field(default_factory=SystemClock)


def load_onnxruntime() -> Any:
    """Return the module ``onnxruntime``; ModelError M522 if it cannot be imported."""
    try:
        import onnxruntime
    except ImportError as exc:
        raise ModelError(
            f"ONNX Runtime cannot be imported ({exc}); install one of the extras cpu, cuda or openvino",
            code="M522",
        ) from exc
    return onnxruntime


def open_session(wish: Wish) -> Any:
    """Open a session.

    Raises:
        ModelError: The provider is not there or cannot be used (M521), would run only parts of the model
            (M520), the options do not fit it (M560), the model cannot be loaded (M510), or not in
            time (M561).
    """
    ort, wanted = wish.ort, wish.provider
    devices = _devices(wish)
    preload(ort, wanted)
    session = _open_kept(wish) if _is_kept(wish) else _open(wish, devices)
    running = session.get_providers()
    if not running or running[0] != wanted:
        said = f"{wanted} was asked for, but ONNX Runtime would run {wish.path.name} on {', '.join(running)}"
        missing = try_provider(ort, wanted).missing if wanted in ort.get_available_providers() else ()
        raise ModelError(said + (f"; not found here: {', '.join(missing)}" if missing else ""), code="M520")
    return session


def accelerated(session: Any, wish: Wish) -> float:
    """Return the share of the model's nodes, 0..1, that run on the provider that was asked for.

    Raises:
        ModelError: None does (M520).
    """
    if wish.provider == CPU or not wish.options.rest_on_cpu:
        return 1.0  # otherwise there would be no session
    nodes = dict.fromkeys(session.get_providers(), 0)
    for part in session.get_provider_graph_assignment_info():
        nodes[part.ep_name] = nodes.get(part.ep_name, 0) + len(part.get_nodes())
    share = nodes[wish.provider] / max(1, sum(nodes.values()))
    if not share:
        raise ModelError(f"{wish.provider} knows no node of {wish.path.name}", code="M520")
    return share


def _devices(wish: Wish) -> Sequence[Any]:
    """Return the device to use of a provider that is a package of its own; none for one that is built in."""
    ort, wanted = wish.ort, wish.provider
    available = ort.get_available_providers()
    if wanted in available:
        _check_built_in(wish)
        return ()
    plugin = epplugins.provides(wanted)
    if plugin is None:
        said = f"{wanted} was asked for; this ONNX Runtime {ort.__version__} has {', '.join(available)}"
        extra = _EXTRA.get(wanted)
        raise ModelError(said + (f"; the extra {extra} brings it" if extra else ""), code="M521")
    try:
        found = epplugins.devices(ort, plugin, wanted)
    except Exception as exc:  # third-party boundary: its exceptions share no base class of their own
        _, missing = linked(Path(plugin.library))
        reason = f"not found here: {', '.join(missing)}" if missing else sentence(exc)
        raise ModelError(f"{wanted} was asked for, but cannot run: {reason}", code="M521") from exc
    if not found:
        raise ModelError(
            f"{wanted} was asked for: {plugin.package} is installed, but {NO_DEVICE}", code="M521"
        )
    return [_chosen(found, wish)]


def _chosen(devices: Sequence[Any], wish: Wish) -> Any:
    """Return the one device that is meant; which one runs a model is never left to chance."""
    kinds = [device.device.type.name.lower() for device in devices]
    names = [f"{kind}:{kinds[:place].count(kind)}" for place, kind in enumerate(kinds)]
    wanted = wish.options.device
    if not wanted and len(devices) == 1:
        return devices[0]
    exact = wanted if ":" in wanted else f"{wanted}:0"
    if exact not in names:
        said = f'"{wanted}" is not one of them' if wanted else "options.device has to name one"
        raise ModelError(f"{wish.provider} finds here {', '.join(names)}; {said}", code="M560")
    return devices[names.index(exact)]


def _check_built_in(wish: Wish) -> None:
    options = wish.options
    kind = options.device.partition(":")[0]
    fitting = {CPU: "cpu", CUDA: "gpu", TENSORRT: "gpu"}.get(wish.provider, kind)
    if kind and kind != fitting:
        raise ModelError(f'options.device "{options.device}" is none of {wish.provider}', code="M560")
    if wish.provider == CPU and (options.provider_options or options.rest_on_cpu):
        raise ModelError(f"{CPU} takes neither provider_options nor rest_on_cpu", code="M560")


def _open(wish: Wish, devices: Sequence[Any] = (), change: Callable[[Any], None] | None = None) -> Any:
    ort, wanted = wish.ort, wish.provider
    settings = session_options(ort, wish.options, wanted)
    told = provider_settings(wish.options, wanted, _open_shapes(wish), _engine_folder(wish))
    if change is not None:
        change(settings)
    with _bounded(settings, wish) as is_late:
        try:
            # enable_fallback=0: it would announce on the terminal that it goes on with the CPU.
            if devices:
                settings.add_provider_for_devices(devices, told)
                session = ort.InferenceSession(str(wish.path), settings, enable_fallback=0)
            else:
                provider = (wanted, told) if told else wanted
                session = ort.InferenceSession(
                    str(wish.path), settings, providers=[provider], enable_fallback=0
                )
        except Exception as exc:  # third-party boundary: its exceptions share no base class of their own
            raise (_too_late(wish) if is_late() else _refusal(wish, exc)) from exc
        if is_late():  # it went too far to be cancelled
            raise _too_late(wish)
        return session


@contextmanager
def _bounded(settings: Any, wish: Wish) -> Iterator[Callable[[], bool]]:
    """Cancel a load that takes longer than it may; what is yielded tells whether it does."""
    if wish.load_s is None:
        yield lambda: False
        return
    end_ns = wish.clock.monotonic_ns() + round(wish.load_s * 1e9)
    timer = threading.Timer(wish.load_s, settings.set_load_cancellation_flag, (True,))
    timer.daemon = True
    timer.start()
    try:
        yield lambda: wish.clock.monotonic_ns() >= end_ns
    finally:
        timer.cancel()


def _too_late(wish: Wish) -> ModelError:
    return ModelError(f"{wish.path.name} was not loaded within {wish.load_s:g} s", code="M561")


def _refusal(wish: Wish, exc: Exception) -> ModelError:
    """Tell a provider that cannot run even the smallest model from a model that cannot run on it."""
    wanted = wish.provider
    if wanted in PROVIDERS.values() and wanted != CPU and wanted in wish.ort.get_available_providers():
        found = try_provider(wish.ort, wanted)
        if not found.usable:
            return ModelError(f"{wanted} was asked for, but cannot run: {found.why_not}", code="M521")
    code = "M520" if "fallback" in str(exc) else "M510"
    return ModelError(f"{wish.path.name} cannot be loaded: {sentence(exc)}", code=code)


def _open_shapes(wish: Wish) -> dict[str, tuple[int, ...]]:
    """Return the shapes of inputs whose first axis is open, where an engine is built for a range of them."""
    if wish.provider != TENSORRT:
        return {}
    plain = _open(replace(wish, provider=CPU, options=OnnxRuntimeOptions()), (), _unchanged(wish.ort))
    return {
        node.name: wish.shapes[node.name]
        for node in plain.get_inputs()
        if node.name in wish.shapes and node.shape and not isinstance(node.shape[0], int)
    }


def _engine_folder(wish: Wish) -> Path | None:
    """Return a folder for the engines of one model on one machine.

    ONNX Runtime names TensorRT's engines after the graph, not after its weights: two versions of a model in
    one folder would run the weights of whichever came first.
    """
    if wish.cache is None or wish.provider != TENSORRT:
        return None
    facts = {
        "model": kept.digest_of(wish.path),
        "runtime": wish.ort.__version__,
        "machine": kept.nvidia(),
        "options": wish.options.model_dump_json(),
    }
    folder = kept.kept(wish.cache, "engines", facts, "")
    kept.make_folder(folder)
    return folder


def _unchanged(ort: Any) -> Callable[[Any], None]:
    def change(settings: Any) -> None:
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL

    return change


def _is_kept(wish: Wish) -> bool:
    """Return whether the optimised graph of a model is kept: only if that is asked for and is complete."""
    if wish.cache is None or wish.provider != CPU or not wish.options.optimized:
        return False
    try:
        with (
            wish.path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image,
            memoryview(image) as view,
        ):
            return not inspect(view).external
    except (OSError, ValueError, ModelError):
        return False  # opening it tells why


def _open_kept(wish: Wish) -> Any:
    """Open a model by its optimised graph; write that first if it is not there."""
    assert wish.cache is not None
    facts = {
        "model": kept.digest_of(wish.path),
        "runtime": wish.ort.__version__,
        "processor": kept.processor(),
        "threads": wish.options.threads,
    }
    place = kept.kept(wish.cache, "optimized", facts, ".onnx")
    if place.is_file():
        try:
            return _open(replace(wish, path=place), (), _unchanged(wish.ort))
        except ModelError as exc:
            if exc.code == "M561":
                raise
            place.unlink(missing_ok=True)  # not as it was written
    try:
        part = kept.begin(place)
    except OSError:
        return _open(wish)  # the cache saves time; without it the model runs as well
    session = _open_and_write(wish, part)
    with suppress(OSError):
        kept.finish(part, place)
    return session


def _open_and_write(wish: Wish, part: Path) -> Any:
    """Open a model and write its optimised graph, if there is room for it."""

    def change(settings: Any) -> None:
        settings.optimized_model_filepath = str(part)

    try:
        return _open(wish, (), change)
    except ModelError as exc:
        part.unlink(missing_ok=True)
        if exc.code == "M561":
            raise
        return _open(wish)
