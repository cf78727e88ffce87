"""Simulates the ladder on nine families of candidates and prints goals G1 to G8 next to what it reached.

    python benchmarks/decision.py [--replicates 2000] [--processes 2] [--seed 1]

Every decision runs through `advisor.ladder.Ladder`, batch by batch, as a run does; only the trials are simulated.
K = 8 arms, cost per request geometric from 1 to 30, target 0.85, margin 0.03, confidence 95 %. All arms answer the same
questions: a latent difficulty shared by the arms gives their answers correlation 0.5 before they become right or wrong.

The nine families are reconstructed: the study behind the goals names them and gives their information bounds, from
which the means below were found (its bounds in % of exhaustive spend at N = 2000, then ours, in brackets). S1 all far
below: 0.60 to 0.76 in equal steps (1.7, 1.8). S2 all below, the dearest a near miss: 0.71 to 0.835 (9.2, 9.2). S3 one
cheap arm just above: 0.78, 0.885, then 0.81 to 0.84 (1.0, 1.0). S4 big gaps: 0.5, 0.6, 0.7, 0.93, 0.94, 0.95, 0.95,
0.96 (0.49, 0.48). S5 near ties: 0.835 to 0.87 (not given). S6 only the dearest is good: 0.6, 0.65, 0.7, 0.72, 0.75,
0.78, 0.8, 0.91 (7.7, 7.7). S7 the cheapest is good: all 0.92 (0.13, 0.13). S8 four decoys: 0.84 to 0.845, then 0.89,
0.9, 0.9, 0.9 (6.1, 6.0).

S9 is a typical mix, drawn anew each time: the best an arm can reach is Normal(0.89, 0.06); the arm of rank r = 0 ...
1 in cost loses Uniform(0.12, 0.36) (1 - r)^3 of it and adds Normal(0, 0.03), up to 0.97. These numbers were chosen so
that what does not depend on the ladder comes out as in the study (its figures, then ours): no arm feasible in 15.5 %
of draws (15.6) and none clearly feasible in 28 % (28.8), bounds of 13.5 and 6.9 % at N = 500 and 2000 (13.8, 6.6),
exhaustive (a) wrong in 8.6 % at N = 500 (8.5), (a') in 18.1 % (17.6).

An answer is wrong when the picked arm misses the target, when a dearer arm is picked although a cheaper one reaches
target plus margin, and when nothing is picked although some arm does. Exhaustive (a) tries every arm on all N samples
and picks the cheapest whose 95 % z-interval lies above the target; (a') picks by the exact binomial test at alpha /
K, the same guarantee as the ladder's. Naive tries 50 samples and picks the cheapest arm whose mean reaches the
target.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from advisor.goal import Goal, Mode
from advisor.ladder import Arm, Ladder, Observation
from evals.statistics.boundaries import design
from evals.statistics.display import wilson
from evals.statistics.distributions import binomial_isf
from evals.statistics.sequential import make_test
from evals.statistics.types import FloatArray

K, TARGET, MARGIN, ALPHA = 8, 0.85, 0.03, 0.05
COSTS = np.geomspace(1.0, 30.0, K)
LARGEST, NAIVE, FRESH = 2000, 50, 200
ARMS = [Arm(str(k), float(cost)) for k, cost in enumerate(COSTS)]
SEEN = (Observation(0.0, 0.5, 0.001), Observation(1.0, 0.5, 0.001))
CHUNK = 250

FIXED: dict[str, Sequence[float]] = {
    "S1 all far below": np.linspace(0.60, 0.76, K).tolist(),
    "S2 all below, near miss": np.linspace(0.71, 0.835, K).tolist(),
    "S3 one cheap just above": [0.78, 0.885, *np.linspace(0.81, 0.84, 6)],
    "S4 big gaps": [0.5, 0.6, 0.7, 0.93, 0.94, 0.95, 0.95, 0.96],
    "S5 near ties": np.linspace(0.835, 0.87, K).tolist(),
    "S6 only the dearest good": [0.6, 0.65, 0.7, 0.72, 0.75, 0.78, 0.8, 0.91],
    "S7 cheapest is good": [0.92] * K,
    "S8 four decoys": [*np.linspace(0.84, 0.845, 4), 0.89, 0.9, 0.9, 0.9],
}
MIX, TIES, HAIR = "S9 typical mix", "S5 near ties", "all a hair under the target"
FAMILIES = (*FIXED, MIX)
PLANS: dict[str, tuple[int, Mode]] = {
    "rec 500": (500, "strict"),
    "careful 500": (500, "careful"),
    "tolerant 500": (500, "tolerant"),
    "rec 2000": (2000, "strict"),
    "careful 2000": (2000, "careful"),
    "tolerant 2000": (2000, "tolerant"),
}
RIVALS = ("z 500", "exact 500", "z 1000", "z 2000", "exact 2000", "naive")


def means_of(family: str, rng: np.random.Generator) -> FloatArray:
    """True means of the arms, shape (8,)."""
    if family == MIX:
        best, lost = rng.normal(0.89, 0.06), rng.uniform(0.12, 0.36)
        drawn = best - lost * (1.0 - np.arange(K) / (K - 1)) ** 3 + rng.normal(0.0, 0.03, K)
        return np.clip(drawn, 0.05, 0.97)
    return np.asarray(FIXED.get(family, [TARGET - 1e-6] * K))


def answers(means: FloatArray, correlation: float, rng: np.random.Generator) -> FloatArray:
    """Right or wrong answers of all arms to the same questions, shape (samples, 8)."""
    shared, own = rng.standard_normal((LARGEST, 1)), rng.standard_normal((LARGEST, K))
    return np.asarray(np.sqrt(correlation) * shared + np.sqrt(1.0 - correlation) * own < ndtri(means), dtype=np.float64)


@dataclass
class Tally:
    """Sums over replicates of one method on one family."""

    runs: int = 0
    spend: float = 0.0
    squared: float = 0.0
    wrong: int = 0
    infeasible: int = 0
    agree: int = 0
    covered: int = 0
    fresh: int = 0
    fresh_covered: int = 0
    rounds: int = 0
    bound: float = 0.0

    def add(self, other: Tally) -> None:
        """Take in the sums of another chunk."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def judge(self, means: FloatArray, picked: int | None, spend: float) -> None:
        """Count one decision."""
        clear = np.flatnonzero(means >= TARGET + MARGIN - 1e-12)
        infeasible = picked is not None and means[picked] < TARGET
        missed = clear.size > 0 and (picked is None or picked > clear[0])
        self.runs += 1
        self.spend += spend
        self.squared += spend**2
        self.infeasible += infeasible
        self.wrong += infeasible or missed


