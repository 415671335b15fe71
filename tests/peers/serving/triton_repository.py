"""Triton with all models of a folder: ``triton_repository.py FOLDER PORT``; ports: HTTP, the next gRPC.

The program comes with nvidia-pytriton; its backend for Python is the only one there, so the models run in it.
"""

import pathlib
import sys

from repository_of import Loaded, models_of
from triton_program import become, new_repository

PROGRAM = """\
import os, sys

sys.path[:0] = os.environ["PEER_PATH"].split(":")
import triton_python_backend_utils as pb_utils
from repository_of import Loaded


class TritonPythonModel:
    def initialize(self, args):
        self.model = Loaded(
            os.path.join(os.environ["PEER_FOLDER"], args["model_name"], args["model_version"], "model.onnx")
        )

    def execute(self, requests):
        responses = []
        for each in requests:
            names = [one.name for one in self.model.inputs]
            found = self.model.run({n: pb_utils.get_input_tensor_by_name(each, n).as_numpy() for n in names})
            tensors = [pb_utils.Tensor(n, found[n]) for n in found if n in each.requested_output_names()]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses
"""


def tensors(ports, skipped):
    return ", ".join(
        f'{{ name: "{one.name}" data_type: TYPE_FP32 dims: {list(one.shape[skipped:])} }}' for one in ports
    )


def main():
    """Become the server."""
    folder, port = pathlib.Path(sys.argv[1]).resolve(), int(sys.argv[2])
    repository = new_repository(port)
    for name, version, path in models_of(folder):
        model = Loaded(path)
        place = repository / name / version
        place.mkdir(parents=True)
        (place / "model.py").write_text(PROGRAM)
        (repository / name / "config.pbtxt").write_text(
            f'name: "{name}"\nbackend: "python"\nmax_batch_size: {8 * model.open}\n'
            f"input [{tensors(model.inputs, model.open)}]\noutput [{tensors(model.outputs, model.open)}]\n"
            "instance_group [{ kind: KIND_CPU count: 1 }]\nversion_policy: { all {} }\n"
            + ("dynamic_batching {}\n" if model.open else "")
        )
    become(repository, port, {"PEER_FOLDER": str(folder)})


if __name__ == "__main__":
    main()
