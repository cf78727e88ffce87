"""`init`: from a source to a working scenario folder, and what was guessed on the way."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp

from advisor.candidates import lineup
from advisor.resolution import Resolution, resolution
from advisor.scenario.load import load_scenario
from advisor.starting.answers import Answers, baseline, understand
from advisor.starting.checks import is_unknown
from advisor.starting.columns import Wishes
from advisor.starting.draft import Draft, Guess, Measure, refuse
from advisor.starting.openai_evals import goal_from
from advisor.starting.sources import read_source
from advisor.starting.splitting import divide
from advisor.starting.write import Plan, write_folder
from backends.errors import InputError, Problem
from backends.wording import agreeing, counted

_LONGEST_NAME = 60
_FEW_TEST = 100
"""Fewer test rows settle nothing but large differences."""


@dataclass(frozen=True)
class Made:
    """A scenario that was written, and what it rests on."""

    folder: Path
    guesses: tuple[Guess, ...]
    lost: tuple[str, ...]
    """What was not taken over, one sentence each."""
    splits: tuple[tuple[str, int], ...]
    """Rows of train, dev and test."""
    problems: tuple[Problem, ...]
    """What `advisor check` says about the folder; empty when all is in order."""
    warnings: tuple[str, ...] = ()
    resolved: Resolution | None = None
    """What the test rows can tell apart; None where the scenario does not load."""


def init(
    source: Path,
    into: Path | None = None,
    *,
    name: str | None = None,
    wishes: Wishes | None = None,
    force: bool = False,
) -> Made:
    """Make a scenario folder of a source.

    Args:
        source: a CSV, TSV, JSONL, JSON, Parquet or promptfoo YAML file, a chat file, an export of OpenAI Evals, or a
            folder of one of these.
        into: the folder to write; by default one of the scenario's name in the current folder.
        name: of the scenario; by default that of the folder `into`, without one the source's.
        wishes: which columns are input and target.
        force: whether a folder that exists already is replaced.

    Returns:
        The folder, every guess, and what `advisor check` finds.

    Raises:
        InputError: the source cannot be used, or the folder exists. Nothing is written then.
    """
    called = _name(name, source if into is None else into)
    folder = into if into is not None else Path(called)
    if not force:
        _must_be_new(folder)
    plan = _plan(source, called, wishes or Wishes())
    _write(folder, plan, source, force)
    return _checked(folder, plan)


def _name(name: str | None, named_after: Path) -> str:
    """A name that a scenario may have: the one given, else that of a file or a folder."""
    if name is not None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", name):
            raise refuse("--name", f"{name!r} is no name of letters, digits and _ . - .", "Choose another.")
        return name
    stem = named_after.resolve().stem if named_after.is_file() else named_after.resolve().name
    found = re.sub(r"[^A-Za-z0-9_.-]+", "_", stem).strip("_.-")[:_LONGEST_NAME]
    return found or "scenario"


def _must_be_new(folder: Path) -> None:
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        what = "the folder exists already." if folder.is_dir() else "there is a file of that name."
        raise refuse(str(folder), what, "Choose another with --into DIR, or replace its files with --force.")


def _plan(source: Path, name: str, wishes: Wishes) -> Plan:
    draft = read_source(source, wishes)
    answers = understand(draft.examples, draft.answers_known)
    answers = answers if draft.measure is None else _with_the_sources_scorer(draft, draft.measure, answers)
    parts = divide(draft.examples, source.name, stratify=bool(answers.labels))
    instructions, told = _instructions(draft, answers)
    target, goal = _goal(draft, answers)
    guesses = (*draft.guesses, *told, *answers.guesses, *parts.guesses, *_means(draft), goal, *_size(len(parts.test)))
    lost = tuple(one[:1].upper() + one[1:] for one in (*draft.lost, *parts.lost))
    return Plan(name, source.name, draft, parts, answers, answers.measure, instructions, target, guesses, lost)


def _with_the_sources_scorer(draft: Draft, measure: Measure, answers: Answers) -> Answers:
    """The source says how answers are scored; labels are only guessed where answers must be equal."""
    scorer = measure.scorer if isinstance(measure.scorer, str) else measure.scorer["name"]
    if scorer == "exact" and answers.labels and draft.answers_known:
        guesses = tuple(guess for guess in answers.guesses if guess.what != "scorer")
        return replace(answers, measure=measure, guesses=guesses)
    return Answers(measure, 0.8 if draft.answers_known else 0.7)


def _instructions(draft: Draft, answers: Answers) -> tuple[str, tuple[Guess, ...]]:
    """The source's instructions, with what the form of answers adds; or a stand-in that loads."""
    if draft.instructions and draft.instructions.strip():
        return draft.instructions.strip(), ()
    if answers.labels:
        text = f"Answer with one of these labels and nothing else: {', '.join(answers.labels)}."
    elif answers.schema is not None:
        text = "Answer with a JSON object and nothing else."
    elif answers.measure.scorer == "numeric":
        text = "Answer with the number and nothing else."
    elif answers.measure.scorer == "sql_logical_form":
        text = "Answer with one SQL query and nothing else."
    elif answers.measure.scorer == "tool_calls":
        text = 'Answer with a JSON list of calls, [{"name": ..., "arguments": {...}}], and nothing else.'
    else:
        text = "Answer with the text that is asked for and nothing else."
    target = next((guess.value for guess in draft.guesses if guess.what == "target"), "the answer")
    asked = next((guess.value for guess in draft.guesses if guess.what == "input"), "the message")
    why = "the source has none; these are made of the columns' names"
    check = "Say what you would tell a new colleague: what each answer means, and where neighbouring ones part."
    text = f"TODO: say what is to be done. Given: {asked}. Wanted: {target}.\n{textwrap.fill(text, 110)}"
    return text, (Guess("instructions", "a stand-in, marked TODO", why, check),)


