"""LitServe with a model: ``litserve_server.py MODEL PORT [BATCH]``; JSON, as its documentation has it."""

import sys

import litserve
import numpy as np
from model_of import Model


class Served(litserve.LitAPI):
    """The model behind ``/predict``."""

    def setup(self, device):
        self.model = Model(sys.argv[1])

    def decode_request(self, request):
        return np.array(request["input"], np.float32)

    def predict(self, rows):
        answers = self.model.run(rows)
        return answers if rows.ndim > 1 else answers[0]

    def encode_response(self, answer):
        return {"output": answer.tolist()}


if __name__ == "__main__":
    batch = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    served = Served(max_batch_size=batch, batch_timeout=0.0)
    server = litserve.LitServer(served, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[2]),
        num_api_servers=1,
        log_level="error",
        generate_client_file=False,
    )
