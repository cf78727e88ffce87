"""The probes of a scenario: general questions, asked before and after a training to see what was forgotten."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from advisor.scenario.findings import Findings
from advisor.scenario.model import Probe
from advisor.scenario.paths import shown
from advisor.scenario.samples import DEFAULT_SEED
from advisor.scenario.schema import ProbeSection
from backends.errors import Problem
from evals.data import Columns, Placed, to_samples
from evals.files import read_table
from evals.splits import shuffled_prefix
from evals.task import Sample

_KEY = ("fine_tune", "probe")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def read_probes(said: Sequence[ProbeSection], findings: Findings) -> tuple[Probe, ...]:
    """Every file of questions, each with `input`, `target` and, optionally, `choices`, and a name of its own."""
    found = tuple(_read(one, findings) for one in said)
    names = Counter(one.name for one in found)
    for name in (name for name, count in names.items() if count > 1):
        findings.problem(_KEY, f"two probes are called {name!r}.", "Give each a name: {file: FILE, name: NAME}.")
    return found


def _read(said: ProbeSection, findings: Findings) -> Probe:
    path = findings.file(_KEY, said.file)
    name = said.name or Path(said.file).stem
    if path is None:
        return Probe(name, ())
    table = read_table(path, shown(path, findings.folder))
    columns = Columns({role: name for role, name in said.columns if name is not None})
    placed, problems = to_samples(table, columns, "probe")
    findings.problems += [*table.problems, *problems]
    questions = tuple(_question(one, findings) for one in placed)
    if said.limit is not None:
        questions = shuffled_prefix(questions, said.limit, DEFAULT_SEED, stratify=False)
    return Probe(name, questions)


def _question(placed: Placed, findings: Findings) -> Sample:
    """A question whose target is the text of a choice; in files of exams it is often the choice's letter."""
    sample = placed.sample
    choices = sample.metadata.get("choices")
    if choices is None:
        return sample
    if isinstance(choices, list):
        texts = [*map(str, choices)]
        if sample.target in texts:
            return sample
        at = _LETTERS.find(sample.target) if len(sample.target) == 1 else -1
        if 0 <= at < len(texts):
            return replace(sample, target=texts[at])
    what = "the choices of a probe question are a list that holds its target, or the target is a choice's letter."
    findings.problems.append(Problem(placed.place, what, "Correct or remove the choices."))
    return sample