def _goal(draft: Draft, answers: Answers) -> tuple[float, Guess]:
    check = "Nobody but you knows what is good enough. What does a wrong answer cost, and what is reached today?"
    if draft.pass_rate is not None:
        target = goal_from(draft.pass_rate)
        why = f"{draft.pass_rate:.0%} of the answers passed when the source was last run; this is three points below"
        return target, Guess("goal", f"target {target:g}", why, check)
    target, why = answers.target, "a place to begin for scores of this kind"
    if answers.labels:
        label, share = baseline([example.target for example in draft.examples])
        why = f"always answering {label!r} would score {share:.2f}; this is well above it"
    return target, Guess("goal", f"target {target:g}", why, check)


def _means(draft: Draft) -> Iterator[Guess]:
    """Why only one prompt is asked, and which rows to mend so that everything can be tried."""
    if draft.answers_known:
        return
    unknown = [example.place for example in draft.examples if is_unknown(example.target)]
    have = agreeing(len(unknown), "has", "have")
    where = f"{counted(len(unknown), 'row')}, the first from {unknown[0]}, {have}" if unknown else "the rows have"
    why = f"{where} no right answer that passes its own checks, so no technique can learn from them"
    check = "Can you give them right answers? Then write `techniques: auto`, and everything is tried."
    yield Guess("techniques", "one prompt, no fine-tuning", why, check)


def _size(tests: int) -> Iterator[Guess]:
    if tests < _FEW_TEST:
        why = "an interval of five points takes about 200"
        yield Guess(
            "size", counted(tests, "test row"), why, "Can you add rows? With so few, only large differences show."
        )


def _write(folder: Path, plan: Plan, source: Path, force: bool) -> None:
    """Write beside the folder first, so that it is whole or not there."""
    parent = folder.absolute().parent
    if force and source.resolve().is_relative_to(folder.resolve()):
        raise refuse(
            str(folder), "the source lies in the folder that would be replaced.", "Choose another with --into DIR."
        )
    try:
        parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(mkdtemp(prefix=f".{folder.name}-", dir=parent))
    except OSError as error:
        raise refuse(str(folder), f"cannot be written: {error.strerror}.", "Choose another with --into DIR.") from None
    try:
        unfinished.chmod(0o755)
        write_folder(unfinished, plan, folder.resolve().name)
        _place(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _place(unfinished: Path, folder: Path) -> None:
    """Put the files in place; what else lies in a folder that exists stays."""
    folder.mkdir(exist_ok=True)
    for file in sorted(unfinished.iterdir()):
        file.replace(folder / file.name)


def _checked(folder: Path, plan: Plan) -> Made:
    splits = tuple((split, len(examples)) for split, examples in plan.parts.items())
    try:
        scenario = load_scenario(folder)
        found = resolution(scenario, lineup(scenario))
    except InputError as error:
        return Made(folder, plan.guesses, plan.lost, splits, tuple(error.problems))
    return Made(folder, plan.guesses, plan.lost, splits, (), scenario.warnings, found)
