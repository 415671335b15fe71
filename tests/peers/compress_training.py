"""Trains small graphs and says what came of it, for tests/interop/test_compress_torch.py.

    python compress_training.py FOLDER

Run in the environment with PyTorch; prints one JSON object.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.graph import open_graph, save_graph, weights
from edge_opcua.compress.prune import make as prune
from edge_opcua.compress.quantise import static
from edge_opcua.compress.tasks.labels import Labels
from edge_opcua.compress.tasks.reconstruction import Reconstruction
from edge_opcua.compress.tasks.value import Value
from edge_opcua.compress.train import distil, qat, tune
from edge_opcua.compress.train.lesson import Lesson
from edge_opcua.compress.train.network import Network, require_alike
from edge_opcua.compress.train.student import Original, distil_into
from edge_opcua.compress.variant import Variant
from edge_opcua.errors import ModelError
from tests.compress import models
from tests.compress.kitchens import kitchen, quiet
from tests.licences import licence_of, runtime_closure

FOLDER = Path(sys.argv[1])
LOGITS, PROBABILITIES = Labels("logits"), Labels("probabilities")
TEST, TRAIN, SOME = models.pictures(999, 77), models.pictures(600, 78), models.pictures(200, 79)
found = {"threads_before": torch.get_num_threads()}


def right(path):
    """Return the share of pictures that a model tells right."""
    return float((models.run(path, TEST.rows).argmax(1) == TEST.truth).mean())


def unlike(path, original, data):
    """Return how far a model's answers are from those of the original, as a share of their spread."""
    one, other = models.run(path, data.rows), models.run(original, data.rows)
    return float(np.sqrt(np.mean((one - other) ** 2)) / other.std())


def refused(work):
    """Return code and message of the refusal; nothing if there was none."""
    try:
        work()
    except ModelError as exc:
        return [exc.code, str(exc)]
    return None


def pruned(original, share, task, data, *, refit):
    """Prune a model and return the file."""
    path = FOLDER / f"{original.stem}-{share}.onnx"
    variant = Variant("pruned", "pruned", {"share": share, "refit": refit})
    prune.make(variant, original, path, kitchen(data, original=original, task=task), quiet)
    return path


def shape_of(path):
    """Return everything of a file but the values of its weights."""
    model = onnx.load(str(path))
    tensors = [(tensor.name, list(tensor.dims), tensor.data_type) for tensor in model.graph.initializer]
    nodes = [(node.op_type, list(node.input), list(node.output)) for node in model.graph.node]
    return [tensors, nodes, model.opset_import[0].version]


def lesson(epochs, loss, rate=2e-3):
    """Return a recipe."""
    return {"epochs": epochs, "rate": rate, "loss": loss}


# A pruned network learns again: from labels, and from the original without any.
original = models.saved(models.residual_net(), FOLDER, "residual.onnx")
parent = pruned(original, 0.5, LOGITS, SOME, refit=False)
here = kitchen(SOME, TRAIN, original=original, task=LOGITS)
blind = kitchen(replace(SOME, truth=None), replace(TRAIN, truth=None), original=original, task=LOGITS)
out = FOLDER / "out.onnx"
variant = Variant("tuned", "tuned", lesson(8, "labels"))
notes = tune.make(variant, parent, out, here, quiet)
found["tuned"] = {
    "original": right(original),
    "before": right(parent),
    "after": right(out),
    "notes": dict(notes),
}
found["same_graph"] = shape_of(out) == shape_of(parent)
first = out.read_bytes()
tune.make(variant, parent, out, here, quiet)
found["same_bytes"] = first == out.read_bytes()
again = replace(here, seed=2)
tune.make(variant, parent, out, again, quiet)
found["other_seed"] = first != out.read_bytes()
notes = distil.make(Variant("d", "distilled", lesson(8, "teacher")), parent, out, blind, quiet)
found["distilled"] = {
    "before": unlike(parent, original, TEST),
    "after": unlike(out, original, TEST),
    "notes": dict(notes),
}
found["no_labels"] = refused(lambda: tune.make(variant, parent, out, blind, quiet))

# A model that takes three samples at a time, no more and no fewer; what is normal; a value.
fixed = models.saved(models.mlp(widths=(20, 12), batch=3), FOLDER, "fixed.onnx")
tune.make(
    Variant("t", "tuned", lesson(4, "labels")),
    fixed,
    out,
    kitchen(SOME, TRAIN, original=fixed, task=PROBABILITIES),
    quiet,
)
found["fixed"] = {"before": right(fixed), "after": right(out)}
wide = models.saved(models.autoencoder(), FOLDER, "wide.onnx")
sound, mixed = models.signals(500, 5), models.signals(500, 6, bad=0.3)
narrow = models.saved(models.autoencoder(seed=9, widths=(12, 6)), FOLDER, "narrow.onnx")
task = Reconstruction("reconstruction")
notes = tune.make(
    Variant("t", "tuned", lesson(6, "labels")),
    narrow,
    out,
    kitchen(sound, mixed, original=wide, task=task),
    quiet,
)
errors = [float(np.mean((models.run(path, sound.rows) - sound.rows) ** 2)) for path in (narrow, out)]
normal = notes["learned_from"] + notes["held_out"] == int((mixed.truth == 0).sum())
found["reconstruction"] = {"before": errors[0], "after": errors[1], "only_normal": normal}
targets = replace(sound, truth=(sound.rows[:, :32] * 2.0).astype(np.float64))
tune.make(
    Variant("t", "tuned", lesson(6, "labels")),
    narrow,
    out,
    kitchen(sound, targets, original=wide, task=Value("reconstruction")),
    quiet,
)
errors = [float(np.mean((models.run(path, sound.rows) - targets.truth) ** 2)) for path in (narrow, out)]
found["value"] = {"before": errors[0], "after": errors[1]}
# One target in a unit a thousand times as small: the others are learned all the same.
targets.truth[:, 0] *= 1_000.0
tune.make(
    Variant("t", "tuned", lesson(6, "labels")),
    narrow,
    out,
    kitchen(sound, targets, original=wide, task=Value("reconstruction")),
    quiet,
)
errors = [
    float(np.mean((models.run(path, sound.rows) - targets.truth)[:, 1:] ** 2)) for path in (narrow, out)
]
found["units"] = {"before": errors[0], "after": errors[1]}

