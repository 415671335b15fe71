"""The models that are compressed, and where they and the samples to judge them by come from."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_opcua.assets import examples_dir
from edge_opcua.bench.plc.peers import INSTALLED
from edge_opcua.compress.options import Options
from edge_opcua.compress.variant import Family
from edge_opcua.errors import EdgeError

OURS: Final = "ours"
SKLEARN: Final = "notebook-sklearn"
TORCH: Final = "notebook-torch"
TRAINING_S: Final = 600.0

INT8: Final[frozenset[Family]] = frozenset({"clean", "int8-static", "int8-dynamic"})
PRUNED: Final[frozenset[Family]] = frozenset({"clean", "int8-static", "pruned"})


@dataclass(frozen=True, slots=True)
class Script:
    """A script of the examples that has to run before.

    Args:
        interpreter: Environment it needs: ``ours``, or a folder below ``tests/peers/.installed``.
        name: File in ``examples/compress``.
        arguments: What it is given; ``{data}`` is the folder of all files.
    """

    interpreter: str
    name: str
    arguments: tuple[str, ...] = ("{data}",)


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that is compressed.

    Args:
        name: What it is called here.
        text: What it is, for people.
        model: File or folder; ``{models}`` are those of the examples, ``{data}`` what the scripts made.
        samples: Beginning of the names of its files of samples.
        scripts: What has to run before.
        families: What is tried.
        ending: How those names end.
        output: The output that is looked at, where there are several.
        also: What is tried too because somebody named it: it does damage.
        fits: Whether layers behind those that were pruned are fitted to the samples of the training as well.
    """

    name: str
    text: str
    model: str
    samples: str
    scripts: tuple[Script, ...]
    families: frozenset[Family]
    ending: str = "npz"
    output: str | None = None
    also: tuple[str, ...] = ()
    fits: bool = False

    def model_in(self, data: Path) -> Path:
        """Return where its model is."""
        return Path(self.model.format(models=examples_dir() / "compress" / "models", data=data))

    def samples_in(self, data: Path, what: str) -> Path:
        """Return where its samples are: ``gate``, ``calibration`` or ``train``."""
        return data / f"{self.samples}-{what}.{self.ending}"

    def options(self, data: Path, work: Path) -> Options:
        """Return what is asked for."""
        return Options(
            calibration=self.samples_in(data, "calibration"),
            output=self.output,
            training=self.samples_in(data, "train") if self.fits else None,
            only=self.families,
            also=self.also,
            work=work / self.name,
        )


DIGITS: Final = Script(SKLEARN, "digits.py")
STROKES: Final = Script(OURS, "strokes.py")
SUBJECTS: Final[Sequence[Subject]] = (
    Subject(
        "digits-cnn",
        "convolutions on images, trained by PyTorch on 497 digits of scikit-learn",
        "{models}/digits-cnn.onnx",
        "digits",
        (DIGITS,),
        INT8,
        also=("qoperator-s8", "int8-dynamic-convolutions"),
    ),
    Subject(
        "press-autoencoder",
        "a package of the press: convolutional autoencoder on the vibration of simulated strokes",
        "{models}/press-autoencoder/1",
        "press",
        (STROKES,),
        PRUNED,
    ),
    Subject(
        "wear",
        "classifier of scikit-learn on 66 features of simulated strokes",
        "{models}/wear.onnx",
        "wear",
        (STROKES, Script(SKLEARN, "wear_classifier.py", ("{data}", "{data}/wear.onnx"))),
        INT8,
        output="probabilities",
    ),
    Subject(
        "digits-wide",
        "the first one with twice as many channels, far more than ten digits need",
        "{data}/digits-wide.onnx",
        "digits",
        (DIGITS, Script(TORCH, "digits_cnn.py", ("{data}", "{data}/digits-wide.onnx", "2"))),
        PRUNED,
        fits=True,
    ),
    Subject(
        "cancer",
        "classifier of scikit-learn, and too few samples",
        "{data}/cancer.onnx",
        "cancer",
        (Script(SKLEARN, "breast_cancer.py"),),
        INT8,
        ending="csv",
        output="probabilities",
    ),
)


class Kiln:
    """Makes models and samples, each once.

    Args:
        data: Folder of all files.
    """

    def __init__(self, data: Path) -> None:
        self.data = data
        self._done: set[Script] = set()

    def prepare(self, subject: Subject) -> None:
        """Run what a model needs before it can be compressed.

        Raises:
            EdgeError: An environment is not there, or a script failed.
        """
        for script in subject.scripts:
            if script not in self._done:
                self._run(script)
                self._done.add(script)

    def _run(self, script: Script) -> None:
        python = python_of(script.interpreter)
        file = examples_dir() / "compress" / script.name
        arguments = [argument.format(data=self.data) for argument in script.arguments]
        try:
            done = subprocess.run(  # noqa: S603 - our own script
                [python, "-W", "ignore", file, *arguments],
                capture_output=True,
                text=True,
                timeout=TRAINING_S,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise EdgeError(f"{script.name} took more than {TRAINING_S:g} s") from exc
        if done.returncode:
            raise EdgeError(f"{script.name} failed: {done.stderr.strip()[-500:]}")


def python_of(interpreter: str) -> Path:
    """Return the interpreter of an environment.

    Raises:
        EdgeError: It is not there.
    """
    if interpreter == OURS:
        return Path(sys.executable)
    found = INSTALLED / interpreter / "bin" / "python"
    if not found.exists():
        package = interpreter.removeprefix("notebook-")
        raise EdgeError(f"{package} is not here: tests/peers/install-notebooks {package} in a checkout")
    return found


def named(subjects: Sequence[Subject]) -> Mapping[str, Subject]:
    """Return subjects by their names."""
    return {subject.name: subject for subject in subjects}
