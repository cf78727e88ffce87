"""Going on from a tuned model of before: what it starts with, what is refused, and that a kill changes nothing."""

import json
import shutil
import threading

import pytest
from safetensors.torch import load_file, save_file

from backends import registry
from backends.errors import InputError
from backends.local import checkpoint
from backends.local.start import problem
from backends.local.tune import LocalTuner
from backends.types import Message, TuneJob

from .local_models import own_cache, save_model  # noqa: F401

RECIPE = {"epochs": 2, "batch_size": 4, "learning_rate": 0.02, "dtype": "float32"}
KINDS = {
    "lora": {"rank": 4},
    "upper dora": {"rank": 4, "layers": "upper_third", "dora": True},
    "full": {"method": "full", "learning_rate": 0.002},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("base"), num_hidden_layers=3)


def job(base, folder, start=None, n=5, **recipe):
    pairs = [(f"my {word} {i}", label) for i in range(n) for word, label in (("knee", "health"), ("match", "sport"))]
    rows = tuple((Message("user", question), Message("assistant", answer)) for question, answer in pairs)
    return TuneJob(f"local/{base}", rows, rows[:4], 0, folder, RECIPE | recipe, start)


async def tune(*args, **options):
    return await LocalTuner().tune(job(*args, **options))


def weights(folder):
    (path,) = (path for path in folder.glob("*.safetensors") if path.name != checkpoint.FILE)
    return path.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_continued_training_begins_where_the_former_one_ended(base, tmp_path, kind):
    former = await tune(base, tmp_path / "former", n=5, **KINDS[kind])
    assert problem(f"local/{base}", RECIPE | KINDS[kind], former.folder) is None
    afresh = await tune(base, tmp_path / "afresh", n=8, **KINDS[kind])
    continued = await tune(base, tmp_path / "continued", former.folder, n=8, **KINDS[kind])
    assert continued.losses[0][1] < afresh.losses[0][1] * 0.9
    assert len({former.name, afresh.name, continued.name}) == 3
    record = json.loads((continued.folder / "tuned.json").read_text("utf-8"))
    assert record["start"] == former.name
    assert "start" not in json.loads((afresh.folder / "tuned.json").read_text("utf-8"))
    assert (await tune(base, tmp_path / "continued", former.folder, n=8, **KINDS[kind])).cached


async def test_a_step_so_small_that_it_changes_nothing_gives_the_former_weights_back(base, tmp_path):
    former = await tune(base, tmp_path / "former", rank=4)
    still = await tune(base, tmp_path / "still", former.folder, rank=4, learning_rate=1e-30, epochs=1)
    before, after = (load_file(one.folder / "adapter_model.safetensors") for one in (former, still))
    assert before.keys() == after.keys()
    assert all(tensor.equal(after[name]) for name, tensor in before.items())


@pytest.mark.parametrize("kind", ["lora", "full"])
async def test_an_interrupted_continued_training_ends_in_the_same_bits(base, tmp_path, kind):
    former = await tune(base, tmp_path / "former", **KINDS[kind])
    whole = await tune(base, tmp_path / "whole", former.folder, n=6, **KINDS[kind])
    folder, steps = tmp_path / "broken off", []

    def observe(progress):
        if progress.step == 5:
            raise KeyboardInterrupt

    again = job(base, folder, former.folder, n=6, **KINDS[kind])
    with pytest.raises(KeyboardInterrupt):
        LocalTuner()._run(again, observe, threading.Event())
    assert [path.name for path in folder.iterdir()] == [checkpoint.FILE]
    resumed = await LocalTuner().tune(again, lambda progress: steps.append(progress.step))
    assert steps == [4, 5, 6]
    assert weights(folder) == weights(tmp_path / "whole")
    assert (resumed.losses, resumed.dev_losses) == (whole.losses, whole.dev_losses)


async def test_a_checkpoint_of_a_training_with_another_start_is_not_continued(base, tmp_path):
    one, other = [await tune(base, tmp_path / name, n=n, rank=4) for name, n in (("one", 5), ("other", 6))]
    steps = []

    def stop_early(progress):
        if progress.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LocalTuner()._run(job(base, tmp_path / "a", one.folder, rank=4), stop_early, threading.Event())
    await LocalTuner().tune(job(base, tmp_path / "a", other.folder, rank=4), lambda p: steps.append(p.step))
    assert steps[0] == 1


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            {"rank": 8},
            r"rank is 8 here and 4 there, alpha is 16 here and 8 there\. Write rank: 4, alpha: 8, or start af",
        ),
        ({"rank": 4, "targets": ["q_proj"]}, r"targets is \('q_proj',\) here and 'all' there\. Write targets: all, or"),
        ({"rank": 4, "layers": "last_1"}, "layers is 'last_1' here and 'all' there"),
        ({"rank": 4, "rslora": True, "alpha": 8}, r"rslora is True here and False there\. Write rslora: false"),
        ({"method": "full"}, r"another shape: method is 'full' here and 'lora' there\. Write method: lora"),
    ],
)
async def test_another_shape_is_refused_with_what_to_write(base, tmp_path, recipe, message):
    former = await tune(base, tmp_path / "former", rank=4)
    with pytest.raises(InputError, match=message):
        await tune(base, tmp_path / "a", former.folder, **recipe)
    found = registry.start_problem("local", f"local/{base}", RECIPE | recipe, former.folder)
    assert found is not None
    assert found.where == "fine_tune recipe"
    assert not (tmp_path / "a").exists()


async def test_an_adapter_of_another_base_is_refused(base, tmp_path):
    former = await tune(base, tmp_path / "former", rank=4)
    other = save_model(tmp_path / "other", num_hidden_layers=3, seed=1)
    with pytest.raises(InputError, match=r"was trained on 'local/.*; 'local/.*other' has other weights"):
        await tune(other, tmp_path / "a", former.folder, rank=4)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("damage", ["gone", "cut off", "other tensors"])
async def test_a_damaged_start_is_one_clear_message_and_nothing_else_is_touched(base, tmp_path, damage):
    former = await tune(base, tmp_path / "former", rank=4)
    path = former.folder / "adapter_model.safetensors"
    if damage == "gone":
        shutil.rmtree(former.folder)
    elif damage == "cut off":
        path.write_bytes(path.read_bytes()[:200])
    else:
        tensors = load_file(path)
        tensors.pop(next(iter(tensors)))
        save_file(tensors, path)
    message = {"gone": "no finished tuned", "cut off": "cannot be read", "other tensors": "does not fit this base"}
    with pytest.raises(InputError, match=message[damage]) as caught:
        await tune(base, tmp_path / "a", former.folder, rank=4)
    assert len(caught.value.problems) == 1
    assert "--from base" in str(caught.value)
    assert not (tmp_path / "a" / "tuned.json").exists()


def test_a_backend_that_goes_on_from_nothing_says_so(tmp_path):
    assert "goes on from no tuned model" in str(registry.start_problem("nobody", "nobody/x", {}, tmp_path))
