"""What a `scenario.yaml` may say: the one source of its validation, its JSON Schema and its reference page.

Write the JSON Schema again: `python -m advisor.scenario.schema > advisor/scenario/schema.json`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

SCHEMA_FILE = Path(__file__).with_name("schema.json")

DEFAULT_MODEL = "local/smollm2-135m"
DEFAULT_EMBEDDER = "local/all-minilm-l6-v2"
DEFAULT_MARGIN = 0.03


def wrong(what: str, remedy: str) -> PydanticCustomError:
    """A validation error in our words; `what` continues a sentence that starts with the key."""
    return PydanticCustomError("advisor", "{what} {remedy}", {"what": what, "remedy": remedy})


def _share(value: float) -> float:
    """A fraction; 85 was meant as 0.85."""
    if 1 < value <= 100:
        raise wrong(f"is {value:g}, but scores lie between 0 and 1:", f"write {value / 100:g}.")
    if not 0 <= value <= 1:
        raise wrong(f"is {value:g}, but scores lie between 0 and 1.", "")
    return value


def _inner_share(value: float) -> float:
    value = _share(value)
    if value in (0, 1):
        raise wrong(
            f"is {value:g}, which no finite number of samples can prove or refute.", "Write 0.99, for instance."
        )
    return value


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _named_all(value: Any) -> Any:
    if value == "auto":
        return None
    return [_named(item) for item in value] if isinstance(value, list) else value


def _label(value: Any) -> Any:
    """Labels that YAML reads as numbers or truth values, written as the data's are."""
    return value if isinstance(value, str) or value is None else json.dumps(value)


