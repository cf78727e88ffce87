"""What a `scenario.yaml` may say: the one source of its validation, its JSON Schema and its reference page.

Write the JSON Schema again: `python -m advisor.scenario.schema > advisor/scenario/schema.json`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from advisor.scenario.endpoints import ENDPOINTS_SCHEMA
from advisor.scenario.fields import (
    Count,
    InnerShare,
    Label,
    NamedList,
    NamedOrText,
    NotNegative,
    Positive,
    Section,
    Share,
    Text,
    wrong,
)

SCHEMA_FILE = Path(__file__).with_name("schema.json")

DEFAULT_MODEL = "local/smollm2-135m"
DEFAULT_EMBEDDER = "local/all-minilm-l6-v2"
DEFAULT_MARGIN = 0.03


class SplitLimits(Section):
    """How many samples of each split are used, at most."""

    train: Count | None = Field(default=None, description="Train samples at most.")
    dev: Count | None = Field(default=None, description="Dev samples at most.")
    test: Count | None = Field(default=None, description="Test samples at most; --limit takes fewer still.")


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
    limit: SplitLimits = Field(
        default=SplitLimits(), description="Use at most so many samples of a split: the first of a seeded order."
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


class ProbeSection(Section):
    """General questions to ask before and after a training."""

    file: Text = Field(description="File of questions: input, target and, optionally, choices.")
    name: Text | None = Field(default=None, description="What the report calls it. Default: the file's name.")
    columns: ColumnNames = Field(default=ColumnNames(), description="Names of the file's fields, where they differ.")
    limit: Count | None = Field(default=None, description="Questions at most: the first of a seeded order.")


def _probes(value: Any) -> Any:
    """A file, a mapping or a list of either, as a list of mappings."""
    named = value if isinstance(value, list) else [value]
    return [{"file": one} if isinstance(one, str) else one for one in named]


_PROBE_FILE: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {
            "type": "object",
            "properties": {
                "file": {"type": "string", "minLength": 1},
                "name": {"type": "string", "minLength": 1},
                "columns": {"type": "object"},
                "limit": {"type": "integer", "minimum": 1},
            },
            "required": ["file"],
            "additionalProperties": False,
        },
    ]
}
_PROBE_SCHEMA = {"anyOf": [*_PROBE_FILE["anyOf"], {"type": "array", "items": _PROBE_FILE, "minItems": 1}]}


class TeacherSection(Section):
    """A candidate whose answers to unlabelled inputs the tuned model learns from."""

    inputs: Text = Field(
        description="File of inputs to answer; targets in it are not read. Inputs that are also in train, dev or test "
        "are left out."
    )
    candidate: NamedOrText | None = Field(
        default=None,
        description="Technique that teaches, a name or {name: NAME, option: value}; it is a candidate whether "
        "`techniques` lists it or not. Default: the pick of the run, else the best on dev.",
    )
    model: Text | None = Field(default=None, description="Model that teaches. Default: any of `models`.")
    samples: Count = Field(default=1000, description="Inputs to answer at most: the first of a seeded order.")
    usd: NotNegative | None = Field(
        default=None, description="Dollars that its answers may cost; asking ends before an input that could cost more."
    )
    answers: Count = Field(
        default=3,
        description="Answers asked for each input at most: the first as tested, the others drawn at temperature 0.7.",
    )
    agreement: Share = Field(
        default=1.0,
        description="Share of these answers that must agree with the first, by the scorer, for it to be taught.",
    )
    gold: Literal["include", "exclude"] = Field(
        default="include", description="Whether the tuned model learns from the train split too."
    )


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
    probe: Annotated[list[ProbeSection], BeforeValidator(_probes), WithJsonSchema(_PROBE_SCHEMA)] = Field(
        default=[],
        description="File of general questions (input, target, choices) asked before and after, or a list of such "
        "files: FILE or {file: FILE, name: NAME, columns: {input: X}, limit: N}. Default: 64 of ours.",
    )
    teacher: TeacherSection | None = Field(
        default=None, description="Candidate whose answers to unlabelled inputs the tuned model learns from."
    )
    recipe: dict[str, Any] = Field(default={}, description="Hyperparameters of the tuner, such as epochs or rank.")


class Hosting(Section):
    """The machine that local models run on."""

    usd_per_hour: NotNegative | None = Field(default=None, description="What an hour of it costs, in USD.")
    utilisation: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="Share of the paid time in which it works at the measured rates."
    )
    always_on: bool = Field(
        default=False, description="It is paid all month, 730 hours, whether requests come or not; whole machines."
    )


class EconomicsSection(Section):
    """What the money figures assume, beyond what was measured."""

    usd_per_label: NotNegative = Field(
        default=0.0, description="What a train or dev label costs, in USD. Default 0: those there are were paid for."
    )
    evaluation_share: Share = Field(
        default=1.0, description="Share of the dollars of evaluating a fine-tune that count as its cost."
    )
    tuned_usd_per_month: NotNegative = Field(
        default=0.0, description="Fee a month for keeping a tuned model deployed at an endpoint, in USD."
    )
    growth_per_month: Annotated[float, Field(gt=-1, le=1)] = Field(
        default=0.0, description="Growth of the requests from month to month: 0.05 is 5 % more each."
    )
    volume_spread: NotNegative = Field(
        default=0.8,
        description="Uncertainty of the requests a month, as the standard deviation of their logarithm: with 0.8 they "
        "are within a factor of 2.2 in two of three cases.",
    )
    life_spread: Annotated[float, Field(gt=0, le=2)] = Field(
        default=0.5, description="Uncertainty of a fine-tune's life: its standard deviation as a share of its mean."
    )
    saving_spread: NotNegative = Field(
        default=0.0, description="Uncertainty of what a request saves, as the standard deviation of its logarithm."
    )
    success: Share | None = Field(
        default=None, description="Probability that a fine-tune comes off. Default: as forecast, 1 once it is shown."
    )
    retraining_months: Positive | None = Field(
        default=None,
        description="Months until a tuned model must be trained again. Default by knowledge.volatility: never when "
        "static, else whenever the answers change (1 month, 0.23, 0.033; realtime as daily).",
    )


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
    scorer: NamedOrText = Field(description="Name, {name: NAME, option: value} or file.py:function.")
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
    techniques: NamedList = Field(
        default=None,
        description="auto, or a list of names and {name: NAME, option: value}.",
        json_schema_extra={"default": "auto"},
    )
    endpoints: Annotated[dict[str, dict[str, Any]], WithJsonSchema(ENDPOINTS_SCHEMA)] = Field(
        default={}, description="Servers that speak the OpenAI protocol, by the first part of their models' names."
    )
    goal: GoalSection = Field(description="What a candidate must reach.")
    traffic: TrafficSection = Field(default=TrafficSection(), description="What production looks like.")
    budget: Budget = Field(default=Budget(), description="What the whole run may use.")
    fine_tune: FineTuneSection = Field(default=FineTuneSection(), description="Whether and how to fine-tune.")
    hosting: Hosting = Field(default=Hosting(), description="The machine that local models run on.")
    economics: EconomicsSection = Field(
        default=EconomicsSection(), description="What the money figures assume, beyond what was measured."
    )


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
