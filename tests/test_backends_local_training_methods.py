import asyncio
import json
import os
import subprocess
import sys
import threading

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from backends.errors import InputError
from backends.local import checkpoint, frozen, opening
from backends.local.chat import LocalChat
from backends.local.recipe import Recipe
from backends.local.tune import LocalTuner
from backends.types import ChatRequest, Message, TuneJob

from .local_models import own_cache, save_model  # noqa: F401

RECIPE = {"epochs": 3, "batch_size": 4, "learning_rate": 0.02, "dtype": "float32"}
KINDS = {
    "upper": {"rank": 4, "layers": "upper_third"},
    "upper bfloat16": {"rank": 4, "layers": "upper_third", "dtype": "bfloat16"},
    "full": {"method": "full", "learning_rate": 0.002},
    "full bfloat16": {"method": "full", "learning_rate": 0.002, "dtype": "bfloat16"},
    "full upper": {"method": "full", "layers": "last_1", "learning_rate": 0.003},
    "dora": {"rank": 4, "dora": True, "dtype": "bfloat16"},
    "dropout": {"rank": 4, "dropout": 0.2},
    "rslora": {"rank": 16, "rslora": True, "targets": "attention"},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("base"), num_hidden_layers=3)


def job(base, folder, seed=0, **recipe):
    pairs = [(f"my {word} {i}", label) for i in range(5) for word, label in (("knee", "health"), ("match", "sport"))]
    rows = tuple((Message("user", question), Message("assistant", answer)) for question, answer in pairs)
    return TuneJob(f"local/{base}", rows, rows[:4], seed, folder, RECIPE | recipe)


def weights(folder):
    (path,) = (path for path in folder.glob("*.safetensors") if path.name != checkpoint.FILE)
    return path.read_bytes()


# --- recipe ---------------------------------------------------------------------------------------------------------


def test_wrong_options_are_all_named():
    given = {
        "method": "lorra",
        "layers": "last_0",
        "targets": [],
        "rslora": 1,
        "dora": "yes",
        "dropout": 1,
        "dtype": [],
    }
    with pytest.raises(InputError) as caught:
        Recipe.parse(given)
    assert [problem.where.rpartition(".")[2] for problem in caught.value.problems] == list(given)
    assert "'last_0' is not 'all', 'upper_third' or 'last_N', such as 'last_8'" in str(caught.value)


def test_full_training_refuses_what_only_an_adapter_has():
    with pytest.raises(InputError, match=r"recipe\.rank: means nothing when all weights are trained"):
        Recipe.parse({"method": "full", "rank": 8})
    assert Recipe.parse({"method": "full", "layers": "last_2"}).is_full


@pytest.mark.parametrize(
    ("layers", "depth", "first"), [("all", 30, 0), ("upper_third", 30, 20), ("upper_third", 2, 1), ("last_8", 30, 22)]
)
def test_the_first_layer_that_learns(layers, depth, first):
    assert Recipe(layers=layers).first_layer(depth) == first


def test_scale_and_learning_rate_follow_the_method():
    lora, full = (Recipe(method=method).filled(examples=9, hidden=576, dtype="float32") for method in ("lora", "full"))
    assert full.learning_rate == pytest.approx(lora.learning_rate / 10)
    assert Recipe(rank=64, rslora=True).filled(examples=9, hidden=576, dtype="float32").alpha == 8


# --- jobs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_learns_and_answers_when_it_is_opened(base, tmp_path, kind):
    tuned = await LocalTuner().tune(job(base, tmp_path / "a", epochs=16, **KINDS[kind]))
    assert tuned.dev_losses[-1][1] < tuned.losses[0][1] * 0.7
    is_full = kind.startswith("full")
    assert ("+full-" if is_full else "+lora-") in tuned.name
    assert (tmp_path / "a" / "adapter_config.json").exists() != is_full
    assert not (tmp_path / "a" / frozen.FILE).exists()
    chat = LocalChat.open(tuned.name, folder=tuned.folder)
    answers = await asyncio.gather(
        *(chat.complete(ChatRequest((Message("user", f"my {word} 3"),), max_tokens=8)) for word in ("knee", "match"))
    )
    assert [answer.text for answer in answers] == ["health", "sport"]
    await chat.aclose()


async def test_remembered_lower_layers_give_the_same_training(base, tmp_path, monkeypatch):
    with_them = await LocalTuner().tune(job(base, tmp_path / "a", **KINDS["upper"]))
    monkeypatch.setattr(frozen, "_can_step_over", lambda *args: False)
    without = await LocalTuner().tune(job(base, tmp_path / "b", **KINDS["upper"]))
    for one, other in ((with_them.losses, without.losses), (with_them.dev_losses, without.dev_losses)):
        assert [step for step, _ in one] == [step for step, _ in other]
        assert [loss for _, loss in one] == pytest.approx([loss for _, loss in other], rel=1e-3)


