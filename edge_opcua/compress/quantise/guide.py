"""Which kinds of whole numbers are worth trying on which processor.

Source:
    ONNX Runtime, "Quantize ONNX models", data types and processors; TensorRT Developer Guide, explicit
    quantisation (symmetric INT8 only, bias in float). Measured on x86 with AVX-512 VNNI: a convolution with
    u8 activations between QuantizeLinear and DequantizeLinear is as fast as with s8 ones and answers the
    same to the last bit, because only the zero point moves.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from edge_opcua.compress.making import Device
from edge_opcua.compress.quantise.recipe import Int8

_ARM: Final = frozenset({"aarch64", "arm64", "armv7l", "armv8l"})
_SYMMETRIC: Final = frozenset({"tensorrt", "tensorrt_rtx"})
_WITHOUT_INT8: Final = frozenset({"cuda"})
_WITH_HALF: Final = frozenset({"cuda", "tensorrt", "tensorrt_rtx", "openvino"})


def int8_kinds(device: Device) -> tuple[Int8, ...]:
    """Return how whole numbers are best represented on a device, the best first; nothing if they are not.

    x86 multiplies unsigned by signed; without VNNI it adds pairs of products in 16 bits, so weights get 7
    bits. ARM multiplies signed by signed. TensorRT takes symmetric ranges only. The CUDA provider has no
    INT8 kernels: it would go back to floats between the nodes, and be slower.
    """
    if device.provider.lower() in _WITHOUT_INT8:
        return ()
    if device.provider.lower() in _SYMMETRIC:
        return (Int8(activation="s8", symmetric=True, integer_bias=False, per_channel=True),)
    kinds: tuple[Int8, ...]
    if device.machine in _ARM:
        kinds = Int8(activation="s8"), Int8(activation="u8")
    elif device.has_vnni:
        kinds = Int8(activation="u8"), Int8(activation="s8")
    else:
        kinds = (
            Int8(activation="u8", reduce_range=True),
            Int8(activation="u8"),
            Int8(activation="u8", weight="u8"),
        )
    return tuple(replace(kind, half_rest=True) for kind in kinds)


def needs_7_bits(device: Device) -> bool:
    """Return whether products of 8 bits may overflow: on x86 without VNNI."""
    return device.machine not in _ARM and not device.has_vnni


def has_half(device: Device) -> bool:
    """Return whether the device computes in FP16; processors convert to FP32 and back."""
    return device.provider.lower() in _WITH_HALF
