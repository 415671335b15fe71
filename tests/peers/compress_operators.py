"""One small graph for each operator that can be trained, answered by ONNX Runtime and by PyTorch.

    python compress_operators.py

Run in the environment with PyTorch; prints one JSON object: the operators that are known, and by graph the
largest deviation and whether a gradient reaches the input (null where whole numbers come out of it).
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge_opcua.compress.graph import activations
from edge_opcua.compress.train.network import Network
from edge_opcua.compress.train.ops import OPS

RANDOM = np.random.default_rng(5)
PICTURE, ROW, SERIES = (2, 4, 7, 6), (2, 6), (2, 4, 9)


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def positive(*shape):
    return RANDOM.uniform(0.5, 2.0, shape).astype(np.float32)


def whole(*numbers):
    return np.array(numbers, np.int64)


class Case:
    """A graph of one node.

    Args:
        op: Operator.
        shape: Of the input.
        weights: Further inputs; None where one is left out.
        opset: Version of the operators.
        outputs: How many the node has; the last one is compared.
        attributes: Of the node.
    """

    def __init__(self, op, shape, *weights, opset=17, outputs=1, first=None, **attributes):
        self.op, self.shape, self.weights, self.opset = op, shape, weights, opset
        self.outputs, self.first, self.attributes = outputs, first, attributes

    def model(self):
        names = [f"w{number}" if array is not None else "" for number, array in enumerate(self.weights)]
        inputs = [*names[: self.first or 0], "x", *names[self.first or 0 :]]
        outputs = [f"y{number}" for number in range(self.outputs)]
        node = helper.make_node(self.op, inputs, outputs, name="node", **self.attributes)
        cast = helper.make_node("Cast", [outputs[-1]], ["y"], to=TensorProto.FLOAT)
        graph = helper.make_graph(
            [node, cast],
            "one",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(self.shape))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [
                numpy_helper.from_array(np.asarray(array), name)
                for name, array in zip(names, self.weights, strict=True)
                if name
            ],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)


def unary(*ops, opset=17, rows=None, **attributes):
    return [Case(op, ROW, opset=opset, **attributes) for op in ops]


def reduced(op):
    return [
        Case(op, PICTURE, axes=[2, 3], opset=13 if op != "ReduceSum" else 11),
        Case(op, PICTURE, whole(-1), opset=18, keepdims=0),
        Case(op, PICTURE, opset=18),
    ]


W = normal(5, 4, 3, 3)
STATS = (positive(4), normal(4), normal(4), positive(4))
CASES = [
    Case("Conv", PICTURE, W, normal(5), pads=[1, 1, 1, 1]),
    Case("Conv", PICTURE, W, pads=[0, 1, 2, 1], strides=[2, 1]),
    Case("Conv", PICTURE, W, auto_pad="SAME_UPPER", strides=[2, 2]),
    Case("Conv", PICTURE, W, auto_pad="SAME_LOWER", strides=[2, 2], dilations=[1, 1]),
    Case("Conv", PICTURE, W, auto_pad="VALID", dilations=[2, 1]),
    Case("Conv", PICTURE, normal(8, 1, 3, 3), normal(8), group=4),
    Case("Conv", SERIES, normal(3, 4, 5), pads=[2, 2]),
    Case("ConvTranspose", PICTURE, normal(4, 3, 3, 3), normal(3), strides=[2, 2], output_padding=[1, 0]),
    Case("ConvTranspose", SERIES, normal(4, 2, 3), pads=[1, 1], group=2),
    Case("Gemm", ROW, normal(6, 3), normal(3), alpha=0.5, beta=2.0),
    Case("Gemm", ROW, normal(3, 6), transB=1),
    Case("Gemm", ROW, normal(2, 3), normal(3), transA=1),
    Case("MatMul", SERIES, normal(9, 5)),
    Case("BatchNormalization", PICTURE, *STATS, epsilon=1e-3),
    Case("InstanceNormalization", PICTURE, *STATS[:2]),
    Case("LayerNormalization", SERIES, positive(9), normal(9)),
    Case("LayerNormalization", PICTURE, positive(4, 7, 6), axis=1),
    Case("GroupNormalization", PICTURE, positive(4), normal(4), num_groups=2, opset=21),
    Case("LpNormalization", ROW, axis=1),
    Case("MaxPool", PICTURE, kernel_shape=[2, 2], strides=[2, 2]),
    Case("MaxPool", PICTURE, kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
    Case("MaxPool", SERIES, kernel_shape=[2], strides=[2], ceil_mode=1),
    Case("AveragePool", PICTURE, kernel_shape=[2, 2], strides=[2, 2]),
    Case("AveragePool", PICTURE, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    Case("AveragePool", PICTURE, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    Case("AveragePool", PICTURE, kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
    Case("GlobalAveragePool", PICTURE),
    Case("GlobalMaxPool", PICTURE),
    *unary("Abs", "Neg", "Relu", "Sigmoid", "Tanh", "Exp", "Sin", "Cos", "Erf", "Softplus", "Softsign"),
    *unary("Floor", "Ceil", "Round", "Sign", "Identity", "Dropout", "HardSwish"),
    *unary("Elu", "LeakyRelu", "ThresholdedRelu", "Celu", alpha=0.7),
    *unary("Selu"),
    *unary("HardSigmoid", alpha=0.3, beta=0.4),
    *unary("Mish", opset=18),
    *unary("Gelu", opset=20),
    *unary("Gelu", opset=20, approximate="tanh"),
    Case("Sqrt", ROW),
    Case("Log", ROW),
    Case("Reciprocal", ROW),
    Case("PRelu", PICTURE, positive(4, 1, 1)),
    Case("Clip", ROW, np.float32(-0.5), np.float32(0.5)),
    Case("Clip", ROW, opset=10, min=-0.5, max=0.5),
    Case("Softmax", SERIES),
    Case("Softmax", SERIES, axis=1),
    Case("Softmax", SERIES, axis=1, opset=11),
    Case("LogSoftmax", SERIES),
    Case("LogSoftmax", SERIES, axis=1, opset=11),
    Case("Cast", ROW, to=TensorProto.FLOAT),
    *(Case(op, ROW, positive(6)) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Mean", "Sum")),
    Case("Pow", ROW, np.float32(2.0)),
    *(
        Case(op, ROW, normal(6), opset=17)
        for op in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")
    ),
    Case("Where", ROW, np.array([True, False] * 3), normal(6), first=1),
    *(case for op in sorted(OPS) if op.startswith("Reduce") for case in reduced(op)),
    Case("ArgMax", ROW, axis=1),
    Case("ArgMin", ROW, axis=1, keepdims=0),
    Case("Concat", ROW, normal(2, 3), axis=1),
    Case("Expand", (2, 1, 6), whole(2, 3, 6)),
    Case("Flatten", PICTURE),
    Case("Flatten", PICTURE, axis=2),
    Case("Gather", ROW, whole(5, -1, 0), axis=1),
    Case("Gather", ROW, np.array(3, np.int64), axis=1),
    Case("Pad", PICTURE, whole(0, 0, 1, 2, 0, 0, 3, 0), np.float32(1.5)),
    Case("Pad", PICTURE, whole(0, 0, 1, 2, 0, 0, 3, 0), mode="reflect"),
    Case("Pad", PICTURE, whole(0, 0, 1, 2, 0, 0, 3, 0), mode="edge"),
    Case("Reshape", PICTURE, whole(0, -1, 6)),
    Case("Resize", PICTURE, None, np.array([1, 1, 2, 2], np.float32), mode="nearest",
         coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    Case("Resize", PICTURE, None, None, whole(2, 4, 10, 9), mode="linear"),
    Case("Resize", SERIES, None, None, whole(2, 4, 5), mode="linear",
         coordinate_transformation_mode="align_corners"),
    Case("Upsample", PICTURE, np.array([1, 1, 2, 2], np.float32), opset=9),
    Case("Shape", PICTURE),
    Case("Slice", PICTURE, whole(1, 5), whole(3, 0), whole(1, 2), whole(1, -2)),
    Case("Slice", PICTURE, whole(-1), whole(-(2**63)), whole(3), whole(-1)),
    Case("Split", ROW, whole(2, 4), axis=1, outputs=2),
    Case("Split", ROW, axis=1, outputs=3, opset=11),
    Case("Squeeze", (2, 1, 6), whole(1)),
    Case("Squeeze", (2, 1, 6), opset=11, axes=[1]),
    Case("Tile", ROW, whole(1, 2)),
    Case("Transpose", PICTURE, perm=[0, 2, 3, 1]),
    Case("Transpose", ROW),
    Case("Unsqueeze", ROW, whole(1, -1)),
]  # fmt: skip


def chained(*nodes, weights=(), opset=17, shape=ROW):
    graph = helper.make_graph(
        [helper.make_node(op, inputs, outputs, **attributes) for op, inputs, outputs, attributes in nodes],
        "some",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


to_float, to_bool = {"to": TensorProto.FLOAT}, {"to": TensorProto.BOOL}
rounded = [
    ("QuantizeLinear", ["x", "s", "z"], ["q"], {}),
    ("DequantizeLinear", ["q", "s", "z"], ["y"], {}),
]
CHAINS = {
    "And Or Not": chained(
        ("Cast", ["x"], ["a"], to_bool),
        ("Not", ["a"], ["b"], {}),
        ("Or", ["b", "m"], ["c"], {}),
        ("And", ["c", "m"], ["d"], {}),
        ("Cast", ["d"], ["y"], to_float),
        weights=[("m", np.array([True, False] * 3))],
    ),
    "ConstantOfShape Range": chained(
        ("Shape", ["x"], ["s"], {}),
        ("ConstantOfShape", ["s"], ["f"], {"value": helper.make_tensor("v", TensorProto.FLOAT, [1], [2.5])}),
        ("Range", ["zero", "six", "one"], ["r"], {}),
        ("Mul", ["f", "r"], ["g"], {}),
        ("Add", ["x", "g"], ["y"], {}),
        weights=[("zero", np.float32(0)), ("six", np.float32(6)), ("one", np.float32(1))],
    ),
    "QuantizeLinear DequantizeLinear u8": chained(
        *rounded, weights=[("s", np.float32(0.02)), ("z", np.uint8(100))]
    ),
    "QuantizeLinear DequantizeLinear s8 per channel": chained(
        *[(op, i, o, {"axis": 1}) for op, i, o, _ in rounded],
        weights=[("s", positive(6) / 50), ("z", np.zeros(6, np.int8))],
    ),
}


def gone_over(model, shape, strictly_positive):
    rows = positive(*shape) if strictly_positive else normal(*shape)
    # Away from where rounding and steps jump: there both are right.
    right = activations(model, ["y"], rows)["y"]
    network = Network(model, ["y"])
    fed = torch.from_numpy(rows).requires_grad_()
    given = network(fed)["y"]
    off = float(np.abs(given.detach().numpy() - right).max()) if right.shape == tuple(given.shape) else None
    reached = None
    if given.requires_grad:
        (gradient,) = torch.autograd.grad(given.square().sum(), fed, allow_unused=True)
        reached = gradient is not None and bool(torch.isfinite(gradient).all())
    return {"off": off, "reached": reached}


ONLY_POSITIVE = {"Sqrt", "Log", "Reciprocal", "ReduceLogSum"}
found = {}
for number, case in enumerate(CASES):
    found[f"{case.op} {number}"] = gone_over(case.model(), case.shape, case.op in ONLY_POSITIVE)
for name, model in CHAINS.items():
    found[name] = gone_over(model, ROW, strictly_positive=False)
sys.stdout.write(json.dumps({"known": sorted(OPS), "found": found, "onnx": onnx.__version__}))
