"""Counts the tokens of what a candidate will ask, without asking.

Prompts are counted as they are written. What models will write is a span: exact where answers come from a closed set,
else around the lengths of the train targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from statistics import fmean

from advisor.candidates import Candidate
from advisor.estimating.demand import Demand, Demands, added, one_of, times
from advisor.estimating.gauges import Gauges
from advisor.span import NONE, ONCE, Span
from advisor.techniques.forecast import Ask, Corpus, Plan, Round, Way
from backends.gauges import Gauge
from backends.types import ChatRequest, Message
from evals.task import Sample, Task

COUNTED = 40
"""Samples of a split whose requests are counted; the others are taken to be like them."""
_TARGETS = 200
_CLOSED, _JSON, _FREE = Span(0.9, 1.0, 1.15), Span(0.85, 1.0, 1.5), Span(0.7, 1.1, 3.0)
"""How long answers are, next to the targets: a closed set leaves no choice, JSON may be laid out, and free text is
written as the model likes. Assumed."""
_NO_TARGETS = Span(8, 64, 512)


@dataclass(frozen=True, slots=True)
class Correction:
    """What probes took next to what had been expected of them."""

    requests: Span
    input_tokens: Span
    output_tokens: Span

    def of(self, demand: Demand) -> Demand:
        """The demand with what was assumed replaced by what was measured."""
        return Demand(
            self.requests * demand.requests.expected,
            self.input_tokens * demand.input_tokens.expected,
            demand.opening_tokens,
            self.output_tokens * demand.output_tokens.expected,
        )


@dataclass
class Counter:
    """Counts for one scenario; what was counted is remembered."""

    task: Task
    gauges: Gauges
    corrections: Mapping[str, Correction] = field(default_factory=dict)
    """By candidate, where probes have told."""
    _lengths: dict[tuple[str, bool, bool], Span] = field(default_factory=dict)

    def per_sample(self, way: Way, samples: Sequence[Sample], candidate: Candidate) -> Demands:
        """What answering one of these samples asks, on average."""
        drawn = samples[:: max(1, len(samples) // COUNTED)][:COUNTED]
        asked = [way.asks(sample) for sample in drawn]
        openings = self._openings(asked, candidate)
        total = added(
            *(
                self._ask(ask, candidate, opening)
                for asks in asked
                for ask, opening in zip(asks, openings, strict=False)
            )
        )
        embedded = self._embedded(way, drawn)
        return times(added(total, embedded), 1 / max(1, len(drawn)))

    def rounds(self, rounds: Sequence[Round], candidate: Candidate) -> Demands:
        """What trying ways on dev asks."""
        return added(*(self._round(one, candidate) for one in rounds))

    def once(self, asks: Sequence[Ask], candidate: Candidate) -> Demands:
        """What these requests take together."""
        return added(*(self._ask(ask, candidate, 0) for ask in asks))

    def corpus(self, corpus: Corpus) -> Demands:
        """What embedding a corpus takes."""
        texts = corpus.texts[:: max(1, len(corpus.texts) // _TARGETS)][:_TARGETS]
        mean = fmean(self._text_tokens(texts)) if texts else 0.0
        # The passages that stand for the others are not all alike.
        spread = ONCE if len(texts) == corpus.count else Span(0.85, 1.0, 1.15)
        return {self.gauges.embedder: Demand(Span.exactly(corpus.count), spread * (mean * corpus.count))}

    def training_tokens(self, plan: Plan, model: str) -> int:
        """Tokens of the training conversations, answers included."""
        gauge = self.gauges[model]
        drawn = plan.training[:: max(1, len(plan.training) // _TARGETS)][:_TARGETS]
        counted = [gauge.prompt_tokens(ChatRequest(conversation)) for conversation in drawn]
        return round(fmean(counted) * len(plan.training)) if counted else 0

    def answer(self, request: ChatRequest, gauge: Gauge) -> Span:
        """Tokens of an answer like the train targets, in the form that the request asks for."""
        key = (gauge.name, bool(request.choices), request.json_schema is not None)
        if key not in self._lengths:
            self._lengths[key] = self._answer(request, gauge)
        return self._lengths[key].at_most(max(request.max_tokens, 1) + _WRAPPED)

    def _answer(self, request: ChatRequest, gauge: Gauge) -> Span:
        known = [*self.task.train, *self.task.dev][:_TARGETS]
        if not known:
            return _NO_TARGETS
        mean = fmean(gauge.answer_tokens(request, sample.target) for sample in known)
        return (_CLOSED if request.choices else _JSON if request.json_schema is not None else _FREE) * mean

    def _round(self, one: Round, candidate: Candidate) -> Demands:
        counted = [self.per_sample(way, one.samples, candidate) for way in one.ways]
        all_of_them = one.tried == len(one.ways)
        each = added(*counted) if all_of_them else times(one_of(counted), one.tried)
        return times(each, len(one.samples))

    def _ask(self, ask: Ask, candidate: Candidate, opening: float) -> Demands:
        model = ask.on or candidate.model
        gauge = self.gauges[model]
        prompt = ask.more + Span.exactly(gauge.prompt_tokens(ask.request))
        wrote = ask.thought + (self.answer(ask.request, gauge) if ask.target else NONE)
        unseen = gauge.unseen
        wrote = wrote.at_most(ask.request.max_tokens + _WRAPPED) + Span(unseen.low, unseen.expected, unseen.high)
        sent = _sent(ask, gauge.draws)
        demand = Demand(sent, prompt * sent, sent * opening, wrote * ask.times)
        correction = self.corrections.get(candidate.id)
        return {model: demand if correction is None else correction.of(demand)}

    def _openings(self, asked: Sequence[Sequence[Ask]], candidate: Candidate) -> list[float]:
        """Tokens that the first, the second, ... requests of all samples begin with alike."""
        return [
            self._opening([asks[position] for asks in asked if position < len(asks)], candidate)
            for position in range(max((len(asks) for asks in asked), default=0))
        ]

    def _opening(self, alike: Sequence[Ask], candidate: Candidate) -> float:
        if len(alike) < 2:
            return 0.0
        gauge = self.gauges[alike[0].on or candidate.model]
        turns = takewhile(_is_same, zip(*(ask.request.messages for ask in alike), strict=False))
        return float(sum(gauge.text_tokens(turn[0].content) for turn in turns))

    def _embedded(self, way: Way, samples: Sequence[Sample]) -> Demands:
        if not way.embeds:
            return {}
        lengths = self._text_tokens([sample.input for sample in samples])
        own = Demand(Span.exactly(len(samples)), Span.exactly(sum(lengths)))
        further = way.queries * len(samples)
        return {self.gauges.embedder: own + Demand(further, further * Span(10, 30, 80))}

    def _text_tokens(self, texts: Sequence[str]) -> list[int]:
        gauge = self.gauges[self.gauges.embedder]
        return [gauge.text_tokens(text) for text in texts]


_WRAPPED = 24
"""Tokens that a form may add beyond a request's limit."""


def _sent(ask: Ask, draws: int) -> Span:
    """Requests that these answers take; at most one for each, where the endpoint turns out to take no more."""
    if not ask.at_once or draws == 1:
        return ask.times
    low, expected = (float(-(-times // draws)) for times in (ask.times.low, ask.times.expected))
    return Span(low, expected, ask.times.high)


def _is_same(turn: Sequence[Message]) -> bool:
    return all(message == turn[0] for message in turn)
