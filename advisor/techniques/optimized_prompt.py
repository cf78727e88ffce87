"""Optimised prompt: instructions rewritten by a model that reads where they failed, and kept when they do better."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from advisor.techniques.base import FitContext, Technique, read_state, write_state
from advisor.techniques.choose import shuffled, summary
from advisor.techniques.forecast import Ask, Prospect, Round, Way
from advisor.techniques.forecast import Plan as Forecast
from advisor.techniques.instructions import complaint, listed_answers
from advisor.techniques.prompt import Prompt
from advisor.techniques.search import GROWN, MINIBATCH, Allowance, Plan, reflection_tokens, rounds_asked
from advisor.techniques.zero_shot import ZeroShot
from backends.errors import RequestError
from backends.extras import require
from backends.meter import Meter
from backends.types import ChatRequest, Message, Usage, add_known
from backends.wording import counted
from evals.runner import Solve
from evals.task import Sample, Task
from evals.trial import Trial

_LEAF = "advisor.techniques.evolution"
_FEWEST_CALLS = 30
"""Fewer cannot try the seed, reflect once, and try what came of it."""
_MOST_REJECTED = 5
"""Unusable proposals in a row after which the reflector is taken to be unable."""
_TEMPERATURE = 0.7
_USED_UP = "the budget of the search leaves no room for another round"
_MOST_ROWS, _LONGEST_ROW = 20, 1_000
"""Prompts in the history, and characters that are kept of each."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One prompt of the search."""

    prompt: str
    parent: int | None
    """Number of the prompt it was made from; None for the seed."""
    outcome: str
    n: int
    """Dev samples it was tried on."""
    errors: int
    score: float | None
    """Mean on dev over the samples without an error."""
    calls: int
    """Calls used when it was proposed."""


