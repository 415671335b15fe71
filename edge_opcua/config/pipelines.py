"""What is judged: a capture or samples of tags, a model, a deadline, and what happens without a verdict."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator
from pydantic_core import PydanticCustomError

from edge_opcua.config.fields import STRICT, FailSafeVerdict, InputName, Milliseconds, Name, Reference
from edge_opcua.config.lanes import CheaperVersion, LaneName, LatePolicy
from edge_opcua.config.modelcare import ChangeConfig, WatchConfig


class PipelineConfig(BaseModel):
    """A capture, or samples of tags, that become features, go through a model, and come out as a verdict."""

    model_config = STRICT

    name: Name = Field(description="Name; its results are the block `<name>.result`.")
    model: Name = Field(description="Name of the model in the model repository.")
    version: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=1,
        description="Version that is active at the first start; `LoadModel` changes it at run time.",
    )
    backend: str = Field(
        default="onnxruntime", description="What runs the model, a plugin of the group `edge_opcua.backends`."
    )
    provider: Literal["cpu", "cuda", "tensorrt", "openvino", "tensorrt_rtx", "remote"] = Field(
        default="cpu",
        description="Where the model runs; the start is refused if it cannot run exactly there.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Options of the backend; its page in the reference lists them."
    )
    lane: LaneName = Field(
        default="realtime",
        description="Class of the lane. `safety`: a process and a real-time priority of its own, the newest "
        "capture wins. `realtime`: by deadline, with admission. `best_effort`: what is left, shed first.",
    )
    group: Name | None = Field(
        default=None,
        description="Pipelines of one group share a process, its models and its workers, and are judged in "
        "batches where that pays; a process of its own if left out.",
    )
    priority: Annotated[int, Field(ge=1, le=9)] = Field(
        default=5,
        description="Who is shed last when not all can be served, 1 the last; deadlines decide before.",
    )
    period_ms: Milliseconds | None = Field(
        default=None,
        description="Shortest time between two captures, for the report on what can be served; the deadline "
        "if left out.",
    )
    late: LatePolicy = Field(
        default="fail_safe",
        description="What a late verdict becomes: `fail_safe` the fail-safe verdict, `hold_last` the last "
        "verdict as Uncertain, `publish_late` itself as Uncertain. A safety lane falls safe.",
    )
    max_batch: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=32, description="Most captures judged in one run of the model; 1 switches batches off."
    )
    cheaper_version: CheaperVersion | None = Field(
        default=None,
        description="Version of the same model that judges while this one is too slow. `auto`: the fastest "
        "that was compressed from the same original, proved to be as good, and is faster than the one that "
        "runs, whichever that is.",
    )
    memory_mb: Annotated[int, Field(ge=16, le=1_000_000)] | None = Field(
        default=None,
        description="Most memory (MB) that the process of the pipeline may use, at least 128; for a group "
        "the sum of its pipelines. What the machine can spare if left out, also at one of the group only.",
    )
    load_s: Annotated[float, Field(gt=0, le=600)] = Field(
        default=30, description="Longest time (s) to load and prove the model; then it is refused."
    )
    capture: Reference | None = Field(
        default=None, description="Capture that triggers the pipeline, `<device>/<capture>`; or `inputs`."
    )
    inputs: dict[InputName, Reference] = Field(
        default={},
        description="Tags whose samples the model is fed with, instead of a capture: a list of "
        '`<device>/<tag>`, each called by its tag\'s name, or a table `name = "<device>/<tag>"`.',
    )
    every_ms: Milliseconds | None = Field(
        default=None, description="With `inputs`: time from one sample of them to the next."
    )
    trigger: Reference | None = Field(
        default=None,
        description="With `inputs`, instead of `every_ms`: tag, `<device>/<tag>`; a sample is taken each "
        "time its value changes.",
    )
    window: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=1, description="With `inputs`: samples of each tag that the model is given at once."
    )
    context: tuple[Reference, ...] = Field(
        default=(), description="Tags the model also looks at, `<device>/<tag>`, in the order of its inputs."
    )
    part_id: Reference | None = Field(
        default=None, description="Tag with the number of the part in the machine, told with each result."
    )
    deadline_ms: Milliseconds = Field(
        default=100,
        description="Time from the capture being read to the verdict; later is the fail-safe verdict.",
    )
    fail_safe_verdict: FailSafeVerdict = Field(
        default="NotDecidable", description="Verdict given out when a result is late or an input is Bad."
    )

    @field_validator("inputs", mode="before")
    @classmethod
    def _inputs_have_names(cls, value: Any) -> Any:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            return value
        named: dict[str, str] = {}
        for reference in value:
            name = reference.rpartition("/")[2]
            if name in named:
                help_text = f'give them names: inputs = {{ {name} = "{named[name]}", other = "{reference}" }}'
                raise PydanticCustomError(
                    "C197",
                    "{first} and {second} would both be called {name}",
                    {"first": named[name], "second": reference, "name": name, "help": help_text},
                )
            named[name] = reference
        return named

    change: ChangeConfig = Field(default=ChangeConfig(), description="How a new version takes over.")
    watch: WatchConfig = Field(default=WatchConfig(), description="What the model is watched for.")
    keep_windows: bool = Field(
        default=True,
        description="Whether what the model judged is kept (`windows_mb` of `[models]`), for `model try`, "
        "`model compare` and retraining.",
    )

    @property
    def source(self) -> str:
        """What its strokes are captures or samples of, for people: the capture, else its own name."""
        return self.capture or self.name

    @property
    def samples_block(self) -> str:
        """Bus name of the block with the samples of its tags."""
        return f"{self.name}.samples"

    @property
    def result_block(self) -> str:
        """Bus name of the block with the results."""
        return f"{self.name}.result"

    @property
    def process(self) -> str:
        """Name of the group of pipelines that share this one's process: its own name if it is alone."""
        return self.group or self.name

    @property
    def lane_block(self) -> str:
        """Bus name of the block with the health of the lane."""
        return f"{self.name}.lane"

    @property
    def shadow_block(self) -> str:
        """Bus name of the block in which a version in shadow says how far it agrees."""
        return f"{self.name}.shadow"

    @property
    def watch_block(self) -> str:
        """Bus name of the block in which the model is watched."""
        return f"{self.name}.watch"
