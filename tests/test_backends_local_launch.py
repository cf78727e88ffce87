"""Training in several processes: what they learn, and what comes back when something goes wrong.

Two processes on a CPU; with several GPUs the same code runs over NCCL, which no test here can show.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import yaml
from safetensors.torch import load_file

from backends.errors import BackendUnavailable, InputError
from backends.local import adapters, checkpoint, estimate, frozen, group, launch
from backends.local.catalog import Place
from backends.local.estimate import Shape
from backends.local.examples import Example
from backends.local.group import Group
from backends.local.recipe import Recipe
from backends.local.training import Training
from backends.local.tune import LocalTuner, Work
from backends.types import Message, ToolCall, TuneJob

from .local_models import own_cache, save_model, tiny_model  # noqa: F401
from .test_backends_local_training_methods import job, weights

UPPER = {"rank": 4, "layers": "upper_third", "learning_rate": 0.002, "processes": 2}
CLOSE = 1e-5
"""How far weights may lie apart that differ by the order of sums alone, after nine steps. (At ten times the learning
rate Adam makes a hundred times as much of it.)"""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("base"), num_hidden_layers=3)


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory, own_cache_of_module):
    """Folder, model and progress of an unbroken training in two processes."""
    folder, seen = tmp_path_factory.mktemp("whole"), []
    model = asyncio.run(LocalTuner(usd_per_hour=3.6).tune(job(base, folder, **UPPER), seen.append))
    return folder, model, seen


@pytest.fixture(scope="module")
def own_cache_of_module(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVISOR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def tensors(folder):
    return load_file(folder / "adapter_model.safetensors")


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


# --- the group ------------------------------------------------------------------------------------------------------


class Threads(Group):
    """A group of threads: adds up by rank, as processes do over a network."""

    def __init__(self, rank, size, meeting, given):
        super().__init__(rank, size)
        object.__setattr__(self, "_meeting", (meeting, given))

    def _reduced(self, tensor, how):
        meeting, given = self._meeting
        given[self.rank] = tensor.clone()
        meeting.wait(30)
        total = torch.stack(given)
        tensor.copy_(total.sum(0) if how == torch.distributed.ReduceOp.SUM else total.min(0).values)
        meeting.wait(30)
        return tensor


def together(size, prepare, work):
    """What `work` makes, in as many threads, of what `prepare(group)` gave before they were started."""
    meeting, given = threading.Barrier(size), [None] * size
    prepared = [prepare(Threads(rank, size, meeting, given)) for rank in range(size)]
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(work, prepared))


def examples(count, answer=2):
    generator = torch.Generator().manual_seed(0)
    sizes = [5 + (7 * i) % 23 for i in range(count)]
    return [
        Example(tuple(torch.randint(3, 400, (size,), generator=generator).tolist()), answer + size % 3)
        for size in sizes
    ]


def opened(folder, data, recipe, group):
    model = adapters.with_adapter(tiny_model(), recipe, 0)
    folder = folder / str(group.rank)
    folder.mkdir(parents=True)
    return Training(model, recipe, data, data[:3], 0, folder, "key", group=group)


def trained(training):
    standing = training.run(None, threading.Event())
    return standing, {name: value.detach().clone() for name, value in adapters.trainable(training.model).items()}


# 11 examples in batches of 4 leave 3; of 9, one, of which the other processes have nothing.
@pytest.mark.parametrize(("count", "size"), [(11, 2), (9, 3)])
def test_processes_with_shares_of_every_batch_learn_what_one_learns(tmp_path, monkeypatch, count, size):
    monkeypatch.setattr(group, "_BUCKET", 1000)
    recipe = Recipe(rank=4).filled(examples=count, hidden=64, dtype="float32")
    data = examples(count)
    alone, expected = trained(opened(tmp_path / "alone", data, recipe, Group()))
    found = together(size, lambda group: opened(tmp_path / "together", data, recipe, group), trained)
    for standing, learnt in found:
        assert largest_difference(learnt, expected) < CLOSE
        assert [loss for _, loss in standing.losses] == pytest.approx([loss for _, loss in alone.losses], rel=1e-4)
        assert [loss for _, loss in standing.dev_losses] == pytest.approx([v for _, v in alone.dev_losses], rel=1e-4)
        assert all(torch.equal(learnt[name], found[0][1][name]) for name in learnt)
    assert [(tmp_path / "together" / str(rank) / checkpoint.FILE).exists() for rank in range(size)] == [
        rank == 0 for rank in range(size)
    ]


def test_shares_are_disjoint_whole_and_about_as_long():
    batch = sorted(examples(16), key=lambda example: len(example.ids))
    shares = [Group(rank, 3).share(batch) for rank in range(3)]
    assert sorted(each.ids for share in shares for each in share) == sorted(each.ids for each in batch)
    tokens = [sum(len(each.ids) for each in share) for share in shares]
    assert max(tokens) - min(tokens) < 30


def test_a_process_alone_adds_and_copies_nothing():
    alone = Group()
    batch = examples(3)
    assert alone.share(batch) is batch
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = gradient = torch.ones(2)
    alone.add_gradients([parameter])
    assert parameter.grad is gradient
    assert (alone.total(0.1), alone.least(3)) == (0.1, 3)


def test_a_lost_process_is_no_bare_error_of_the_network(monkeypatch):
    def lost(*args):
        raise RuntimeError("[/a/pair.cc:537] Connection closed by peer. GLHF!")

    monkeypatch.setattr(torch.distributed, "all_reduce", lost)
    with pytest.raises(BackendUnavailable, match=r"was lost \(Connection closed by peer\).*with fewer processes"):
        Group(0, 2).total(1.0)


# --- how many -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpus", "asked", "examples", "found"), [(None, None, 50, 1), (None, 2, 50, 2), (8, None, 50, 4), (2, None, 50, 2)]
)
def test_one_process_a_gpu_and_one_on_a_cpu(monkeypatch, gpus, asked, examples, found):
    monkeypatch.setattr(launch, "_gpus", lambda: gpus)
    recipe = Recipe(processes=asked)
    assert launch.in_processes(recipe, examples, "cuda" if gpus else "cpu").processes == found


@pytest.mark.parametrize(
    ("device", "asked", "message"),
    [
        ("cuda", 3, r"processes: 3 need a GPU each, and this machine has 2\. Take 2"),
        ("cpu", 9, r"processes: 9 cannot share batches of 4\. Take at most 4, or a larger batch_size"),
    ],
)
def test_more_processes_than_can_work_are_refused(monkeypatch, device, asked, message):
    monkeypatch.setattr(launch, "_gpus", lambda: 2)
    with pytest.raises(InputError, match=message):
        launch.in_processes(Recipe(processes=asked), 50, device)


def test_accelerate_reads_the_configuration_as_it_is_meant(tmp_path):
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    path = tmp_path / "accelerate.yaml"
    path.write_text(yaml.safe_dump(launch.accelerate_config(2, "cpu")), encoding="utf-8")
    asked = ["--config_file", str(path), "--num_cpu_threads_per_process", "1", "--module", "backends.local.worker", "x"]
    read, _, _ = _validate_launch_command(launch_command_parser().parse_args(asked))
    assert (read.multi_gpu, read.use_cpu, read.num_processes, read.num_machines) == (True, True, 2, 1)
    assert (read.mixed_precision, read.main_process_port) == ("no", 0)


@pytest.mark.parametrize(
    ("device", "processes", "share", "message"),
    [
        ("cpu", 2, 0.6, r"in 2 processes; .*This would fit: processes: 1 \("),
        ("cpu", 2, 0.45, r"in 2 processes; .*This would fit: processes: 1, dtype: bfloat16"),
        ("cuda", 2, 0.4, r"of memory on each GPU; .*This would fit: dtype: bfloat16"),
        ("cpu", 1, 0.9, r"of memory; .*This would fit: dtype: bfloat16"),
    ],
)
def test_memory_is_counted_for_each_gpu_and_for_all_processes_on_a_cpu(device, processes, share, message):
    recipe = Recipe(dtype="float32", processes=processes).filled(examples=100, hidden=64, dtype="float32")
    model, sizes = tiny_model(), {"tokens": 2000, "answers": 100}
    one = estimate.estimate(Shape.of(model, recipe), recipe, **sizes, device=device)
    needed = one * processes if device == "cpu" else one
    estimate.check(model, recipe, needed, **sizes, device=device)
    with pytest.raises(InputError, match=message):
        estimate.check(model, recipe, int(needed * share), **sizes, device=device)


# --- whole trainings ------------------------------------------------------------------------------------------------


async def test_two_processes_give_the_model_that_one_gives(base, whole, tmp_path):
    folder, model, seen = whole
    alone = await LocalTuner().tune(job(base, tmp_path / "alone", **UPPER | {"processes": 1}))
    assert largest_difference(tensors(folder), tensors(tmp_path / "alone")) < CLOSE
    assert model.name == alone.name
    assert model.trained_tokens == alone.trained_tokens
    assert [loss for _, loss in model.dev_losses] == pytest.approx([loss for _, loss in alone.dev_losses], rel=1e-4)
    assert [(each.step, each.steps) for each in seen] == [(step, 9) for step in range(1, 10)]
    assert (model.recipe["processes"], alone.recipe["processes"]) == (2, 1)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "tuned.json",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [{"rank": 4}, {"method": "full"}])
async def test_all_layers_and_all_weights_are_trained_alike_too(base, tmp_path, kind):
    for name, count in (("one", 1), ("two", 2)):
        await LocalTuner().tune(job(base, tmp_path / name, **kind, learning_rate=0.001, processes=count))
    (file,) = (path.name for path in (tmp_path / "one").glob("*.safetensors"))
    assert largest_difference(*(load_file(tmp_path / name / file) for name in ("one", "two"))) < CLOSE


@pytest.mark.slow
async def test_dropout_is_drawn_apart_and_again_the_same(base, tmp_path):
    for name in "ab":
        await LocalTuner().tune(job(base, tmp_path / name, rank=4, dropout=0.3, processes=2))
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


# --- interruptions --------------------------------------------------------------------------------------------------


def workers():
    """Process ids of the training processes of this machine's tests, by what they were started with."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                with open(f"/proc/{entry.name}/cmdline", "rb") as file:
                    command = file.read().split(b"\0")
            except OSError:
                continue
            if b"backends.local.worker" in command and b"accelerate.commands.launch" not in command:
                found.append((int(entry.name), command[-2].decode()))
    return found