def first(chosen: FloatArray) -> int | None:
    """Index of the first arm that passes, or None."""
    places = np.flatnonzero(chosen)
    return int(places[0]) if places.size else None


def exhaustive_z(right: FloatArray) -> int | None:
    """(a): the cheapest arm whose 95 % z-interval lies above the target."""
    mean = right.mean(axis=0)
    return first(mean - 1.96 * np.sqrt(mean * (1.0 - mean) / len(right)) > TARGET)


def exhaustive_exact(right: FloatArray) -> int | None:
    """(a'): the cheapest arm that the exact test at alpha / K certifies."""
    return first(right.sum(axis=0) > binomial_isf(ALPHA / K, len(right), TARGET))


def naive(right: FloatArray) -> int | None:
    """(b): the cheapest arm whose first 50 answers reach the target."""
    return first(right[:NAIVE].mean(axis=0) >= TARGET)


def climb(right: FloatArray, mode: Mode, abreast: int = 1) -> tuple[Ladder, int]:
    """One climb of the real ladder over these answers, and the number of rounds it took."""
    ladder = Ladder(ARMS, Goal(TARGET, MARGIN, mode=mode), len(right), binary=True, reserved_arms=0, abreast=abreast)
    columns = right.astype(int).T.tolist()
    rounds = 0
    while batches := ladder.next():
        rounds += 1
        for batch in batches:
            ladder.record(batch.arm, [SEEN[answer] for answer in columns[int(batch.arm)][batch.start : batch.stop]])
    return ladder, rounds


def simulate(family: str, replicates: int, seed: Sequence[int], correlation: float = 0.5) -> dict[str, Tally]:
    """Replicates of one family through all methods; method -> tally."""
    rng = np.random.default_rng(seed)
    tallies: dict[str, Tally] = defaultdict(Tally)
    for _ in range(replicates):
        means = means_of(family, rng)
        right = answers(means, correlation, rng)
        fixed = {name: RULES[name.split()[0]](right[: int(name.split()[-1])]) for name in RIVALS if name != "naive"}
        fixed["naive"] = naive(right)
        for name, picked in fixed.items():
            tallies[name].judge(means, picked, 1.0)
        for name, (n, mode) in PLANS.items():
            follow(tallies[name], means, right[:n], mode, fixed[f"exact {n}"])
        if family == MIX:
            follow(tallies["rec 1000"], means, right[:1000], "strict", None)
            follow(tallies["race 2000"], means, right, "strict", fixed["exact 2000"], abreast=K)
    return tallies