async def test_a_fully_trained_model_is_a_plain_one_of_transformers(base, tmp_path):
    tuned = await LocalTuner().tune(job(base, tmp_path / "a", **KINDS["full upper"]))
    before, after = (AutoModelForCausalLM.from_pretrained(folder) for folder in (base, tuned.folder))
    changed = {
        name for name, tensor in before.state_dict().items() if not torch.equal(tensor, after.state_dict()[name])
    }
    assert changed
    assert all(name.startswith("model.layers.2.") for name in changed)
    assert AutoTokenizer.from_pretrained(tuned.folder).chat_template
    assert await LocalTuner().parity(f"local/{base}", tuned, ()) is None
    assert (await LocalTuner().tune(job(base, tmp_path / "a", **KINDS["full upper"]))).cached


async def test_an_adapter_on_the_upper_layers_says_so_to_peft(base, tmp_path):
    tuned = await LocalTuner().tune(job(base, tmp_path / "a", epochs=1, **KINDS["upper"]))
    config = json.loads((tuned.folder / "adapter_config.json").read_text("utf-8"))
    assert (config["layers_to_transform"], config["layers_pattern"]) == ([2], "layers")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"layers": "last_4"}, "'last_4': the model has 3 layers"),
        ({"targets": ["q_proj", "wqkv"]}, r"targets: wqkv: the model has no such linear modules\. It has down_proj, "),
        ({"method": "qlora"}, r"'qlora' needs a CUDA GPU, and this machine has none\. Take method: lora"),
    ],
)
async def test_a_recipe_that_does_not_suit_model_or_machine_is_refused(base, tmp_path, recipe, message):
    with pytest.raises(InputError, match=message):
        await LocalTuner().tune(job(base, tmp_path / "a", **recipe))
    assert not list((tmp_path / "a").glob("*"))


def test_qlora_names_the_package_it_needs(monkeypatch):
    monkeypatch.setattr(opening.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install bitsandbytes"):
        opening.check_method(Recipe(method="qlora"), "cuda")
    opening.check_method(Recipe(), "cpu")


# --- kill and resume ------------------------------------------------------------------------------------------------

TRAIN = """
import asyncio, sys
from tests.test_backends_local_training_methods import KINDS, job
from backends.local.tune import LocalTuner
from pathlib import Path

def observe(progress):
    print(progress.step, flush=True)
    if progress.step == 8:
        sys.stdin.read()

asyncio.run(LocalTuner().tune(job(Path(sys.argv[1]), Path(sys.argv[2]), **KINDS[sys.argv[3]]), observe))
"""


@pytest.mark.parametrize("kind", ["upper", "full", "dropout", "full bfloat16"])
async def test_an_interrupted_job_is_completed_to_the_same_bits(base, tmp_path, kind):
    whole = await LocalTuner().tune(job(base, tmp_path / "whole", **KINDS[kind]))
    folder, steps = tmp_path / "broken off", []

    def observe(progress):
        if progress.step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LocalTuner()._run(job(base, folder, **KINDS[kind]), observe, threading.Event())
    assert [path.name for path in folder.iterdir()] == [checkpoint.FILE]
    resumed = await LocalTuner().tune(job(base, folder, **KINDS[kind]), lambda progress: steps.append(progress.step))
    assert steps == [7, 8, 9]
    assert weights(folder) == weights(tmp_path / "whole")
    assert (resumed.losses, resumed.dev_losses) == (whole.losses, whole.dev_losses)


@pytest.mark.parametrize("kind", ["upper", pytest.param("full", marks=pytest.mark.slow)])
async def test_a_killed_job_is_completed_to_the_same_bits(base, tmp_path, kind):
    whole = await LocalTuner().tune(job(base, tmp_path / "whole", **KINDS[kind]))
    folder = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(base), str(folder), kind],
        # The same bits need the same number of threads.
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert [int(process.stdout.readline()) for _ in range(8)] == list(range(1, 9))
    process.kill()
    process.communicate()
    assert (folder / checkpoint.FILE).exists()
    assert not (folder / "tuned.json").exists()
    steps = []
    resumed = await LocalTuner().tune(job(base, folder, **KINDS[kind]), lambda progress: steps.append(progress.step))
    assert steps == [7, 8, 9]
    assert weights(folder) == weights(tmp_path / "whole")
    assert (resumed.losses, resumed.dev_losses) == (whole.losses, whole.dev_losses)
