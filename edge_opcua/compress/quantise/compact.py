"""A quantised model as small as it can be: names and repeated constants weigh more than tiny weights."""

from __future__ import annotations

from typing import Any, Final

from edge_opcua.compress.graph.structure import captured

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


def compact(model: Any) -> None:
    """Shorten a model's file without changing what it computes.

    Constants that are equal become one; values between the nodes get names of one or two letters; nodes lose
    theirs, and the texts for people go. Inputs and answers keep their names.

    Args:
        model: The ``onnx.ModelProto``; is changed.
    """
    graph = model.graph
    _share_constants(graph)
    if not any(captured(node) for node in graph.node):  # graphs inside would have to be renamed as well
        _shorten(graph)
    for node in graph.node:
        node.ClearField("name")
        node.ClearField("doc_string")
    for tensor in graph.initializer:
        tensor.ClearField("doc_string")
    del graph.value_info[:]
    for field in ("doc_string", "producer_name", "producer_version", "domain"):
        model.ClearField(field)
    graph.ClearField("doc_string")


def _share_constants(graph: Any) -> None:
    first: dict[bytes, str] = {}
    instead: dict[str, str] = {}
    answers = {output.name for output in graph.output}
    for tensor in list(graph.initializer):
        bare = type(tensor)()
        bare.CopyFrom(tensor)
        bare.ClearField("name")
        known = first.setdefault(bare.SerializeToString(deterministic=True), tensor.name)
        if known != tensor.name and tensor.name not in answers:
            instead[tensor.name] = known
    inside = {name for node in graph.node for name in captured(node)}
    for tensor in [tensor for tensor in graph.initializer if tensor.name in instead.keys() - inside]:
        graph.initializer.remove(tensor)
    _rename(graph, {name: known for name, known in instead.items() if name not in inside})


def _shorten(graph: Any) -> None:
    kept = {value.name for value in (*graph.input, *graph.output)}
    names = [tensor.name for tensor in graph.initializer]
    names += [name for node in graph.node for name in node.output]
    short: dict[str, str] = {}
    number = 0
    for name in dict.fromkeys(names):
        if not name or name in kept:
            continue
        while (candidate := _digits(number)) in kept:
            number += 1
        short[name] = candidate
        number += 1
    _rename(graph, short)
    for tensor in graph.initializer:
        tensor.name = short.get(tensor.name, tensor.name)


def _rename(graph: Any, names: dict[str, str]) -> None:
    for node in graph.node:
        for places in (node.input, node.output):
            for place, name in enumerate(places):
                if name in names:
                    places[place] = names[name]


def _digits(number: int) -> str:
    text = _DIGITS[number % len(_DIGITS)]
    while number := number // len(_DIGITS):
        text = _DIGITS[number % len(_DIGITS)] + text
    return text
