import dataclasses
import math

import pytest

from backends.errors import InputError
from backends.local import estimate, fitting
from backends.local.adapters import in_full, trainable, with_adapter
from backends.local.estimate import Shape
from backends.local.recipe import Recipe
from backends.local.tune import LocalTuner
from backends.types import Message, TuneJob

from .local_models import own_cache, save_model, tiny, tiny_model  # noqa: F401

BILLION = Shape(parameters=10**9, trainable=10**7, layers=16, hidden=2048, inner=8192, vocabulary=128_000)
LORA = Recipe(dtype="bfloat16")


def job(base, folder, **recipe):
    rows = tuple((Message("user", f"my knee {i}"), Message("assistant", f"{i}")) for i in range(4))
    return TuneJob(f"local/{base}", rows, (), 0, folder, {"epochs": 1, **recipe})


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(rank=4, alpha=8),
        Recipe(rank=4, alpha=8, layers="last_1"),
        Recipe(rank=4, alpha=8, dora=True),
        Recipe(rank=4, alpha=8, targets=("q_proj", "down_proj")),
        Recipe(method="full"),
        Recipe(method="full", layers="upper_third"),
    ],
)
def test_what_learns_is_counted_as_it_is(recipe):
    shape = Shape.of(tiny_model(), recipe)
    model = tiny_model()
    tuned = in_full(model, recipe) if recipe.is_full else with_adapter(model, recipe, 0)
    counted = sum(parameter.numel() for parameter in trainable(tuned).values())
    # DoRA's lengths are one number for each row; the estimate takes the wider side.
    assert shape.trainable == pytest.approx(counted, rel=0.1 if recipe.dora else 0)
    assert (shape.layers, shape.hidden, shape.inner) == (2 - recipe.first_layer(2), 64, 96)


def test_more_of_anything_takes_more():
    base = estimate.estimate(BILLION, LORA, tokens=2000, answers=400)
    assert 2e9 < base < 8e9
    for changed in (
        estimate.estimate(BILLION, LORA, tokens=4000, answers=400),
        estimate.estimate(BILLION, LORA, tokens=2000, answers=4000),
        estimate.estimate(BILLION, dataclasses.replace(LORA, dtype="float32"), tokens=2000, answers=400),
        estimate.estimate(dataclasses.replace(BILLION, layers=32), LORA, tokens=2000, answers=400),
        estimate.estimate(dataclasses.replace(BILLION, trainable=10**9), LORA, tokens=2000, answers=400),
    ):
        assert changed > base
    assert estimate.estimate(BILLION, dataclasses.replace(LORA, method="qlora"), tokens=2000, answers=400) < base


@pytest.mark.parametrize(
    ("recipe", "free", "remedy"),
    [
        ({"method": "full"}, 0.5, "This would fit: method: lora"),
        ({"dtype": "float32"}, 0.8, "This would fit: dtype: bfloat16"),
        ({"dtype": "bfloat16"}, 0.9, "This would fit: layers: upper_third"),
        ({"dtype": "bfloat16"}, 0.01, "Shorten the samples, take a smaller model or free memory"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(recipe, free, remedy):
    recipe = Recipe.parse(recipe).filled(examples=100, hidden=64, dtype="bfloat16")
    model = tiny_model()
    size = estimate.estimate(Shape.of(model, recipe), recipe, tokens=2000, answers=100)
    estimate.check(model, recipe, size, tokens=2000, answers=100, device="cpu")
    with pytest.raises(InputError, match=remedy):
        estimate.check(model, recipe, int(size * free), tokens=2000, answers=100, device="cpu")


async def test_a_job_too_large_for_the_machine_is_refused_before_its_weights_are_read(tiny, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(estimate, "available", lambda device: 1000)
    monkeypatch.setattr(fitting, "opened", lambda *args: pytest.fail("read"))
    with pytest.raises(InputError, match=r"about 0\.0 GB of memory; 0\.0 GB are free"):
        await LocalTuner().tune(job(tiny, tmp_path / "a"))


async def test_long_samples_are_refused_before_training(tiny, tmp_path, monkeypatch):  # noqa: F811
    seen = []

    def check(model, recipe, free, **sizes):
        seen.append(sizes)
        if sizes["tokens"]:
            raise InputError(())

    monkeypatch.setattr(estimate, "check", check)
    with pytest.raises(InputError):
        await LocalTuner().tune(job(tiny, tmp_path / "a"), lambda progress: pytest.fail("trained"))
    assert [size["tokens"] > 0 for size in seen] == [False, True]
    assert seen[1]["answers"] < seen[1]["tokens"] < 4 * 40
    assert not any((tmp_path / "a").iterdir())


def test_free_memory_is_a_plausible_number():
    assert 1e8 < estimate.available("cpu") < math.inf