Share = Annotated[float, AfterValidator(_share), Field(json_schema_extra={"minimum": 0, "maximum": 1})]
InnerShare = Annotated[
    float, AfterValidator(_inner_share), Field(json_schema_extra={"exclusiveMinimum": 0, "exclusiveMaximum": 1})
]
Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
Label = Annotated[
    str, BeforeValidator(_label), Field(min_length=1), WithJsonSchema({"type": ["string", "number", "boolean"]})
]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A mapping whose keys are all known."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Data(Section):
    """Where the samples are: three files, or one file and how to split it."""

    train: Text | None = Field(
        default=None, description="Samples that techniques learn from: .jsonl, .csv, .parquet or hf:"
    )
    dev: Text | None = Field(default=None, description="Samples that techniques choose their own settings on.")
    test: Text | None = Field(default=None, description="Samples the verdict rests on; nothing else looks at them.")
    all: Text | None = Field(default=None, description="One file with all samples, in place of the three.")
    split: tuple[Positive, Positive, Positive] | None = Field(
        default=None, description="With `all`: shares of train, dev and test.", strict=False
    )
    seed: int | None = Field(default=None, description="With `all`: seed of the split. Default 1.")
    where: dict[str, Annotated[list[Label], Field(min_length=1)]] = Field(
        default={}, description="Keep only rows whose field (`target` or any other) is one of the values listed."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Data:
        files = [self.train, self.dev, self.test]
        names = [name for name, value in zip(("train", "dev", "test"), files, strict=True) if value is None]
        if self.all is None and self.split is None and self.seed is None:
            if names:
                lacks = " and ".join(names)
                raise wrong(f"lacks {lacks}.", "Name three files, or one: data: {all: FILE, split: [0.5, 0.2, 0.3]}.")
        elif len(names) < 3:
            raise wrong("mixes files (train, dev, test) with one that is split (all, split, seed).", "Choose one way.")
        elif self.all is None or self.split is None:
            raise wrong("needs both `all` and `split`.", "Write data: {all: FILE, split: [0.5, 0.2, 0.3], seed: 1}.")
        return self


class ColumnNames(Section):
    """Names of the data's fields, where they differ from ours."""

    id: Text | None = Field(
        default=None, description="Field with the sample's id. Without one, ids are split and line."
    )
    input: Text | None = Field(default=None, description="Field with what the model is asked.")
    target: Text | None = Field(default=None, description="Field with the right answer.")
    group: Text | None = Field(
        default=None, description="Field with the cluster a sample was drawn in: document, customer."
    )


class GoalSection(Section):
    """What a candidate must reach, and at what price."""

    target: InnerShare = Field(description="Mean score a candidate must reach, between 0 and 1.")
    margin: InnerShare | None = Field(
        default=None, description="A candidate this far above the target must not be missed. Default 0.03, less near 1."
    )
    confidence: InnerShare = Field(
        default=0.95, description="Confidence, over all candidates together, that a pick is right."
    )
    max_usd_per_1k_requests: NotNegative | None = Field(
        default=None, description="Dearest acceptable 1,000 requests, in USD."
    )
    max_p95_seconds: Positive | None = Field(
        default=None, description="Slowest acceptable 95th percentile, in seconds."
    )
    max_error_rate: Share = Field(default=0.01, description="Largest acceptable share of requests that fail.")
    mode: Literal["strict", "tolerant", "careful"] = Field(
        default="strict", description="strict: certify against target; tolerant: 0.01 below it; careful: give up later."
    )

    @model_validator(mode="after")
    def _room_above(self) -> GoalSection:
        if self.margin is not None and self.target + self.margin >= 1:
            remedy = f"Write a margin below {1 - self.target:.3g}."
            raise wrong(f"has target {self.target:g} and margin {self.margin:g}, together 1 or more.", remedy)
        return self


class TrafficSection(Section):
    """What production looks like, for break-even figures."""

    requests_per_month: Positive | None = Field(default=None, description="Requests a month.")
    months: Positive = Field(default=12.0, description="Months the answer is to serve.")
    usd_per_error: NotNegative | None = Field(default=None, description="What a wrong answer costs, in USD.")


class Budget(Section):
    """What the whole run may use."""

    usd: NotNegative | None = Field(
        default=None, description="Dollars that may leave the house; the run stops before more."
    )
    minutes: Positive | None = Field(default=None, description="Minutes of wall-clock time.")


class FineTuneSection(Section):
    """Whether and how to fine-tune."""

    when: Literal["needed", "pays", "always", "never"] = Field(
        default="needed",
        description="needed: when nothing else meets the goal; pays: also when it is cheaper over time.",
    )
    backend: Literal["local", "openai", "scripted"] = Field(default="local", description="Who trains.")
    base: Text | None = Field(
        default=None, description="Model to tune. Default: the first of `models` the backend can tune."
    )
    max_usd: NotNegative | None = Field(default=None, description="Dollars that fine-tuning may use.")
    pilot: bool = Field(
        default=True, description="Train on a quarter and a half first, and stop when the forecast leaves no chance."
    )
    probe: Text | None = Field(
        default=None,
        description="File of general questions (input, target, choices) asked before and after. Default: 64 of ours.",
    )
    recipe: dict[str, Any] = Field(default={}, description="Hyperparameters of the tuner, such as epochs or rank.")


class Hosting(Section):
    """The machine that local models run on."""

    usd_per_hour: NotNegative | None = Field(default=None, description="What an hour of it costs, in USD.")


class Knowledge(Section):
    """How the facts behind the answers behave."""

    volatility: Literal["static", "monthly", "weekly", "daily", "realtime"] = Field(
        default="static",
        description="How often right answers change; facts that change daily are no reason to fine-tune.",
    )


class ChainStep(Section):
    """One prompt of a chain."""

    name: Text = Field(description="Name of the step; later prompts may refer to its output by it.")
    prompt: Text = Field(
        description="What the model is told in this step; {input} and {NAME} of earlier steps are filled in, {{ and }}"
        " are braces."
    )
    model: Text | None = Field(default=None, description="Model asked in this step. Default: the candidate's own.")
    labels: Annotated[list[Label], Field(min_length=2)] | None = Field(
        default=None, description="The closed set of this step's outputs. Default: free, for the last step the task's."
    )
    output_schema: Text | None = Field(
        default=None, description="File with the JSON Schema of this step's output. Default: as for labels."
    )
    max_tokens: Annotated[int, Field(gt=0)] | None = Field(
        default=None, description="Most tokens of this step's output. Default: 200, for the last step by the targets."
    )


class Named(BaseModel):
    """A name with options beside it."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    name: Text

    @property
    def options(self) -> Mapping[str, Any]:
        """Everything beside the name."""
        return self.model_extra or {}


_NAMED_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    ]
}
_TECHNIQUES_SCHEMA = {"anyOf": [{"const": "auto"}, {"type": "array", "items": _NAMED_SCHEMA, "minItems": 1}]}


class ScenarioFile(Section):
    """A task for a language model, what it must reach, and what may be tried and spent."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")] = Field(
        description="Short name of letters, digits and _ . - ."
    )
    description: str = Field(default="", description="One sentence on what the task is.")
    data: Data = Field(description="Where the samples are.")
    columns: ColumnNames = Field(
        default=ColumnNames(), description="Names of the data's fields, where they differ from ours."
    )
    instructions: Text = Field(description="What the model is to do, as one would tell a colleague.")
    labels: Annotated[list[Label], Field(min_length=2)] | None = Field(
        default=None, description="The closed set of answers, if there is one; answers are held to it."
    )
    output_schema: Text | None = Field(default=None, description="File with the JSON Schema that answers must follow.")
    scorer: Annotated[Named, BeforeValidator(_named), WithJsonSchema(_NAMED_SCHEMA)] = Field(
        description="Name, {name: NAME, option: value} or file.py:function."
    )
    documents: Text | None = Field(
        default=None, description="Folder of .md, .txt, .pdf files or a .jsonl file to retrieve from."
    )
    tools: Text | None = Field(default=None, description="tools.py (functions that are run) or tools.jsonl (schemas).")
    chain: list[ChainStep] = Field(default=[], description="Steps of the prompt chain; there is a default one.")
    knowledge: Knowledge = Field(default=Knowledge(), description="How the facts behind the answers behave.")
    models: Annotated[list[Text], Field(min_length=1)] = Field(
        default=[DEFAULT_MODEL], description="Models to compare, each backend/model."
    )
    embedder: Text = Field(
        default=DEFAULT_EMBEDDER, description="Model that embeds texts for retrieval and neighbours."
    )
    techniques: Annotated[
        Annotated[list[Named], Field(min_length=1)] | None,
        BeforeValidator(_named_all),
        WithJsonSchema(_TECHNIQUES_SCHEMA),
    ] = Field(
        default=None,
        description="auto, or a list of names and {name: NAME, option: value}.",
        json_schema_extra={"default": "auto"},
    )
    goal: GoalSection = Field(description="What a candidate must reach.")
    traffic: TrafficSection = Field(default=TrafficSection(), description="What production looks like.")
    budget: Budget = Field(default=Budget(), description="What the whole run may use.")
    fine_tune: FineTuneSection = Field(default=FineTuneSection(), description="Whether and how to fine-tune.")
    hosting: Hosting = Field(default=Hosting(), description="The machine that local models run on.")


PLACEHOLDERS: Mapping[str, Any] = {
    "name": "x",
    "data": {"train": "x", "dev": "x", "test": "x"},
    "instructions": "x",
    "scorer": "exact",
    "goal": {"target": 0.5},
}
"""Valid values of the required keys: they stand in for wrong ones while the rest is looked at."""


def schema_text() -> str:
    """The JSON Schema of `scenario.yaml`, as checked in at SCHEMA_FILE."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **ScenarioFile.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
