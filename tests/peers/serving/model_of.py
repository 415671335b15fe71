"""How all three servers run a model: ONNX Runtime, one thread, first input, first output."""

import numpy as np
import onnxruntime as ort


class Model:
    """A loaded model: rows of its first input in, rows of its first output out."""

    def __init__(self, path):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.input = self._session.get_inputs()[0].name
        self.output = self._session.get_outputs()[0].name
        self.shape = self._session.get_inputs()[0].shape[1:]
        self.answer_shape = self._session.get_outputs()[0].shape[1:]

    def run(self, rows):
        """Return the answers to rows of any shape that has the right size."""
        rows = np.ascontiguousarray(rows, np.float32).reshape(-1, *self.shape)
        return self._session.run([self.output], {self.input: rows})[0]
