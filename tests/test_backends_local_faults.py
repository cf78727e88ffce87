"""What can go wrong in a training: one clear message, and what was done before stays done."""

import errno
import math
import shutil
import threading

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from backends.errors import BackendUnavailable, InputError
from backends.local import checkpoint, estimate, fitting, training, tune
from backends.local.tune import LocalTuner
from backends.types import Message, TuneJob

from .local_models import own_cache, save_model  # noqa: F401

RECIPE = {"rank": 4, "epochs": 3, "batch_size": 4, "learning_rate": 0.02, "dtype": "float32"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("base"))


def rows(pairs):
    return tuple((Message("user", question), Message("assistant", answer)) for question, answer in pairs)


def job(base, folder, extra=(), only=None):
    pairs = [(f"my {word} {i}", label) for i in range(5) for word, label in (("knee", "health"), ("match", "sport"))]
    train = rows([*pairs, *extra]) if only is None else rows(only)
    return TuneJob(f"local/{base}", train, rows(pairs[:4]), 0, folder, RECIPE)


def weights(folder):
    return (folder / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    """The weights of the job, trained without a break."""
    folder = tmp_path_factory.mktemp("whole")
    LocalTuner()._run(job(base, folder), None, threading.Event())
    return weights(folder)


@pytest.fixture
def broken_off(base, tmp_path):
    """A folder with the checkpoint of one epoch of three."""

    def stop(progress):
        if progress.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LocalTuner()._run(job(base, tmp_path / "a"), stop, threading.Event())
    return tmp_path / "a"


class Endless(torch.autograd.Function):
    """A number whose gradient is infinite."""

    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * math.inf


def no_space(*args, **options):
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def no_room(*args, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


def no_memory(*args, **options):
    raise torch.OutOfMemoryError("CUDA out of memory.")


def a_fault(monkeypatch, kind):
    honest = training.summed_loss
    places = {
        "nan loss": (training, "summed_loss", lambda model, part: honest(model, part) * math.nan),
        "endless gradient": (training, "summed_loss", lambda model, part: Endless.apply(honest(model, part))),
        "nan on dev": (training, "mean_loss", lambda *args: math.nan),
        "full disk": (checkpoint, "save_file", no_space),
        "out of memory": (training, "summed_loss", no_memory),
        "too large": (estimate, "available", lambda device: 1000),
    }
    monkeypatch.setattr(*places[kind])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nan loss", r"^fine_tune recipe\.learning_rate: the training loss became nan with 0\.02\. Use a lower one"),
        ("endless gradient", r"^fine_tune recipe\.learning_rate: the gradient became (inf|nan) with 0\.02"),
        ("nan on dev", r"^fine_tune recipe\.learning_rate: the loss on dev became nan with 0\.02"),
        ("full disk", r"^cannot write to '.*No space left.*The last checkpoint is intact; free space and run it again"),
        ("out of memory", r"^not enough memory to tune .*finished epochs are kept"),
        ("too large", r"^fine_tune recipe: training would take about 0\.0 GB of memory; 0\.0 GB are free\. \w+"),
    ],
)
async def test_a_fault_is_one_message_and_the_earlier_checkpoint_goes_on(
    base, broken_off, whole, monkeypatch, kind, message
):
    before = (broken_off / checkpoint.FILE).read_bytes()
    with monkeypatch.context() as patched:
        a_fault(patched, kind)
        with pytest.raises((InputError, BackendUnavailable), match=message) as caught:
            await LocalTuner().tune(job(base, broken_off))
    assert str(caught.value).count("\n") == 0
    assert [path.name for path in broken_off.iterdir()] == [checkpoint.FILE]
    assert (broken_off / checkpoint.FILE).read_bytes() == before
    steps = []
    await LocalTuner().tune(job(base, broken_off), lambda progress: steps.append(progress.step))
    assert steps[0] == 4
    assert weights(broken_off) == whole


async def test_a_gradient_that_ends_an_epoch_badly_spoils_no_checkpoint(base, tmp_path, monkeypatch):
    honest, asked = training.summed_loss, []

    def spoil(model, part):
        asked.append(part)
        # The last step of the first epoch: the loss is still a number, the weights after it would not be.
        return Endless.apply(honest(model, part)) if len(asked) == 3 else honest(model, part)

    monkeypatch.setattr(training, "summed_loss", spoil)
    with pytest.raises(InputError, match="the gradient became"):
        await LocalTuner().tune(job(base, tmp_path / "a"))
    assert not list((tmp_path / "a").iterdir())