RULES: dict[str, Callable[[FloatArray], int | None]] = {"z": exhaustive_z, "exact": exhaustive_exact}


def follow(
    tally: Tally, means: FloatArray, right: FloatArray, mode: Mode, reference: int | None, abreast: int = 1
) -> None:
    """Climb once and count the decision, its cost, its intervals and its distance from the reference and the bound."""
    ladder, rounds = climb(right, mode, abreast)
    picked = None if ladder.picked is None else int(ladder.picked)
    standings = ladder.standings()
    samples = np.array([standing.n for standing in standings])
    tally.judge(means, picked, float(COSTS @ samples / (len(right) * COSTS.sum())))
    tally.agree += picked == reference
    tally.rounds += rounds
    tally.bound += information_bound(means, len(right))
    intervals = [(mean, one.interval) for mean, one in zip(means, standings, strict=True) if one.interval is not None]
    tally.covered += all(interval.covers(mean) for mean, interval in intervals)
    if picked is not None:
        untouched = right[samples[picked] : samples[picked] + FRESH, picked]
        if len(untouched) >= NAIVE:
            tally.fresh += 1
            tally.fresh_covered += wilson(int(untouched.sum()), len(untouched)).covers(means[picked])


def divergence(p: float, q: float) -> float:
    """Kullback-Leibler divergence between Bernoulli(p) and Bernoulli(q), in nats."""
    return float(p * np.log(p / q) + (1.0 - p) * np.log((1.0 - p) / (1.0 - q)))


def information_bound(means: FloatArray, n: int, level: float = ALPHA / K, beta: float = 0.05) -> float:
    """Least expected spend of any method with these errors, as a share of exhaustive spend, each arm capped at n.

    Change of measure (Garivier and Kaufmann 2016), the cheapest over all acceptable answers (Degenne and Koolen 2019).
    """
    reject = [divergence(0.95, beta) / max(divergence(m, TARGET + MARGIN), 1e-12) for m in means]
    spend, answers_spend = 0.0, []
    for mean, cost, needed in zip(means, COSTS, reject, strict=True):
        if mean > TARGET:
            answers_spend.append(spend + cost * min(n, divergence(0.95, level) / divergence(mean, TARGET)))
        if mean >= TARGET + MARGIN:
            break
        spend += cost * min(n, needed)
    else:
        answers_spend.append(spend)
    return float(min(answers_spend) / (n * COSTS.sum()))


