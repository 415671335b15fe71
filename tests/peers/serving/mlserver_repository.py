"""MLServer with all models of a folder: ``mlserver_repository.py FOLDER PORT``; HTTP, then gRPC, metrics."""

import asyncio
import pathlib
import sys

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceResponse, MetadataTensor

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from repository_of import Loaded, models_of


class Served(MLModel):
    """A model of the folder."""

    async def load(self):
        self._model = Loaded(self.settings.parameters.uri)
        return True

    async def predict(self, payload):
        found = self._model.run({one.name: NumpyCodec.decode_input(one) for one in payload.inputs})
        wanted = [one.name for one in payload.outputs or ()] or list(found)
        outputs = [NumpyCodec.encode_output(name, found[name]) for name in wanted]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)


def told(ports):
    return [
        MetadataTensor(
            name=one.name,
            datatype="FP32",
            shape=[size if isinstance(size, int) else -1 for size in one.shape],
        )
        for one in ports
    ]


async def main():
    """Serve until the process is ended."""
    port = int(sys.argv[2])
    server = MLServer(
        Settings(
            host="127.0.0.1",
            http_port=port,
            grpc_port=port + 1,
            metrics_port=port + 2,
            parallel_workers=0,
            debug=False,
        )
    )
    settings = []
    for name, version, path in models_of(sys.argv[1]):
        model = Loaded(path)
        settings.append(
            ModelSettings(
                name=name,
                implementation=Served,
                inputs=told(model.inputs),
                outputs=told(model.outputs),
                parameters=ModelParameters(uri=str(path), version=version),
            )
        )
    await server.start(settings)


if __name__ == "__main__":
    asyncio.run(main())
