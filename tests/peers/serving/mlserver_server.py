"""MLServer with a model: ``mlserver_server.py MODEL PORT [BATCH]``; HTTP, then gRPC, then metrics."""

import asyncio
import pathlib
import sys

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceResponse, MetadataTensor


class Served(MLModel):
    """The model under the name ``model``."""

    async def load(self):
        from model_of import Model

        self._model = Model(self.settings.parameters.uri)
        return True

    async def predict(self, payload):
        answers = self._model.run(NumpyCodec.decode_input(payload.inputs[0]))
        outputs = [NumpyCodec.encode_output(self._model.output, answers)]
        return InferenceResponse(model_name=self.name, outputs=outputs)


async def main():
    """Serve until the process is ended."""
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    from model_of import Model

    model = Model(sys.argv[1])
    port, batch = int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1
    server = MLServer(
        Settings(
            host="127.0.0.1",
            http_port=port,
            grpc_port=port + 1,
            metrics_port=port + 2,
            parallel_workers=0,  # its quickest way: in the process of the server
            debug=False,
        )
    )
    batching = {"max_batch_size": batch, "max_batch_time": 0.001} if batch > 1 else {}
    settings = ModelSettings(
        name="model",
        implementation=Served,
        inputs=[MetadataTensor(name=model.input, datatype="FP32", shape=[-1, *model.shape])],
        outputs=[MetadataTensor(name=model.output, datatype="FP32", shape=[-1, *model.answer_shape])],
        parameters=ModelParameters(uri=sys.argv[1], version="1"),
        **batching,
    )
    await server.start([settings])


if __name__ == "__main__":
    asyncio.run(main())