@pytest.mark.parametrize(("module", "name", "fault"), [(fitting, "_save", no_space), (tune, "write_text", no_room)])
async def test_a_disk_that_is_full_at_the_very_end_costs_no_training(
    base, tmp_path, whole, monkeypatch, module, name, fault
):
    folder = tmp_path / "a"
    with monkeypatch.context() as patched:
        patched.setattr(module, name, fault)
        with pytest.raises(BackendUnavailable, match=r"No space left.*last checkpoint is intact"):
            await LocalTuner().tune(job(base, folder))
    assert not (folder / "tuned.json").exists()
    steps = []
    await LocalTuner().tune(job(base, folder), lambda progress: steps.append(progress.step))
    assert steps == []
    assert weights(folder) == whole


@pytest.mark.parametrize("damage", ["cut off", "a flipped bit", "no checkpoint at all"])
async def test_a_damaged_checkpoint_is_told_and_trained_again(base, broken_off, whole, damage):
    file = broken_off / checkpoint.FILE
    content = bytearray(file.read_bytes())
    if damage == "a flipped bit":
        content[-1000] ^= 1
    file.write_bytes({"cut off": content[:-10], "a flipped bit": content, "no checkpoint at all": b"x"}[damage])
    told, steps = [], []

    def observe(progress):
        (told if progress.phase else steps).append(progress.phase or progress.step)

    await LocalTuner().tune(job(base, broken_off), observe)
    assert len(told) == 1
    assert "is damaged (" in told[0]
    assert told[0].endswith("the training begins again")
    assert steps == list(range(1, 10))
    assert weights(broken_off) == whole


async def test_a_checkpoint_of_before_checksums_is_still_continued(base, broken_off, whole):
    with safe_open(broken_off / checkpoint.FILE, framework="pt") as file:
        metadata = {name: text for name, text in file.metadata().items() if name != "checksum"}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    save_file(tensors, broken_off / checkpoint.FILE, metadata=metadata)
    steps = []
    await LocalTuner().tune(job(base, broken_off), lambda progress: steps.append(progress.step))
    assert steps[0] == 4
    assert weights(broken_off) == whole


async def test_a_base_that_lost_its_template_is_refused_once_and_the_checkpoint_stays(tmp_path):
    base = save_model(tmp_path / "base")
    folder = tmp_path / "a"

    def stop(progress):
        if progress.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LocalTuner()._run(job(base, folder), stop, threading.Event())
    before = (folder / checkpoint.FILE).read_bytes()
    shutil.rmtree(base)
    save_model(base, template=False)
    with pytest.raises(InputError, match="has no chat template: it is a base model") as caught:
        await LocalTuner().tune(job(base, folder))
    assert len(caught.value.problems) == 1
    assert (folder / checkpoint.FILE).read_bytes() == before


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"extra": [("x", " ")]}, r"^train\[10\]: has an empty answer; there is nothing to learn from it\.$"),
        ({"extra": [("word " * 300, "y")]}, r"^train\[10\]: has \d+ tokens; the model's context window holds 256"),
        (
            {"only": [("a", "same"), ("b", "same")]},
            r"^train: all 2 answers are 'same'; a model would learn to say that",
        ),
        ({"only": []}, r"^train: is empty; there is nothing to learn from\. Add examples\.$"),
    ],
)
async def test_data_that_cannot_be_learnt_leave_the_checkpoint_of_others(base, broken_off, data, message):
    before = (broken_off / checkpoint.FILE).read_bytes()
    with pytest.raises(InputError, match=message) as caught:
        await LocalTuner().tune(job(base, broken_off, **data))
    assert len(caught.value.problems) == 1
    assert (broken_off / checkpoint.FILE).read_bytes() == before


async def test_of_many_bad_samples_the_first_are_told_and_the_rest_counted(base, tmp_path):
    with pytest.raises(InputError) as caught:
        await LocalTuner().tune(job(base, tmp_path / "a", extra=[("x", "")] * 40))
    *first, last = caught.value.problems
    assert [problem.where for problem in first] == [f"train[{number}]" for number in range(10, 15)]
    assert str(last) == (
        "train: 35 more conversations have such a problem, the last of them train[49]. Correct or remove them all."
    )