# INT8 that one scale per tensor ruins: the channels of a layer differ by a factor of 64, undone by the next.
model = models.conv_net()
arrays = {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in model.graph.initializer}
factors = np.where(np.arange(len(arrays["bn1.scale"])) % 3 == 0, 64.0, 1.0).astype(np.float32)
arrays["bn1.scale"] *= factors
arrays["bn1.shift"] *= factors
arrays["conv2.weight"] /= factors[:, None, None]
for tensor in model.graph.initializer:
    tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))
uneven = models.saved(model, FOLDER, "uneven.onnx")
here = kitchen(SOME, TRAIN, original=uneven, task=LOGITS)
by_name = {each.name: each for each in qat.proposals(uneven, here)}
chosen = next(each for each in by_name.values() if not each.recipe["per_channel"])
recipe = {key: value for key, value in chosen.recipe.items() if key not in ("epochs", "rate")}
plain = FOLDER / "plain.onnx"
int8 = {key: value for key, value in recipe.items() if key in static.Int8.__dataclass_fields__}
static.make(Variant("s", "int8-static", int8), uneven, plain, here, quiet)
notes = qat.make(replace(chosen, recipe={**recipe, "epochs": 10, "rate": 2e-3}), uneven, out, here, quiet)
found["qat"] = {
    "original": right(uneven),
    "plain": right(plain),
    "trained": right(out),
    "sizes": [path.stat().st_size for path in (uneven, plain, out)],
    "notes": dict(notes),
    "names": sorted(by_name),
}
made = open_graph(out)
levels = [array for array in weights(made).values() if array.dtype == np.int8 and array.size > 1]
found["qat"]["levels"] = [min(int(each.min()) for each in levels), max(int(each.max()) for each in levels)]
network = Network(made, ["logits"])
found["qat"]["off"] = require_alike(network, made, TEST.rows)

# Writing what was not trained changes nothing.
graph = open_graph(original)
save_graph(graph, out)
untouched = out.read_bytes()
Network(graph, ["logits"]).write_into(graph)
save_graph(graph, out)
found["untouched"] = untouched == out.read_bytes()


# A student of one's own.
class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2)
        )
        self.head = torch.nn.Linear(8 * 16, models.CLASSES)

    def forward(self, rows):
        return self.head(self.body(rows).flatten(1))


torch.manual_seed(3)
teacher = models.saved(models.mlp(), FOLDER, "teacher.onnx")
small = Small()
blind = Dataset(TRAIN.rows, None)
learned = distil_into(small, Original(teacher), blind, out, lesson=Lesson(15, 5e-3, "teacher"))
found["student"] = {
    "teacher": right(teacher),
    "student": right(out),
    "learned": learned.notes(),
    "sum": float(models.run(out, TEST.rows).sum(1).mean()),
    "outputs": [output.name for output in onnx.load(str(out)).graph.output],
}
big = models.saved(models.conv_net(), FOLDER, "big.onnx")
source = Original(big, features={"pool1": "body.2"})
learned = distil_into(Small(), source, TRAIN, out, lesson=Lesson(15, 5e-3, "labels"))
found["hinted"] = {"teacher": right(big), "student": right(out), "learned": learned.notes()}
narrow = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
found["wrong_width"] = refused(lambda: distil_into(narrow, Original(big), TRAIN, out))
source = Original(big, features={"pool1": "nowhere"})
found["wrong_module"] = refused(lambda: distil_into(Small(), source, TRAIN, out))


# What is refused, by name.
def one_node(op, domain, *inputs, **attributes):
    nodes = [
        helper.make_node(op, ["x", *inputs], ["y"], name="odd", domain=domain, **attributes),
        helper.make_node("Identity", ["y"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "odd",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, 1, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.ones(shape, np.float32), name)
            for name, shape in WEIGHTS
            if name in inputs
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    path = FOLDER / "odd.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())
    return lambda: tune.make(variant, path, out, kitchen(SOME, TRAIN, original=path, task=LOGITS), quiet)


WEIGHTS = (("w", (1, 8, 4)), ("r", (1, 8, 2)))
found["recurrent"] = refused(one_node("LSTM", "", "w", "r", hidden_size=2))
found["other_domain"] = refused(one_node("Scaler", "ai.onnx.ml", offset=[0.0], scale=[1.0]))
wild = Variant("t", "tuned", {"epochs": 3, "rate": 9e4, "loss": "labels", "batch": 8})
found["too_few"] = refused(
    lambda: tune.make(
        wild, parent, out, kitchen(SOME, TRAIN.some(np.arange(9)), original=original, task=LOGITS), quiet
    )
)
found["diverged"] = refused(lambda: tune.make(wild, parent, out, here, quiet))
found["threads"] = torch.get_num_threads()

closure = sorted({name for one in ("torch", "onnx", "onnxscript") for name in runtime_closure(one, [])})
found["licences"] = {name: licence_of(name) for name in closure}
sys.stdout.write(json.dumps(found))