@dataclass(frozen=True, slots=True)
class FittedOptimizedPrompt:
    """The best prompt that was found."""

    technique: ClassVar[str] = "optimized_prompt"
    prompt: Prompt
    best: int
    """Which attempt it is; 0 is the seed."""
    attempts: tuple[Attempt, ...]
    calls: int
    usd: float | None
    """Dollars of the search; None when a price is not known."""
    ended: str
    """Why the search ended."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The prompt, what it and its seed score on dev, what the search took and its history."""
        seed, best = self.attempts[0], self.attempts[self.best]
        return {
            "instructions": self.prompt.instructions,
            "dev_samples": best.n,
            "dev_score": best.score,
            "seed_dev_score": seed.score,
            "calls": self.calls,
            "usd": self.usd,
            "ended": self.ended,
            "history": [_row(number, attempt) for number, attempt in _kept(self.attempts, self.best)],
        }

    @property
    def tuned(self) -> None:
        """Answers with the candidate's own model."""
        return None

    async def solve(self, sample: Sample, models: Meter) -> str:
        """One request."""
        return (await models.complete(self.prompt.request(sample.input))).text

    def save(self, folder: Path) -> None:
        """Write the prompt and how it was found."""
        write_state(folder, self.technique, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the prompt and how it was found."""
        state = read_state(folder)
        attempts = tuple(Attempt(**attempt) for attempt in state["attempts"])
        found = (state[name] for name in ("calls", "usd", "ended"))
        return cls(Prompt.from_state(state["prompt"]), state["best"], attempts, *found)


@dataclass(frozen=True, slots=True)
class OptimizedPrompt(Technique):
    """Rewrite the instructions by reflection on train samples, and keep what does best on dev."""

    name: ClassVar[str] = "optimized_prompt"
    summary: ClassVar[str] = "instructions rewritten where they failed, by reflection on train samples"
    tunes: ClassVar[bool] = False
    embeds: ClassVar[bool] = False
    fitted: ClassVar[type[FittedOptimizedPrompt]] = FittedOptimizedPrompt

    teacher: str | None = None
    """A stronger model that rewrites the instructions, `backend/model`; None takes the candidate's own."""
    max_calls: int = 150
    """Requests of the whole search: samples answered and reflections."""
    max_usd: float | None = None
    """Dollars of the whole search, at most; None leaves them to the budget of the run. What a scorer asks of models is
    counted when it has been asked, since nobody can tell beforehand."""

    def __post_init__(self) -> None:
        if self.max_calls < _FEWEST_CALLS:
            raise ValueError(f"max_calls is {self.max_calls}, but a search takes at least {_FEWEST_CALLS}")
        if self.max_usd is not None and self.max_usd <= 0:
            raise ValueError(f"max_usd is {self.max_usd:g}, but must be positive")

    def unfit(self, task: Task) -> str | None:
        """Needs samples to learn from and others to judge by."""
        if len(task.train) < MINIBATCH or len(task.dev) < MINIBATCH:
            few = f"{len(task.train)} train and {counted(len(task.dev), 'dev sample')}"
            return f"{few} are too few to rewrite instructions by; {MINIBATCH} of each are needed"
        return None

    def suits(self, task: Task) -> str:
        """There are answers to reflect on."""
        return f"{len(task.train)} train answers show where the instructions fail"

    def others(self, task: Task) -> tuple[str, ...]:
        """The teacher, where one is named."""
        return () if self.teacher is None else (self.teacher,)

    def forecast(self, task: Task, prospect: Prospect) -> Forecast:
        """The seed on dev, then rounds until the calls are used up, unless there is nothing to improve."""
        prompt, plan = Prompt.of(task), Plan.of(self.max_calls, len(task.train), len(task.dev))
        way = Way("seed", lambda sample: [Ask(prompt.request(sample.input), more=GROWN)], ZeroShot("plain"))
        judged = tuple(shuffled(task.dev, prospect.seed, "dev")[: plan.dev])
        train = shuffled(task.train, prospect.seed, "train")
        asks = tuple(rounds_asked(plan, self.max_calls, prompt, train, self.teacher))
        return Forecast((way,), (Round((way,), judged, 1),), asks)

    async def fit(self, task: Task, context: FitContext) -> FittedOptimizedPrompt:
        """Search, then hold the best prompt against the seed on dev samples that had no part in finding it."""
        search = Search(task, context, self)
        search.check_prices()
        leaf = require(_LEAF, "optimize")
        await leaf.evolve(search.seed, search.train, search.judged, search.plan.minibatch, context.seed, search)
        return await search.finished()


@dataclass(frozen=True, slots=True)
class _Proposal:
    text: str
    parent: int | None
    complaint: str
    """Why it was not tried; empty when it was."""
    calls: int


class Search:
    """Tries prompts and asks for reflections within the allowance; remembers every prompt that was proposed."""

    def __init__(self, task: Task, context: FitContext, settings: OptimizedPrompt) -> None:
        self.plan = plan = Plan.of(settings.max_calls, len(task.train), len(task.dev))
        dev = shuffled(task.dev, context.seed, "dev")
        self.train = shuffled(task.train, context.seed, "train")
        self.judged = dev[: plan.dev]
        self._unseen = dev[plan.dev :][: plan.confirm]
        self._prompt = Prompt.of(task)
        self.seed = self._prompt.instructions
        """The instructions that everything starts from."""
        self.allowance = Allowance(settings.max_calls, settings.max_usd)
        self._answers = listed_answers(task, self.seed)
        self._context = context
        self._teacher = settings.teacher
        self._proposals = [_Proposal(self.seed, None, "", 0)]
        self._known: dict[str, dict[str, Trial]] = {}
        self._rejected = self._reflections = 0
        self._end = ""

    def check_prices(self) -> None:
        """Raise RequestError when a dollar limit was set for a model whose price is not known."""
        for model in (None, self._teacher):
            probe = ChatRequest((Message("user", self.seed),))
            if self.allowance.max_usd is not None and self._worst_usd([probe], model) is None:
                name = model or self._context.models.chat.name
                raise RequestError(
                    f"max_usd is {self.allowance.max_usd:g}, but the price of {name} is not known. Give its price, or "
                    "drop max_usd."
                )

    def ended(self, rounds: int) -> bool:
        """Whether no further round should begin, after so many."""
        self._end = self._end or self._reason(rounds)
        return bool(self._end)

    async def trials(self, text: str, samples: Sequence[Sample]) -> list[Trial] | None:
        """Trials of a prompt, in the order of the samples; None when they do not fit."""
        return await self._tried(text, samples, self.plan.end)

    async def reflection(self, request: str) -> str | None:
        """What the reflector answers; None when it could not or when that does not fit."""
        length = reflection_tokens(self.seed, self._teacher)
        seed = self._context.seed + self._reflections
        asked = ChatRequest((Message("user", request),), max_tokens=length, temperature=_TEMPERATURE, seed=seed)
        if not self._fits([asked], self._teacher, self.plan.end):
            self._end = self._end or _USED_UP
            return None
        self._reflections += 1
        try:
            response = await self._context.models.complete(asked, on=self._teacher)
        except RequestError:
            self._spend(1, 0.0)
            return None
        self._spend(1, response.usage.cost_usd)
        return response.text

    def usable(self, parent: str, proposal: str) -> bool:
        """Take note of a proposal, and say whether it is worth trying."""
        if self._end:
            return False
        texts = [known.text for known in self._proposals]
        why = complaint(proposal, self.seed, self._answers) or ("was proposed before" if proposal in texts else "")
        self._rejected = self._rejected + 1 if why else 0
        self._proposals.append(_Proposal(proposal, texts.index(parent), why, self.allowance.calls))
        return not why

    async def finished(self) -> FittedOptimizedPrompt:
        """The best prompt on dev; where calls are left, only if it also holds on samples it was not chosen by."""
        attempts = self._attempts()
        best = winner(attempts)
        if best and await self._confirmed(attempts[best].prompt):
            attempts = self._attempts()
            best = best if winner([attempts[0], attempts[best]]) else 0
        return FittedOptimizedPrompt(
            replace(self._prompt, instructions=attempts[best].prompt),
            best,
            tuple(attempts),
            self.allowance.calls,
            self.allowance.usd,
            self._end,
        )

    async def _confirmed(self, text: str) -> bool:
        """Try a prompt and the seed on the unseen samples, if both fit."""
        both = [request for each in (self.seed, text) for request in self._requests(each, self._unseen)]
        if not both or not self._fits(both, None, 0):
            return False
        for each in (self.seed, text):
            await self._tried(each, self._unseen, 0)
        return True

    async def _tried(self, text: str, samples: Sequence[Sample], reserve: int) -> list[Trial] | None:
        known = self._known.setdefault(text, {})
        fresh = list({sample.id: sample for sample in samples if sample.id not in known}.values())
        if not self._fits(self._requests(text, fresh), None, reserve):
            self._end = self._end or _USED_UP
            return None
        if fresh:
            found = await self._context.trials(f"prompt {_digest(text)}", self._solve(text), fresh)
            known |= {trial.sample_id: trial for trial in found}
            self._spend(len(found), sum((trial.usage + trial.scoring for trial in found), Usage()).cost_usd)
        return [known[sample.id] for sample in samples]

    def _solve(self, text: str) -> Solve:
        prompt = replace(self._prompt, instructions=text)

        async def solve(sample: Sample, models: Meter) -> str:
            return (await models.complete(prompt.request(sample.input))).text

        return solve

    def _requests(self, text: str, samples: Sequence[Sample]) -> list[ChatRequest]:
        prompt = replace(self._prompt, instructions=text)
        return [prompt.request(sample.input) for sample in samples]

    def _fits(self, requests: Sequence[ChatRequest], model: str | None, reserve: int) -> bool:
        worst = None if self.allowance.max_usd is None else self._worst_usd(requests, model)
        return self.allowance.admits(len(requests), worst, reserve)

    def _worst_usd(self, requests: Sequence[ChatRequest], model: str | None) -> float | None:
        """What the requests may cost at most; None when the price is not known."""
        total: float | None = 0.0
        for request in requests:
            total = add_known(total, self._context.models.worst_usd(request, model))
        return total

    def _spend(self, calls: int, usd: float | None) -> None:
        self.allowance.spend(calls, usd)
        self._context.note("prompts tried", self.allowance.calls, self.allowance.max_calls)

    def _reason(self, rounds: int) -> str:
        """Why no further round should begin, or nothing."""
        rows = [attempt for attempt in self._attempts() if attempt.n == len(self.judged)]
        if any(row.errors == 0 and row.score == 1.0 for row in rows):
            return "a prompt is right on all dev samples it was tried on"
        if self._rejected >= _MOST_REJECTED:
            return f"the last {_MOST_REJECTED} proposals could not be used"
        if not self.allowance.admits(self.plan.round, 0.0, self.plan.end):
            return _USED_UP
        # A round whose prompt is right on its whole minibatch asks nothing new.
        return "" if rounds < self.allowance.max_calls else "the prompts are right on the train samples they met"

    def _attempts(self) -> list[Attempt]:
        return [self._attempt(number, proposal) for number, proposal in enumerate(self._proposals)]

    def _attempt(self, number: int, proposal: _Proposal) -> Attempt:
        known = self._known.get(proposal.text, {}) if not proposal.complaint else {}
        trials = [known[sample.id] for sample in (*self.judged, *self._unseen) if sample.id in known]
        tried = summary(_digest(proposal.text), trials)
        outcome = f"rejected: it {proposal.complaint}" if proposal.complaint else _outcome(number, bool(trials))
        return Attempt(proposal.text, proposal.parent, outcome, tried.n, tried.errors, tried.score, proposal.calls)


def winner(attempts: Sequence[Attempt]) -> int:
    """Position of the best prompt; the seed, which is the first, unless another is better and fails no more often."""
    seed = attempts[0]
    best = 0
    for number, attempt in enumerate(attempts):
        score, least = attempt.score or 0.0, attempts[best].score or 0.0
        if attempt.n >= seed.n and attempt.errors <= seed.errors and score > least:
            best = number
    return best


def _outcome(number: int, on_dev: bool) -> str:
    if number == 0:
        return "seed"
    return "tried on dev" if on_dev else "no better than its parent on train"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _kept(attempts: Sequence[Attempt], best: int) -> list[tuple[int, Attempt]]:
    """Seed and best, and of the others the first, those tried on dev before those that were not."""
    numbered = list(enumerate(attempts))
    first = sorted(numbered, key=lambda pair: (pair[0] not in {0, best}, pair[1].n == 0, pair[0]))
    return sorted(first[:_MOST_ROWS], key=lambda pair: pair[0])


def _row(number: int, attempt: Attempt) -> dict[str, Any]:
    return {"number": number, **asdict(attempt), "prompt": attempt.prompt[:_LONGEST_ROW]}
