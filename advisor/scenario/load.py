"""Loads a scenario: everything is read and checked here, and all problems are told at once."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from advisor.goal import Goal
from advisor.scenario import answers, assets, chain, choices, documents, toolbox
from advisor.scenario.complaints import problems_of
from advisor.scenario.document import Document as ScenarioDocument
from advisor.scenario.document import read_document
from advisor.scenario.endpoints import declare_endpoints
from advisor.scenario.findings import Findings
from advisor.scenario.model import (
    BudgetLimits,
    Economics,
    FineTune,
    Hosting,
    Overrides,
    Probe,
    Scenario,
    Teacher,
    TechniqueSpec,
    Traffic,
)
from advisor.scenario.paths import FILE_NAME
from advisor.scenario.probes import read_probes
from advisor.scenario.samples import DEFAULT_SEED, Samples, read_samples
from advisor.scenario.schema import DEFAULT_MARGIN, PLACEHOLDERS, GoalSection, ScenarioFile
from advisor.scenario.teacher import read_teacher
from backends.errors import InputError, Problem
from evals.scorers.base import AnyScorer
from evals.splits import shuffled_prefix
from evals.task import ChainStep, Document, Task, Toolbox

_DATA = frozenset({".csv", ".tsv", ".jsonl", ".parquet"})
"""Endings of files that people name in place of a scenario."""

__all__ = ["Overrides", "Scenario", "TechniqueSpec", "load_scenario"]


def load_scenario(path: str | Path, overrides: Overrides | None = None) -> Scenario:
    """Load a scenario from its folder or file.

    Raises one InputError with every problem found: form, files, data, labels, scorer, models and techniques.
    """
    overrides = overrides or Overrides()
    file = find_scenario(Path(path))
    document = read_document(file)
    findings = Findings(document, file.parent)
    said, wrong_keys = _validate(document, findings)
    labels = () if "labels" in wrong_keys else tuple(said.labels or ())
    samples = Samples()
    if not {"data", "columns"} & wrong_keys:
        samples = read_samples(said.data, said.columns, labels, findings)

    checked = _check(said, wrong_keys, overrides, samples, findings)
    if findings.problems or checked.scorer is None:
        raise InputError(findings.in_order())
    return _scenario(file, said, overrides, samples, checked, findings)


@dataclass(frozen=True)
class _Checked:
    """What had to be loaded in order to be checked."""

    scorer: AnyScorer | None
    output_schema: str | None
    documents: tuple[Document, ...]
    tools: Toolbox | None
    chain: tuple[ChainStep, ...]
    probes: tuple[Probe, ...]
    models: tuple[str, ...]
    techniques: tuple[TechniqueSpec, ...] | None
    teacher: Teacher | None


def _check(
    said: ScenarioFile, wrong_keys: set[str], overrides: Overrides, samples: Samples, findings: Findings
) -> _Checked:
    """Everything beyond form and data. Keys that are wrong already hold stand-ins and are passed over."""
    labels = tuple(said.labels or ())
    choices.check_overrides(overrides, findings)
    if overrides.batch and said.goal.max_p95_seconds is not None:
        what = "batches do not tell how long a user waits, and goal.max_p95_seconds limits that."
        findings.problems.append(Problem("--batch", what, "Leave out --batch, or remove the limit."))
    declare_endpoints({} if "endpoints" in wrong_keys else said.endpoints, findings)
    answers.check_labels(labels, findings)
    answers.check_classes(labels, samples, findings)
    scorer = None if "scorer" in wrong_keys else answers.load_scorer(said.scorer, findings)
    if scorer is not None:
        answers.check_targets(scorer, samples.everything(), findings)
    if "embedder" in said.model_fields_set or getattr(scorer, "embeds", False):
        choices.check_embedder(said.embedder, findings.document.place(("embedder",)), findings)
    choices.check_base(said.fine_tune, findings)
    if said.fine_tune.when == "pays" and said.traffic.requests_per_month is None:
        what = "fine_tune.when is pays, but how many requests there will be is not known."
        findings.problem(("fine_tune", "when"), what, "Set traffic.requests_per_month, or write needed.")
    named = () if "models" in wrong_keys else tuple(said.models)
    passages = documents.load_documents(said.documents, findings) if said.documents else ()
    documents.check_gold_documents(samples.everything(), passages, findings)
    return _Checked(
        scorer=scorer,
        output_schema=said.output_schema
        and assets.read_output_schema(said.output_schema, samples.everything(), findings),
        documents=passages,
        tools=toolbox.load_toolbox(said.tools, findings) if said.tools else None,
        chain=chain.load_chain(said.chain, findings),
        probes=read_probes(said.fine_tune.probe, findings),
        models=choices.choose_models(named, overrides.models, findings),
        techniques=choices.choose_techniques(said.techniques, overrides.techniques, findings),
        teacher=read_teacher(said, samples, findings) if said.fine_tune.teacher else None,
    )


def _scenario(
    file: Path, said: ScenarioFile, overrides: Overrides, samples: Samples, checked: _Checked, findings: Findings
) -> Scenario:
    if checked.scorer is None:
        raise AssertionError("a scenario without problems has a scorer")
    files = (file, *dict.fromkeys(findings.files))
    seed = _first_known(overrides.seed, said.data.seed, DEFAULT_SEED)
    test = samples.of("test")
    if overrides.limit is not None:
        test = shuffled_prefix(test, overrides.limit, seed, stratify=bool(said.labels))
    return Scenario(
        file=file,
        folder=file.parent,
        name=said.name,
        description=said.description,
        task=Task(
            name=said.name,
            instructions=said.instructions,
            train=samples.of("train"),
            dev=samples.of("dev"),
            test=test,
            labels=tuple(said.labels or ()),
            output_schema=checked.output_schema,
            documents=checked.documents,
            tools=checked.tools,
            chain=checked.chain,
        ),
        scorer=checked.scorer,
        scorer_name=answers.scorer_label(said.scorer),
        goal=_goal(said.goal),
        traffic=Traffic(**dict(said.traffic)),
        budget=BudgetLimits(
            usd=said.budget.usd if overrides.budget_usd is None else overrides.budget_usd, minutes=said.budget.minutes
        ),
        fine_tune=FineTune(
            **{key: value for key, value in said.fine_tune if key not in {"probe", "teacher"}}, teacher=checked.teacher
        ),
        models=checked.models,
        endpoints=said.endpoints,
        embedder=said.embedder,
        techniques=checked.techniques,
        volatility=said.knowledge.volatility,
        probes=checked.probes,
        hosting=Hosting(**dict(said.hosting)),
        economics=Economics(**dict(said.economics)),
        stated=_stated(said),
        seed=seed,
        hash=_hash(said, files, samples.hub),
        files=files,
        warnings=tuple(findings.warnings),
    )


def find_scenario(path: Path) -> Path:
    """The scenario file a path means. Raises InputError when there is none."""
    file = path / FILE_NAME if path.is_dir() else path
    if path.is_file() and path.suffix in _DATA:
        what = "is data, and no scenario."
        raise InputError(Problem(str(path), what, f"Make a scenario of it: advisor init {shlex.quote(str(path))}"))
    if file.is_file():
        return file.absolute()
    if path.is_dir():
        raise InputError(
            Problem(
                str(path),
                f"the folder has no {FILE_NAME}.",
                "Write one; scenarios/helpdesk_routing is an example to copy.",
            )
        )
    raise InputError(
        Problem(str(path), "there is no such scenario.", f"Name a folder with a {FILE_NAME}, or the file.")
    )


def _validate(document: ScenarioDocument, findings: Findings) -> tuple[ScenarioFile, set[str]]:
    """What the file says, and which top-level keys are wrong: those hold placeholders or defaults."""
    try:
        return ScenarioFile.model_validate(document.content), set()
    except ValidationError as error:
        findings.problems += problems_of(error, document)
        wrong = {str(details["loc"][0]) for details in error.errors(include_url=False)}
        right = {key: value for key, value in document.content.items() if str(key) not in wrong}
        return ScenarioFile.model_validate({**PLACEHOLDERS, **right}), wrong


def _stated(said: ScenarioFile) -> frozenset[str]:
    sections = {name: getattr(said, name) for name in said.model_fields_set}
    return frozenset(
        f"{name}.{key}"
        for name, section in sections.items()
        if isinstance(section, BaseModel)
        for key in section.model_fields_set
    )


def _first_known(*values: int | None) -> int:
    return next(value for value in values if value is not None)


def _goal(said: GoalSection) -> Goal:
    """The goal; a margin that was not given shrinks where the target leaves no room for it."""
    margin = min(DEFAULT_MARGIN, (1 - said.target) / 2) if said.margin is None else said.margin
    return Goal(**{**dict(said), "margin": margin})


def _hash(said: ScenarioFile, files: Sequence[Path], hub: Sequence[str]) -> str:
    """Content, not form: comments and the order of keys in scenario.yaml do not count, nor where the folder lies."""
    digest = hashlib.sha256()
    for part in _hashed(said, files, hub):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def _hashed(said: ScenarioFile, files: Sequence[Path], hub: Sequence[str]) -> Iterator[bytes]:
    content = said.model_dump(mode="json")
    if not said.endpoints:
        # Scenarios without any keep the hash they had before there were endpoints.
        del content["endpoints"]
    yield json.dumps(content, ensure_ascii=False, sort_keys=True).encode()
    for path in files[1:]:
        yield path.name.encode()
        yield path.read_bytes()
    yield from (row.encode() for row in hub)
