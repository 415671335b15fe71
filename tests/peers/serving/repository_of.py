"""A repository of models as servers show it: every output, fixed or open first axis, several versions."""

import pathlib

import onnxruntime as ort


class Loaded:
    """A loaded model: arrays of its inputs in, arrays of all its outputs out."""

    def __init__(self, path):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = self._session.get_inputs()
        self.outputs = self._session.get_outputs()
        self.open = not isinstance(self.inputs[0].shape[0], int)

    def run(self, inputs):
        """Return all outputs by name."""
        names = [one.name for one in self.outputs]
        return dict(zip(names, self._session.run(names, inputs), strict=True))


def models_of(folder):
    """Yield name, version and file of every ``<name>/<version>/model.onnx``."""
    for path in sorted(pathlib.Path(folder).glob("*/*/model.onnx")):
        yield path.parent.parent.name, path.parent.name, path
