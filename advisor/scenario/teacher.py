"""The teacher of a scenario: which candidate it must be, and the unlabelled inputs that it will answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from advisor.scenario.fields import Named
from advisor.scenario.findings import Findings
from advisor.scenario.model import Teacher, TechniqueSpec, Unlabelled
from advisor.scenario.paths import shown
from advisor.scenario.samples import Samples
from advisor.scenario.schema import ScenarioFile, TeacherSection
from advisor.techniques import registry as techniques
from evals.data import Columns, Table, as_text, to_samples
from evals.files import read_table
from evals.leakage import unseen

_KEY = ("fine_tune", "teacher")


def read_teacher(said: ScenarioFile, samples: Samples, findings: Findings) -> Teacher:
    """The teacher with its inputs; those that may not be used are left out and counted."""
    asked = said.fine_tune.teacher
    if asked is None:
        raise AssertionError("a scenario without a teacher has nothing to read")
    wanted = None if asked.candidate is None else TechniqueSpec(asked.candidate.name, asked.candidate.options)
    if wanted is not None:
        _check_technique(wanted, findings)
    plain = {key: value for key, value in asked if key not in {"inputs", "candidate"}}
    inputs = _read_inputs(said, asked, samples, findings)
    return Teacher(inputs, wanted, _specs(wanted, said.techniques), **plain)


def _check_technique(wanted: TechniqueSpec, findings: Findings) -> None:
    found = techniques.problems(wanted.name, wanted.params)
    for what in found:
        findings.problem((*_KEY, "candidate"), what, "")
    if not found and techniques.make(wanted.name, wanted.params).tunes:
        what = f"{wanted.name} trains a model, and a teacher is needed before any is trained."
        findings.problem((*_KEY, "candidate"), what, "Name a technique that needs no training.")


def _specs(wanted: TechniqueSpec | None, said: Sequence[Named] | None) -> tuple[TechniqueSpec, ...]:
    """The techniques of the scenario that the teacher may be; its own where there is none.

    They are candidates also where the command line names other techniques: a student is compared with its teacher.
    """
    if wanted is None:
        return ()
    listed = [TechniqueSpec(one.name, one.options) for one in said or ()]
    able = [one for one in listed if one.name == wanted.name and wanted.params.items() <= one.params.items()]
    return tuple(able) or (wanted,)


def _read_inputs(said: ScenarioFile, asked: TeacherSection, samples: Samples, findings: Findings) -> Unlabelled:
    path = findings.file((*_KEY, "inputs"), asked.inputs)
    if path is None:
        return Unlabelled((), 0)
    table = read_table(path, shown(path, findings.folder))
    columns = Columns({role: name for role, name in said.columns if name is not None})
    kept = _filtered(table, columns, said.data.where)
    placed, problems = to_samples(kept, columns, "input", labelled=False)
    findings.problems += [*table.problems, *problems]
    new, left_out = unseen(placed, samples.splits)
    if not (new or table.problems or problems):
        what = f"{kept.where} has no input that is not in train, dev or test already."
        findings.problem((*_KEY, "inputs"), what, "Name a file with other inputs.")
    held = ", ".join(f"{count} {'repeated' if why == 'repeated' else f'in {why}'}" for why, count in left_out.items())
    if held:
        findings.warnings.append(f"{kept.where}: {sum(left_out.values())} inputs are left out ({held}).")
    return Unlabelled(tuple(one.sample for one in new), len(placed), left_out)


def _filtered(table: Table, columns: Columns, where: Mapping[str, Sequence[str]]) -> Table:
    """The rows that the filter of the data lets pass; unlabelled ones have no target that could be looked at."""

    def passes(fields: Mapping[str, object]) -> bool:
        named = {name: fields.get(columns.of(name)) for name in where}
        return all(
            as_text(value) in where[name] for name, value in named.items() if name != "target" or value is not None
        )

    return Table(table.where, tuple(row for row in table.rows if passes(row.fields)), table.problems)