def run_all(replicates: int, processes: int, seed: int) -> dict[str, dict[str, Tally]]:
    """All simulations; the result does not depend on the number of processes."""
    results: dict[str, dict[str, Tally]] = {}
    named = [*((name, 0.5) for name in FAMILIES), (f"{HAIR}, independent", 0.0), (f"{HAIR}, correlated", 0.5)]
    with ProcessPoolExecutor(processes) as pool:
        jobs = []
        for part in range(-(-replicates // CHUNK)):
            size = min(CHUNK, replicates - part * CHUNK)
            jobs += [(name, pool.submit(simulate, name, size, (seed, i, part), r)) for i, (name, r) in enumerate(named)]
        for family, job in jobs:
            for name, tally in job.result().items():
                results.setdefault(family, {}).setdefault(name, Tally()).add(tally)
    return results


def rate(tally: Tally, name: str) -> float:
    """A sum of the tally per run."""
    return float(getattr(tally, name)) / tally.runs


def over(results: dict[str, dict[str, Tally]], method: str, name: str, without: str = "") -> float:
    """Mean over the nine families, each with equal weight."""
    return float(np.mean([rate(results[f][method], name) for f in FAMILIES if f != without]))


def show_families(results: dict[str, dict[str, Tally]]) -> None:
    """The cells of every family: spend in % / share of wrong decisions."""
    columns = ("rec", "careful", "tolerant")
    print(f"{'family':26} {'N':>5} {'bound':>6} {'(a) z':>7} {'(a) ex':>7} {'naive':>7}", end="")
    print("".join(f"{name:>14}" for name in columns), f"{'same as ex':>11} {'cover':>6}")
    for family in FAMILIES:
        for n in (500, 2000):
            row = results[family]
            print(f"{family:26} {n:5} {100 * rate(row[f'rec {n}'], 'bound'):6.2f}", end="")
            print("".join(f"{rate(row[name], 'wrong'):8.3f}" for name in (f"z {n}", f"exact {n}", "naive")), end="")
            cells = (row[f"{name} {n}"] for name in columns)
            print("".join(f"{100 * rate(cell, 'spend'):8.2f}/{rate(cell, 'wrong'):.3f}" for cell in cells), end="")
            print(f"{rate(row[f'rec {n}'], 'agree'):11.3f} {rate(row[f'rec {n}'], 'covered'):7.3f}")
    print()


@dataclass(frozen=True)
class Line:
    """One goal and what was reached."""

    goal: str
    asked: str
    study: str
    reached: str
    holds: bool


def goals(results: dict[str, dict[str, Tally]]) -> list[Line]:
    """The goals G1 to G8 of the study, with its figures and ours."""
    return [*safety_and_thrift(results), *labels_for_calls(results), *intervals_and_limits(results)]


def safety_and_thrift(results: dict[str, dict[str, Tally]]) -> list[Line]:
    """G1 to G3."""
    lines = []
    tallies = [row[m] for f, row in results.items() if f.startswith(HAIR) for m in PLANS if "tolerant" not in m]
    worst = max(rate(tally, "infeasible") for tally in tallies)
    error = float(np.sqrt(ALPHA * (1.0 - ALPHA) / tallies[0].runs))
    picks = max(rate(results[f][m], "infeasible") for f in FAMILIES for m in PLANS if "tolerant" not in m)
    text = f"worst of {len(tallies)}: {worst:.4f} (SE {error:.4f}); {picks:.4f} in the families"
    lines.append(Line("G1 safety", "P(infeasible pick) <= 0.05", "0.041-0.053", text, worst <= ALPHA + 2.0 * error))
    for goal, n, spend, wrong, agree, study in (
        ("G2 thrift, N=2000", 2000, 0.12, 0.010, 0.96, "11.0 %, +0.6 points, 96.3 %"),
        ("G3 thrift, N=500", 500, 0.20, 0.015, 0.94, "19.3 %, +1.2 points, 95.0 %"),
    ):
        cost = over(results, f"rec {n}", "spend")
        more = over(results, f"rec {n}", "wrong") - over(results, f"exact {n}", "wrong")
        same = rate(results[MIX][f"rec {n}"], "agree")
        asked = f"<= {100 * spend:.0f} %, <= +{100 * wrong:.1f} points, same >= {100 * agree:.0f} % on the mix"
        text = f"{100 * cost:.1f} %, {100 * more:+.2f} points, {100 * same:.1f} %"
        lines.append(Line(goal, asked, study, text, cost <= spend and more <= wrong and same >= agree))
    return lines


def labels_for_calls(results: dict[str, dict[str, Tally]]) -> list[Line]:
    """G4 and G4b: more labels against fewer calls, on the typical mix; and the careful setting."""
    mix, lines = results[MIX], []
    for method, reference, ratio, limit, study in (
        ("rec 1000", "z 500", 2, 0.28, "27.8 %, 0.068 v 0.092"),
        ("rec 2000", "z 1000", 2, 0.23, "19.6 %, 0.014 v 0.018"),
        ("careful 2000", "z 1000", 2, 0.23, "22.5 %, 0.007 v 0.018"),
    ):
        cost, wrong, base = (
            ratio * rate(mix[method], "spend"),
            rate(mix[method], "wrong"),
            rate(mix[reference], "wrong"),
        )
        error = ratio * np.sqrt((rate(mix[method], "squared") - rate(mix[method], "spend") ** 2) / mix[method].runs)
        asked = f"<= {100 * limit:.0f} % of exhaustive-{reference}, no more errors"
        text = f"{100 * cost:.1f} % (SE {100 * error:.1f}), {wrong:.4f} v {base:.4f}"
        lines.append(Line(f"G4 {method}", asked, study, text, cost <= limit and wrong <= base))
    cost = over(results, "careful 2000", "spend")
    more = over(results, "careful 2000", "wrong") - over(results, "exact 2000", "wrong")
    text = f"{100 * cost:.1f} %, {100 * more:+.2f} points"
    holds = cost <= 0.15 and more <= 0.002
    lines.append(Line("G4b careful, N=2000", "<= 15 %, <= +0.2 points", "12.9 %, +0.22 points", text, holds))
    return lines


def intervals_and_limits(results: dict[str, dict[str, Tally]]) -> list[Line]:
    """G5 to G8."""
    cover = [rate(results[f][f"rec {n}"], "covered") for f in FAMILIES for n in (500, 2000)]
    tallies = [results[f][f"rec {n}"] for f in FAMILIES for n in (500, 2000)]
    fresh = sum(tally.fresh_covered for tally in tallies) / sum(tally.fresh for tally in tallies)
    text = f"worst family {min(cover):.4f}, mean {np.mean(cover):.4f}; fresh {fresh:.4f}"
    holds = min(cover) >= 0.95 and 0.94 <= fresh <= 0.96
    lines = [Line("G5 intervals", "simultaneous >= 0.95, fresh 0.94-0.96", "0.974-0.977; 0.940-0.959", text, holds)]
    spend, bound = (over(results, "rec 2000", name, without=TIES) for name in ("spend", "bound"))
    text = f"{100 * spend:.2f} % / {100 * bound:.2f} % = {spend / bound:.2f}"
    lines.append(Line("G6 limit, N=2000", "<= 1.5 x the information bound", "1.45", text, spend / bound <= 1.5))
    wrong, guess = over(results, "rec 2000", "wrong"), over(results, "naive", "wrong")
    times = over(results, "rec 2000", "spend") / (NAIVE / 2000)
    text = f"{guess:.3f} -> {wrong:.4f} at {times:.1f} x its cost"
    lines.append(Line("G7 against naive", "wrong < 1 % at N=2000", "0.387 -> 0.009 at 4.4 x", text, wrong < 0.01))
    ties = [results[TIES][f"rec {n}"] for n in (500, 2000)]
    cost, picks = max(rate(tally, "spend") for tally in ties), max(rate(tally, "infeasible") for tally in ties)
    text = f"{100 * cost:.1f} %, {100 * picks:.2f} %"
    lines.append(
        Line("G8 near ties", "<= 55 %, infeasible <= 1 %", "51 %, 0.2-0.4 %", text, cost <= 0.55 and picks <= 0.01)
    )
    return lines


def timings() -> str:
    """Seconds to design, microseconds to decide."""
    text = []
    for n in (500, 2000):
        start = time.perf_counter()
        design.__wrapped__(n, TARGET, MARGIN, ALPHA / K)
        text.append(f"design N={n}: {time.perf_counter() - start:.4f} s")
    scores = (np.random.default_rng(0).random(2000) < TARGET).astype(np.float64)
    for binary in (True, False):
        test = make_test(2000, TARGET, MARGIN, ALPHA / K, binary=binary)
        start = time.perf_counter()
        for _ in range(100):
            test.decide(scores)
        kind = "exact" if binary else "betting"
        text.append(f"decide after 2000 samples, {kind}: {10 * (time.perf_counter() - start):.3f} ms")
    return "; ".join(text)


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    start = time.perf_counter()
    results = run_all(options.replicates, options.processes, options.seed)
    seconds = time.perf_counter() - start
    show_families(results)
    race, alone = results[MIX]["race 2000"], results[MIX]["rec 2000"]
    print(f"race, typical mix, N=2000: {rate(race, 'rounds'):.0f} rounds v {rate(alone, 'rounds'):.0f},", end=" ")
    print(f"spend {100 * rate(race, 'spend'):.1f} % v {100 * rate(alone, 'spend'):.1f} %")
    for method in ("rec 500", "careful 500", "tolerant 500", "rec 2000", "careful 2000", "tolerant 2000"):
        figures = (100 * over(results, method, "spend"), over(results, method, "wrong"))
        worst = max(rate(results[f][method], "infeasible") for f in FAMILIES)
        print(f"{method:14} spend {figures[0]:5.1f} %, wrong {figures[1]:.4f}, worst infeasible pick {worst:.4f}")
    print(timings())
    print(f"\n{'goal':20} {'asked':52} {'study':30} {'reached':58} holds")
    for line in goals(results):
        print(f"{line.goal:20} {line.asked:52} {line.study:30} {line.reached:58} {'yes' if line.holds else 'NO'}")
    print(f"\n{options.replicates} replicates a family, seed {options.seed}, {seconds:.0f} s")


if __name__ == "__main__":
    main()
