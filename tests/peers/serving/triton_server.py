"""Triton with a model: ``triton_server.py MODEL PORT [BATCH]``; ports: HTTP, the next gRPC.

The program comes with nvidia-pytriton; its backend for Python is the only one there, so the model runs in it.
"""

import sys

from triton_program import become, new_repository

CONFIG = """\
name: "model"
backend: "python"
max_batch_size: 32
input [{{ name: "{model.input}" data_type: TYPE_FP32 dims: [{dims}] }}]
output [{{ name: "{model.output}" data_type: TYPE_FP32 dims: [{answer_dims}] }}]
instance_group [{{ kind: KIND_CPU count: 1 }}]
{batching}
"""
PROGRAM = """\
import os, sys

sys.path[:0] = os.environ["PEER_PATH"].split(":")
import triton_python_backend_utils as pb_utils
from model_of import Model
import numpy as np


class TritonPythonModel:
    def initialize(self, args):
        self.model = Model(os.environ["PEER_MODEL"])

    def execute(self, requests):
        rows = [pb_utils.get_input_tensor_by_name(each, self.model.input).as_numpy() for each in requests]
        answers = self.model.run(np.concatenate(rows))
        responses, at = [], 0
        for each in rows:
            tensor = pb_utils.Tensor(self.model.output, answers[at : at + len(each)])
            responses.append(pb_utils.InferenceResponse([tensor]))
            at += len(each)
        return responses
"""


def main():
    """Become the server."""
    from model_of import Model

    path, port, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1
    model = Model(path)
    repository = new_repository(port)
    (repository / "model" / "1").mkdir(parents=True)
    (repository / "model" / "1" / "model.py").write_text(PROGRAM)
    (repository / "model" / "config.pbtxt").write_text(
        CONFIG.format(
            model=model,
            dims=", ".join(map(str, model.shape)),
            answer_dims=", ".join(map(str, model.answer_shape)),
            batching="dynamic_batching {}" if batch > 1 else "",
        )
    )
    become(repository, port, {"PEER_MODEL": path})


if __name__ == "__main__":
    main()
