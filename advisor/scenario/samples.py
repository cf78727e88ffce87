"""The data part of a scenario: reads, filters, splits and checks the samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from advisor.scenario.findings import Findings
from advisor.scenario.paths import shown
from advisor.scenario.schema import ColumnNames, Data
from backends.wording import agreeing, counted
from evals.data import Columns, Placed, Table, as_text, to_samples
from evals.files import read_table
from evals.hub import read_hub
from evals.leakage import label_problems, split_problems, without_repeats
from evals.splits import shuffled_prefix, split_indices
from evals.task import Sample, Split

SPLITS: tuple[Split, ...] = get_args(Split)
DEFAULT_SEED = 1


@dataclass
class Samples:
    """What the data of a scenario came to."""

    splits: dict[Split, tuple[Placed, ...]] = field(default_factory=dict)
    hub: list[str] = field(default_factory=list)
    """Rows that came from a hub, as canonical text, since there are no files to hash."""

    @property
    def complete(self) -> bool:
        """True when every split has samples."""
        return all(self.splits.get(split) for split in SPLITS)

    def everything(self) -> list[Placed]:
        """The samples of all splits."""
        return [placed for split in SPLITS for placed in self.splits.get(split, ())]

    def of(self, split: Split) -> tuple[Sample, ...]:
        """The samples of one split, without their places."""
        return tuple(placed.sample for placed in self.splits[split])


def read_samples(data: Data, columns: ColumnNames, labels: tuple[str, ...], findings: Findings) -> Samples:
    """The samples in their splits, checked against each other and against the labels."""
    reader = _Reader(data, Columns({role: name for role, name in columns if name is not None}), findings)
    if data.all is None:
        reader.read_files()
    else:
        reader.split_file(data.all, stratify=bool(labels))
    samples = reader.samples
    if samples.complete:
        _check_filter(data, samples, findings)
        if not _same_file(findings):
            findings.problems += split_problems(samples.splits)
    if labels:
        findings.problems += label_problems(samples.splits, labels)
    _limit(data, samples, stratify=bool(labels))
    return samples


def _limit(data: Data, samples: Samples, stratify: bool) -> None:
    """Keep as many samples of a split as are wanted: the first of a seeded order, left in the file's."""
    seed = DEFAULT_SEED if data.seed is None else data.seed
    for split in SPLITS:
        most, placed = getattr(data.limit, split), samples.splits.get(split, ())
        if most is not None:
            kept = {one.id for one in shuffled_prefix([one.sample for one in placed], most, seed, stratify)}
            samples.splits[split] = tuple(one for one in placed if one.sample.id in kept)


class _Reader:
    def __init__(self, data: Data, columns: Columns, findings: Findings) -> None:
        self._data = data
        self._columns = columns
        self._findings = findings
        self.samples = Samples()

    def read_files(self) -> None:
        """One file a split."""
        for split in SPLITS:
            text = {"train": self._data.train, "dev": self._data.dev, "test": self._data.test}[split]
            self.samples.splits[split] = tuple(self._part(split, text or ""))

    def split_file(self, text: str, stratify: bool) -> None:
        """One file, cut by the seed. Its repeated rows are left out first, so that none can straddle two splits."""
        kept, repeats, problems = without_repeats(self._part("all", text))
        self._findings.problems += problems
        if repeats:
            told = agreeing(len(repeats), "repeats an earlier one and is", "repeat an earlier one and are")
            first = f"{repeats[0][0]} repeats {repeats[0][1]}"
            self._findings.warnings.append(f"{counted(len(repeats), 'row')} {told} left out ({first}).")
        if not kept:
            return
        seed = DEFAULT_SEED if self._data.seed is None else self._data.seed
        parts = split_indices([placed.sample for placed in kept], self._data.split or (), seed, stratify)
        for split, part in zip(SPLITS, parts, strict=True):
            self.samples.splits[split] = tuple(kept[index] for index in part)
            if not part:
                what = f"the {split} split is empty: {text} has too few samples ({len(kept)}) or groups."
                self._findings.problem(("data", "split"), what, "Add some, or raise its share.")

    def _part(self, key: str, text: str) -> list[Placed]:
        """The samples of one file that pass the filter."""
        table = self._table(key, text)
        if table is None:
            return []
        placed, problems = to_samples(table, self._columns, key)
        self._findings.problems += [*table.problems, *problems]
        wanted = self._data.where
        kept = [one for one in placed if all(_field(one, name) in values for name, values in wanted.items())]
        if placed and not kept:
            what = f"data.where leaves no sample of {table.where}: the {key} split is empty."
            self._findings.problem(("data", "where"), what, "Check the values listed.")
        return kept

    def _table(self, key: str, text: str) -> Table | None:
        if text.startswith("hf:"):
            table = read_hub(text, key)
            self.samples.hub += [as_text(dict(row.fields)) or "" for row in table.rows]
            return table
        path = self._findings.file(("data", key), text)
        return None if path is None else read_table(path, shown(path, self._findings.folder))


def _check_filter(data: Data, samples: Samples, findings: Findings) -> None:
    """A value that no sample has is a slip of the pen: it would make the task smaller than meant."""
    for name, values in data.where.items():
        present = {_field(placed, name) for placed in samples.everything()}
        for position, value in enumerate(values):
            if value not in present:
                path = ("data", "where", name, position)
                findings.problem(path, f"no sample has {value!r} as {name}.", "Correct or remove it.")


def _same_file(findings: Findings) -> bool:
    paths = [path.resolve() for path in findings.files]
    if len(set(paths)) == len(paths):
        return False
    remedy = "Name a file for each, or one file to be split: data: {all: FILE, split: [0.5, 0.2, 0.3]}."
    findings.problem(("data",), "two of train, dev and test are the same file.", remedy)
    return True


def _field(placed: Placed, name: str) -> str | None:
    """A field of a sample as text, by our name for it or the data's."""
    sample = placed.sample
    if name in ("id", "input", "target", "group"):
        return {"id": sample.id, "input": sample.input, "target": sample.target, "group": sample.group}[name]
    return as_text(sample.metadata.get(name))