def of(folder):
    return [pid for pid, handed in workers() if handed.startswith(str(folder))]


def gone(folder):
    """Whether all training processes of the folder end within a while."""
    for _ in range(300):
        if not of(folder):
            return True
        time.sleep(0.1)
    return False


async def resumed(base, folder):
    steps = []
    model = await LocalTuner().tune(job(base, folder, **UPPER), lambda progress: steps.append(progress.step))
    return model, steps


@pytest.mark.slow
async def test_a_cancelled_training_ends_its_processes_and_is_completed_to_the_same_bits(base, whole, tmp_path):
    folder, reached, loop = tmp_path / "cancelled", asyncio.Event(), asyncio.get_running_loop()

    def observe(progress):
        if progress.step == 5:
            # Held, so that no later epoch is seen to end.
            for pid in of(folder):
                os.kill(pid, signal.SIGSTOP)
            loop.call_soon_threadsafe(reached.set)

    task = asyncio.create_task(LocalTuner().tune(job(base, folder, **UPPER), observe))
    await reached.wait()
    held = of(folder)
    assert len(held) == 2
    task.cancel()
    for pid in held:
        os.kill(pid, signal.SIGCONT)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gone(folder)
    assert not (folder / launch.HANDED).exists()
    assert not (folder / frozen.FILE).exists()
    model, steps = await resumed(base, folder)
    assert 4 <= steps[0] <= 9
    assert weights(folder) == weights(whole[0])
    assert (model.losses, model.dev_losses) == (whole[1].losses, whole[1].dev_losses)


