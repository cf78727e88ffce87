"""Forecasts of learning curves: the study's goals by simulation, and the shape of the answer."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from evals.statistics.learning_curve import Forecast, PilotPoint, forecast


def pilot(a: float, b: float, c: float, n_dev: int, rng: np.random.Generator) -> list[PilotPoint]:
    """Scores at 25, 50 and 100 % (three seeds) of a curve that follows the law."""
    points = []
    for fraction, seeds in ((0.25, 1), (0.5, 1), (1.0, 3)):
        error = np.clip(c + a * fraction**-b, 0, 1)
        seen = rng.binomial(n_dev, error) / n_dev + rng.normal(0, 0.01 / np.sqrt(seeds))
        points.append(PilotPoint(fraction, float(np.clip(1 - seen, 0, 1)), seeds))
    return points


@lru_cache(maxsize=1)
def simulated() -> list[tuple[Forecast, float, float]]:
    """Curves drawn from the prior: forecast at four times the data, what they really reach, and the pilot's last."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(300):
        a, b = np.exp(rng.normal(np.log(0.12), 0.5)), np.exp(rng.normal(np.log(0.35), 0.45))
        c = rng.uniform(0, 0.12)
        truth = 1 - (c + a * 4**-b)
        points = pilot(a, b, c, 500, rng)
        found.append((forecast(points, 500, 0.85, 4.0), truth, points[-1].score))
    return found


def test_forecasts_are_as_close_and_as_honest_as_the_study_says() -> None:
    misses = np.array([forecast.score - truth for forecast, truth, _ in simulated()])
    without = np.array([last - truth for _, truth, last in simulated()])
    assert np.sqrt(np.mean(misses**2)) < 0.025
    assert np.sqrt(np.mean(misses**2)) < 0.5 * np.sqrt(np.mean(without**2)), "no better than the last score seen"
    assert np.mean([forecast.low <= truth <= forecast.high for forecast, truth, _ in simulated()]) >= 0.87


def test_clear_cases_are_decided_rightly() -> None:
    clear = [(forecast, truth) for forecast, truth, _ in simulated() if forecast.decision != "more_evidence"]
    assert len(clear) > 150
    assert np.mean([(forecast.decision == "go") == (truth >= 0.85) for forecast, truth in clear]) >= 0.95


def test_a_high_curve_is_a_go_and_a_low_flat_one_a_stop() -> None:
    high = [PilotPoint(0.25, 0.90), PilotPoint(0.5, 0.93), PilotPoint(1.0, 0.95, 3)]
    low = [PilotPoint(0.25, 0.60), PilotPoint(0.5, 0.61), PilotPoint(1.0, 0.62, 3)]
    assert forecast(high, 500, 0.85).decision == "go"
    assert forecast(low, 500, 0.85).decision == "stop"


def test_more_data_are_forecast_to_help_and_fewer_dev_samples_to_say_less() -> None:
    points = [PilotPoint(0.25, 0.70), PilotPoint(0.5, 0.76), PilotPoint(1.0, 0.80, 3)]
    now, later = forecast(points, 500, 0.85), forecast(points, 500, 0.85, 4.0)
    vague = forecast(points, 50, 0.85)
    assert now.score < later.score
    assert now.low < now.score < now.high
    assert vague.high - vague.low > now.high - now.low


@pytest.mark.parametrize(
    ("points", "n_dev", "said"), [([], 10, "pilot"), ([PilotPoint(2.0, 0.5)], 10, "fractions"), ([], 0, "pilot")]
)
def test_a_forecast_from_nothing_is_refused(points: list[PilotPoint], n_dev: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        forecast(points, n_dev, 0.8)
