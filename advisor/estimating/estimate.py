"""What a run and a comparison of a scenario will take, candidate by candidate and in all, before anything is spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from advisor.candidates import Candidate, Lineup, teachers
from advisor.estimating import climbing, scoring
from advisor.estimating.climbing import Belief, Climb
from advisor.estimating.counting import Correction, Counter
from advisor.estimating.demand import Demands, added, one_of, times
from advisor.estimating.gauges import Gauges
from advisor.estimating.pricing import Amount, priced
from advisor.estimating.result import CandidateEstimate, Estimate, Tested
from advisor.estimating.training import Lessons, Trained, lessons, trained
from advisor.scenario.model import Overrides, Scenario
from advisor.session import DEV_SAMPLES, FRESH_SAMPLES
from advisor.span import NONE, ONCE, Span
from advisor.techniques.forecast import Corpus, Plan, Prospect
from advisor.tuning.mistakes import MOST_DEV, MOST_TRAIN
from backends import registry as backends
from backends.types import Usage
from evals.splits import shared_order
from evals.task import Sample


@dataclass(frozen=True, slots=True)
class Probed:
    """What paid probes said of one candidate."""

    correction: Correction
    belief: Belief


@dataclass(frozen=True, slots=True)
class _Counted:
    """One candidate, counted."""

    candidate: Candidate
    plan: Plan
    unit: Demands
    """One request in production."""
    trial: Demands
    """One trial: the same without embeddings that are remembered, with its scoring."""
    fitting: Demands
    dev: int
    """Dev samples left to be answered once it is fitted."""


def estimate(
    scenario: Scenario,
    lineup: Lineup,
    overrides: Overrides | None = None,
    probed: Mapping[str, Probed] | None = None,
) -> Estimate:
    """Estimate without asking anything. Raises InputError for a model that cannot be used."""
    return _Estimator(scenario, lineup, overrides or Overrides(), probed or {}).estimate()


class _Estimator:
    def __init__(self, scenario: Scenario, lineup: Lineup, overrides: Overrides, probed: Mapping[str, Probed]) -> None:
        self._scenario = scenario
        self._lineup = lineup
        self._overrides = overrides
        self._probed = probed
        self._gauges = Gauges(scenario, batched=overrides.batch)
        corrections = {name: found.correction for name, found in probed.items()}
        self._counter = Counter(scenario.task, self._gauges, corrections)
        self._scoring = scoring.per_trial(scenario, self._counter)
        self._dev = shared_order(scenario.task.dev, scenario.seed)[:DEV_SAMPLES]
        self._test = shared_order(scenario.task.test, scenario.seed)
        self._corpora: dict[str, Corpus] = {}
        """Those that a candidate before has embedded."""
        family = len(lineup.prompting) + len(lineup.tuning)
        self._is_taught = False
        """Whether a candidate before has had a teacher asked, who says the same to all."""
        self._plan = climbing.plan_of(scenario.goal, len(self._test), family)

    def estimate(self) -> Estimate:
        """Count all candidates, in the order in which the ladder is expected to climb them."""
        counted = [self._counted(candidate) for candidate in self._lineup.prompting]
        known = sorted((one for one in counted if one is not None), key=self._cost)
        beliefs = [self._belief(one.candidate) for one in known]
        ladder = climbing.ladder(beliefs, self._plan, FRESH_SAMPLES, race=self._overrides.race)
        found = [
            self._candidate(one, climb, climbing.all_samples(belief, self._plan))
            for one, climb, belief in zip(known, ladder.climbs, beliefs, strict=True)
        ]
        tuning = [self._tuned(candidate, known, ladder.unpicked) for candidate in self._lineup.tuning]
        missing = [one.id for one in self._lineup.prompting if one.id not in {row.id for row in found}]
        shared = priced(scoring.calibration(self._scenario, self._counter), self._gauges)
        return Estimate(
            scenario=self._scenario.name,
            seed=self._scenario.seed,
            samples=len(self._test),
            budget_usd=self._scenario.budget.usd,
            candidates=(*found, *tuning),
            shared=shared,
            compare_tunes=self._compare_tunes(),
            notes=self._notes(missing, tuning),
        )

    def _counted(self, candidate: Candidate) -> _Counted | None:
        prospect = Prospect(self._scenario.seed, self._gauges[candidate.model].native_tools)
        plan = candidate.technique.forecast(self._scenario.task, prospect)
        return None if plan is None else self._count(candidate, plan)

    def _count(self, candidate: Candidate, plan: Plan) -> _Counted:
        counter, embedder = self._counter, self._gauges.embedder
        unit = one_of(counter.per_sample(way, self._test, candidate) for way in plan.ways)
        again = {
            name: demand
            for name, demand in unit.items()
            if name != embedder or any(w.queries != NONE for w in plan.ways)
        }
        tried = counter.rounds(plan.rounds, candidate)
        rounds = {name: demand for name, demand in tried.items() if name != embedder}
        trials = sum(one.tried * len(one.samples) for one in plan.rounds)
        embeds = any(way.embeds for way in plan.ways)
        fitting = added(
            rounds,
            times(self._scoring or {}, trials),
            counter.once(plan.asks, candidate),
            *(self._corpus(corpus) for corpus in (*plan.corpora, *(self._inputs() if embeds else ()))),
        )
        left = sum(sample.id not in plan.answered for sample in self._dev)
        return _Counted(candidate, plan, unit, added(again, self._scoring or {}), fitting, left)

    def _corpus(self, corpus: Corpus) -> Demands:
        """Embedding a corpus, nothing when that has been done."""
        if corpus.name in self._corpora:
            return {}
        self._corpora[corpus.name] = corpus
        return self._counter.corpus(corpus)

    def _inputs(self) -> tuple[Corpus, ...]:
        """The inputs of dev and test, which are embedded once for all candidates."""
        splits: dict[str, Sequence[Sample]] = {"dev inputs": self._dev, "test inputs": self._test}
        return tuple(
            Corpus(name, tuple(sample.input for sample in samples), len(samples)) for name, samples in splits.items()
        )

    def _candidate(self, one: _Counted, run: Climb, compare: Climb) -> CandidateEstimate:
        technique = one.candidate.technique
        return CandidateEstimate(
            id=one.candidate.id,
            technique=technique.name,
            model=one.candidate.model,
            tuned=technique.tunes,
            serving=priced(one.unit, self._gauges, in_production=True),
            fitting=priced(one.fitting, self._gauges),
            run=self._tested(one, run),
            compare=self._tested(one, replace(compare, samples=compare.samples * self._overrides.repeats)),
        )

    def _tested(self, one: _Counted, climb: Climb) -> Tested:
        diagnosed = climb.failures * self._ablations() if self._overrides.diagnose else NONE
        parts = {
            "dev": times(one.trial, one.dev),
            "test": times(one.trial, climb.samples),
            "diagnosis": times(one.trial, diagnosed),
        }
        amounts = {name: priced(demands, self._gauges) for name, demands in parts.items()}
        return Tested(climb.samples, **amounts)

    def _ablations(self) -> float:
        """Times that a failure is asked about again: two temperatures, and what gold there is."""
        task = self._scenario.task
        n = max(1, len(task.test))
        gold = sum(bool(task.documents) and bool(sample.gold_documents) for sample in task.test) / n
        results = sum(bool(sample.metadata.get("tool_results")) for sample in task.test) / n
        steps = sum(bool(sample.metadata.get("steps")) for sample in task.test) / n
        return 2 + gold + results + steps

    def _tuned(self, candidate: Candidate, known: Sequence[_Counted], unpicked: float) -> CandidateEstimate:
        """A candidate that is trained: certain or not by when the scenario wants it."""
        when = self._scenario.fine_tune.when
        likely = ONCE if when == "always" else Span(0, max(unpicked, 0.5 if when == "pays" else 0.0), 1)
        taught = self._lessons(candidate, known)
        cost = trained(self._scenario, candidate, self._counter, taught, self._overrides)
        one = self._count(replace(candidate, model=cost.model), cost.plan)
        belief = self._belief(candidate)
        climb = climbing.ladder([belief], self._plan, FRESH_SAMPLES).climbs[0]
        found = self._candidate(one, climb, climbing.all_samples(belief, self._plan))
        mistakes = self._mistakes(one, taught)
        asked = {} if self._is_taught else taught.asked
        self._is_taught = self._is_taught or bool(taught.asked)
        return replace(
            found,
            id=candidate.id,
            model=candidate.model,
            fitting=found.fitting + priced(asked, self._gauges) + self._training(cost),
            run=self._looked_back(found.run, one, mistakes),
            compare=self._looked_back(found.compare, one, mistakes),
            likely=likely,
        )

    def _lessons(self, candidate: Candidate, known: Sequence[_Counted]) -> Lessons:
        able = {one.id for one in teachers(self._scenario, self._lineup)}
        units = [(one.unit, one.trial) for one in known if one.candidate.id in able]
        return lessons(self._scenario, candidate, units, self._gauges)

    def _mistakes(self, one: _Counted, taught: Lessons) -> Demands:
        """Asking further dev samples, and grouping what is wrong where enough is."""
        if not self._overrides.diagnose:
            return {}
        dev = shared_order(self._scenario.task.dev, self._scenario.seed)[:MOST_DEV]
        trials = times(one.trial, max(0, len(dev) - len(self._dev)))
        return added(trials, times(self._grouping(dev, taught), Span(0, 1, 1)))

    def _grouping(self, dev: Sequence[Sample], taught: Lessons) -> Demands:
        """Embedding the inputs of dev and of what was taught; nothing where there is no embedder for that.

        The price of one that never ran here is not known; a training's dollars are not made unknown by that.
        """
        if backends.problem(self._scenario.embedder) is not None:
            return {}
        if self._gauges[self._gauges.embedder].price(Usage(1, 1000)) is None:
            return {}
        teacher = self._scenario.fine_tune.teacher
        inputs = [sample.input for sample in self._scenario.task.train[: taught.gold]]
        if teacher is not None and taught.inputs != NONE:
            inputs += [sample.input for sample in teacher.inputs.samples[: round(taught.inputs.expected)]]
        texts = (*(sample.input for sample in dev), *inputs[:MOST_TRAIN])
        before = {text for corpus in self._corpora.values() for text in corpus.texts}
        fresh = tuple(text for text in texts if text not in before)
        return self._corpus(Corpus("mistakes", fresh, len(fresh))) if fresh else {}

    def _looked_back(self, tested: Tested, one: _Counted, mistakes: Demands) -> Tested:
        """With what follows the test: mistakes, and the former model's answers where the training goes on from one."""
        former = {} if self._overrides.continues is None else times(one.trial, tested.samples)
        return replace(tested, aftermath=priced(added(mistakes, former), self._gauges))

    def _training(self, cost: Trained) -> Amount:
        asked = priced(cost.asked, self._gauges)
        pilot = times(self._count_trial(cost), cost.pilot_trials)
        return Amount.total(asked, priced(pilot, self._gauges), cost.training)

    def _count_trial(self, cost: Trained) -> Demands:
        way = cost.plan.ways[0]
        stand_in = replace(self._lineup.tuning[0], model=cost.model)
        return added(self._counter.per_sample(way, self._dev or self._test, stand_in), self._scoring or {})

    def _compare_tunes(self) -> bool:
        """Whether a comparison trains too."""
        named = any(spec.name == "fine_tune" for spec in self._scenario.techniques or ())
        return named or self._scenario.fine_tune.when == "always"

    def _belief(self, candidate: Candidate) -> Belief:
        found = self._probed.get(candidate.id)
        if found is not None:
            return found.belief
        return Belief(self._scenario.goal.target, self._scenario.scorer.binary)

    def _cost(self, one: _Counted) -> tuple[float, float, str]:
        amount = priced(one.unit, self._gauges, in_production=True)
        tokens = amount.input_tokens.expected + amount.output_tokens.expected
        return (float("inf") if amount.usd is None else amount.usd.expected, tokens, one.candidate.id)

    def _notes(self, missing: Sequence[str], rows: Sequence[CandidateEstimate]) -> tuple[str, ...]:
        notes = [note for gauge in self._gauges.opened() for note in gauge.notes]
        if self._scoring is None:
            notes.append(f"What the scorer {self._scenario.scorer.name} asks of models is not in the figures.")
        notes += [f"{name}: what it asks cannot be told beforehand and is not in the figures." for name in missing]
        if any(row.tuned and row.fitting.seconds is None for row in rows):
            notes.append("minutes: how long a training takes is not known, so that sums with one are not either.")
        return tuple(dict.fromkeys(notes))