TRAIN = """
import asyncio, sys
from tests.test_backends_local_training_methods import job
from backends.local.tune import LocalTuner
from pathlib import Path

def observe(progress):
    print(progress.step, flush=True)
    if progress.step == 5:
        sys.stdin.read()

recipe = {"rank": 4, "layers": "upper_third", "learning_rate": 0.002, "processes": 2}
asyncio.run(LocalTuner().tune(job(Path(sys.argv[1]), Path(sys.argv[2]), **recipe), observe))
"""


@pytest.mark.slow
async def test_a_killed_training_leaves_no_process_and_is_completed_to_the_same_bits(base, whole, tmp_path):
    folder = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(base), str(folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert [int(process.stdout.readline()) for _ in range(5)] == [1, 2, 3, 4, 5]
    process.kill()
    process.communicate()
    assert gone(folder)
    assert not (folder / frozen.FILE).exists()
    assert (folder / checkpoint.FILE).exists()
    assert not (folder / "tuned.json").exists()
    model, steps = await resumed(base, folder)
    assert 4 <= (steps[0] if steps else 9) <= 9
    assert weights(folder) == weights(whole[0])
    assert (model.losses, model.dev_losses) == (whole[1].losses, whole[1].dev_losses)


@pytest.mark.slow
async def test_a_process_that_the_system_kills_is_one_clear_error(base, tmp_path):
    folder = tmp_path / "lost"

    def observe(progress):
        if progress.step == 1:
            os.kill(of(folder)[-1], signal.SIGKILL)

    with pytest.raises(BackendUnavailable, match=r"ended by SIGKILL|was lost \(.*Perhaps the system killed"):
        await LocalTuner().tune(job(base, folder, **UPPER, epochs=200), observe)
    assert gone(folder)


@pytest.mark.slow
async def test_what_a_process_refuses_comes_back_as_it_would_from_one(base, tmp_path):
    told = []
    for count in (1, 2):
        with pytest.raises(InputError) as caught:
            await LocalTuner().tune(job(base, tmp_path / "a", rank=4, layers="last_4", processes=count))
        told.append(caught.value.problems)
    assert told[0] == told[1]
    assert not list((tmp_path / "a").iterdir())


# --- what goes and what comes back ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        ({"problems": [["train[0]", "has an empty answer.", ""]]}, InputError, r"train\[0\]: has an empty answer"),
        ({"message": "cannot write to 'x'"}, BackendUnavailable, "cannot write to 'x'"),
        ({"traceback": "KeyError: 'x'"}, RuntimeError, "KeyError: 'x'"),
        (None, BackendUnavailable, r"2 training processes broke off: one was ended by SIGKILL, perhaps by the system"),
    ],
)
def test_the_first_error_of_a_process_is_raised_here(tmp_path, error, kind, message):
    log = "(SIGTERM)\nRoot Cause (first observed failure):\n  exitcode  : -9 (pid: 6934)  (SIGKILL)\n (SIGTERM)"
    (tmp_path / "log.txt").write_text(log, encoding="utf-8")
    if error is not None:
        (tmp_path / launch.ERROR).write_text(json.dumps(error), encoding="utf-8")
    with pytest.raises(kind, match=message):
        launch._result(tmp_path, 1, 2)


def test_a_job_is_handed_over_whole_and_without_pickles(tmp_path, monkeypatch):
    from backends.local import worker

    rows = (
        (
            Message("user", "weather?"),
            Message("assistant", "", tool_calls=(ToolCall("weather", '{"city": "Zürich"}', "1"),)),
            Message("tool", "rain", tool_call_id="1"),
            Message("assistant", "It rains."),
        ),
    )
    given = TuneJob("local/x", rows, (), 7, tmp_path / "a", {"targets": ["q_proj"], "rank": 4}, start=tmp_path / "b")
    work = Work(given, Recipe(targets=("q_proj",), rank=4, processes=2), Place(tmp_path), "content", "key")
    monkeypatch.setattr(worker, "locate", lambda name: Place(tmp_path))
    assert worker._work(json.loads(json.dumps(launch._as_json(work, "cpu")))) == work


def test_a_launcher_that_cannot_start_is_shown_with_its_last_words(tmp_path):
    (tmp_path / "log.txt").write_text("ModuleNotFoundError: No module named 'accelerate'\n", encoding="utf-8")
    with pytest.raises(BackendUnavailable, match=r"exit code 1, after \"ModuleNotFoundError: No module named 'accel"):
        launch._result(tmp_path, 1, 2)
