import asyncio
import json
import math
import shutil

import pytest
import torch

from backends.errors import BackendUnavailable, InputError
from backends.local import adapters, checkpoint, loss, training
from backends.local.catalog import Place
from backends.local.chat import LocalChat
from backends.local.examples import Example, batches, by_tokens, encode
from backends.local.loading import load
from backends.local.prompts import Prompts
from backends.local.recipe import Recipe
from backends.local.tune import LocalTuner
from backends.types import ChatRequest, Message, TuneJob

from .local_models import own_cache, save_model, tiny, tiny_model, tiny_tokenizer  # noqa: F401

RECIPE = {"rank": 4, "epochs": 3, "batch_size": 4, "learning_rate": 0.02, "dtype": "float32"}


def conversation(question, answer):
    return (Message("user", question), Message("assistant", answer))


def job(base, folder, recipe=RECIPE, seed=0, train=None, dev=None):
    pairs = [(f"my {word} {i}", label) for i in range(5) for word, label in (("knee", "health"), ("match", "sport"))]
    rows = tuple(conversation(*pair) for pair in pairs)
    return TuneJob(
        f"local/{base}", rows if train is None else train, rows[:4] if dev is None else dev, seed, folder, recipe
    )


async def tune(base, folder, **options):
    return await LocalTuner(usd_per_hour=3.6).tune(job(base, folder, **options))


def weights(folder):
    return (folder / "adapter_model.safetensors").read_bytes()


# --- recipe ---------------------------------------------------------------------------------------------------------


def test_unknown_and_wrong_recipe_keys_are_all_named():
    with pytest.raises(InputError) as caught:
        Recipe.parse({"lerning_rate": 1e-4, "rank": 0, "epochs": 2.5, "batch_size": True, "dtype": "int4", "warmup": 1})
    text = str(caught.value)
    assert "Did you mean 'learning_rate'? Known are alpha, batch_size, dora, dropout, dtype" in text
    assert [p.where.rpartition(".")[2] for p in caught.value.problems] == [
        "lerning_rate",
        "rank",
        "epochs",
        "batch_size",
        "dtype",
        "warmup",
    ]


@pytest.mark.parametrize(("examples", "batch", "epochs"), [(3, 3, 8), (50, 4, 8), (200, 8, 5), (9000, 16, 1)])
def test_what_is_left_out_follows_the_size_of_the_data(examples, batch, epochs):
    recipe = Recipe().filled(examples=examples, hidden=576, dtype="float32")
    assert (recipe.batch_size, recipe.epochs, recipe.alpha, recipe.dtype) == (batch, epochs, 32, "float32")
    assert 1e-4 <= recipe.learning_rate <= 5e-4


def test_what_is_given_stays():
    recipe = Recipe.parse({"rank": 8, "alpha": 8, "epochs": 2, "warmup": 0, "learning_rate": 1e-5, "dtype": "bfloat16"})
    filled = recipe.filled(examples=200, hidden=576, dtype="float32")
    assert (filled.rank, filled.alpha, filled.epochs, filled.learning_rate, filled.dtype) == (8, 8, 2, 1e-5, "bfloat16")


def test_the_learning_rate_rises_and_falls():
    shares = [training.schedule(step, 100, 0.1) for step in range(100)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[9] == shares[10] == 1
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert 0 < shares[-1] < 0.01
    assert training.schedule(0, 1, 0.05) == training.schedule(0, 10, 0) == 1


# --- examples -------------------------------------------------------------------------------------------------------


def test_an_example_is_what_the_model_will_be_asked_and_its_answer():
    prompts = Prompts("tiny", tiny_tokenizer(), (2,))
    (example,) = encode(prompts, [conversation("my knee", "health")], "train", 256)
    question = prompts.encode([Message("user", "my knee")])
    assert list(example.ids[: len(question)]) == question
    assert example.ids[-1] == 2
    assert prompts.decode(example.ids[-example.answer :]) == "health"


def test_every_bad_conversation_is_named():
    prompts = Prompts("tiny", tiny_tokenizer(), (2,))
    rows = [
        conversation("x", "  "),
        (Message("user", "x"),),
        (Message("user", "x"), Message("user", "y")),
        conversation("word " * 300, "y"),
        conversation("x", "fine"),
    ]
    with pytest.raises(InputError) as caught:
        encode(prompts, rows, "train", 256)
    assert [problem.where for problem in caught.value.problems] == [f"train[{i}]" for i in range(4)]
    assert "context window holds 256" in str(caught.value)


def test_batches_are_a_reproducible_shuffle_of_like_lengths():
    examples = [Example((1,) * (5 + i % 40), 2) for i in range(203)]
    epoch = batches(examples, 8, 1, 0)
    assert epoch == batches(examples, 8, 1, 0)
    assert epoch != batches(examples, 8, 1, 1)
    assert sorted(len(e.ids) for batch in epoch for e in batch) == sorted(len(e.ids) for e in examples)
    padded = sum(max(len(e.ids) for e in batch) * len(batch) for batch in epoch)
    assert padded < 1.12 * sum(len(e.ids) for e in examples)


def test_a_large_batch_is_cut_by_tokens():
    examples = [Example((1,) * size, 1) for size in (10, 50, 10, 30, 300)]
    parts = by_tokens(examples, 100)
    assert [[len(e.ids) for e in part] for part in parts] == [[10, 10, 30], [50], [300]]


# --- loss -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "gpt2", "alibi", "sliding"])
def test_the_loss_is_that_of_transformers_on_the_answers_alone(kind):
    model = adapters.with_adapter(tiny_model(kind), Recipe(rank=4, alpha=4), 0)
    generator = torch.Generator().manual_seed(0)
    examples = [
        Example(tuple(torch.randint(3, 400, (size,), generator=generator).tolist()), answer)
        for size, answer in ((12, 3), (20, 1), (7, 6))
    ]
    expected = 0.0
    for example in examples:
        ids = torch.tensor([example.ids])
        labels = ids.clone()
        labels[:, : len(example.ids) - example.answer] = -100
        expected += model(input_ids=ids, labels=labels).loss.item() * example.answer
    assert loss.summed_loss(model, examples).item() == pytest.approx(expected, rel=1e-5)
    mean = loss.mean_loss(lambda part: loss.summed_loss(model, part), examples)
    assert mean == pytest.approx(expected / 10, rel=1e-5)


def test_a_batch_in_parts_steps_as_a_whole_one():
    gradients = []
    for limit in (2048, 1):
        model = adapters.with_adapter(tiny_model(), Recipe(rank=4, alpha=4), 0)
        examples = [Example((5, 6, 7, 8 + i), 2) for i in range(3)]
        parameters = adapters.trainable(model)
        for part in by_tokens(examples, limit):
            (loss.summed_loss(model, part) / 6).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in parameters.values()]))
    assert torch.allclose(*gradients, atol=1e-6)


# --- jobs -----------------------------------------------------------------------------------------------------------


async def test_a_tuned_model_learns_is_named_and_is_found_again(tiny, tmp_path):  # noqa: F811
    seen = []
    tuner = LocalTuner(usd_per_hour=3.6)
    tuned = await tuner.tune(job(tiny, tmp_path / "a"), seen.append)
    assert tuned.name.startswith(f"local/{tiny}+lora-")
    assert not tuned.cached
    assert [loss for _, loss in tuned.dev_losses] == sorted((loss for _, loss in tuned.dev_losses), reverse=True)
    assert tuned.dev_losses[-1][1] < 1.5
    assert [(p.step, p.steps) for p in seen] == [(i, 9) for i in range(1, 10)]
    assert seen[-1].seconds_left == 0
    assert tuned.losses[-1][0] == 9
    assert tuned.cost_usd == pytest.approx(tuned.seconds * 3.6 / 3600)
    assert {**RECIPE, "alpha": 8, "warmup": 0.05, "method": "lora", "layers": "all"}.items() <= tuned.recipe.items()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "tuned.json",
    ]
    again = await tuner.tune(job(tiny, tmp_path / "a"))
    assert again.cached
    assert (again.name, again.losses, again.dev_losses, again.trained_tokens, again.seconds) == (
        tuned.name,
        tuned.losses,
        tuned.dev_losses,
        tuned.trained_tokens,
        tuned.seconds,
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
async def test_the_same_job_gives_the_same_bits_and_the_seed_matters(tiny, tmp_path, dtype):  # noqa: F811
    recipe = RECIPE | {"dtype": dtype, "epochs": 2}
    one, two = [await tune(tiny, tmp_path / name, recipe=recipe) for name in "ab"]
    other = await tune(tiny, tmp_path / "c", recipe=recipe, seed=1)
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")
    assert one.name == two.name != other.name
    configs = [(tmp_path / name / "adapter_config.json").read_bytes() for name in "ab"]
    assert configs[0] == configs[1]


async def cancelled_after(base, folder, step):
    """Start the job and cancel it once `step` steps are done."""
    reached, loop = asyncio.Event(), asyncio.get_running_loop()

    def observe(progress):
        if progress.step == step:
            loop.call_soon_threadsafe(reached.set)
            # The loop must see the cancellation before the next step.
            asyncio.run_coroutine_threadsafe(cancelled.wait(), loop).result(10)

    cancelled = asyncio.Event()
    task = asyncio.create_task(LocalTuner().tune(job(base, folder), observe))
    await reached.wait()
    task.cancel()
    loop.call_later(0.05, cancelled.set)
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("damage", [None, "broken", "another job"])
async def test_a_cancelled_job_is_completed_to_the_same_bits(tiny, tmp_path, damage):  # noqa: F811
    whole = await tune(tiny, tmp_path / "whole")
    folder = tmp_path / "part"
    await cancelled_after(tiny, folder, 5)
    assert [path.name for path in folder.iterdir()] == [checkpoint.FILE]
    if damage == "broken":
        (folder / checkpoint.FILE).write_bytes(b"\x00" * 100)
    if damage == "another job":
        rename_job(folder)
    steps = []
    told = []
    resumed = await LocalTuner().tune(
        job(tiny, folder), lambda progress: (told if progress.phase else steps).append(progress.phase or progress.step)
    )
    assert len(told) == (damage == "broken")
    assert steps[0] == (4 if damage is None else 1)
    assert weights(folder) == weights(tmp_path / "whole")
    assert (resumed.losses, resumed.dev_losses) == (whole.losses, whole.dev_losses)


def rename_job(folder):
    """Make the folder's checkpoint one of another job."""
    from safetensors import safe_open

    with safe_open(folder / checkpoint.FILE, framework="pt") as file:
        key = file.metadata()["key"]
    checkpoint.save(folder, "another job", *checkpoint.load(folder, key))


async def test_the_best_epoch_on_dev_is_kept(tiny, tmp_path, monkeypatch):  # noqa: F811
    losses = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(training, "mean_loss", lambda *given: next(losses))
    three = await tune(tiny, tmp_path / "three")
    assert three.dev_losses == ((1, 3.0), (2, 1.0), (3, 2.0))
    falling = iter([3.0, 2.0, 1.0])
    monkeypatch.setattr(training, "mean_loss", lambda *given: next(falling))
    await tune(tiny, tmp_path / "falling")
    assert weights(tmp_path / "three") != weights(tmp_path / "falling")


async def test_without_dev_the_last_epoch_is_kept(tiny, tmp_path):  # noqa: F811
    tuned = await tune(tiny, tmp_path / "a", dev=())
    assert tuned.dev_losses == ()
    assert (tmp_path / "a" / "tuned.json").is_file()


async def test_the_tuned_model_opens_merged_and_answers_as_the_adapter(tiny, tmp_path):  # noqa: F811
    from peft import PeftModel

    from backends.local.quiet import peft_quiet

    tuned = await tune(tiny, tmp_path / "a")
    chat = LocalChat.open(tuned.name, folder=tuned.folder, usd_per_hour=1.0)
    by_path = LocalChat.open(f"local/{tuned.folder}", usd_per_hour=1.0)
    base = LocalChat.open(f"local/{tiny}", usd_per_hour=1.0)
    assert chat.fingerprint == by_path.fingerprint != base.fingerprint
    questions = ["my knee 3", "my match 9", "what else"]
    requests = [ChatRequest((Message("user", question),), max_tokens=8) for question in questions]
    answers = [answer.text for answer in await asyncio.gather(*(chat.complete(request) for request in requests))]
    assert answers[:2] == ["health", "sport"]
    assert chat.rates == base.rates
    model, prompts = load("tiny", Place(tiny), "float32", "cpu")
    with peft_quiet():
        adapter = PeftModel.from_pretrained(model, str(tuned.folder))
    for request, answer in zip(requests, answers, strict=True):
        ids = torch.tensor([prompts.encode(request.messages)])
        output = adapter.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=8)
        assert prompts.decode(output[0, ids.shape[1] :].tolist()) == answer
    await asyncio.gather(*(model.aclose() for model in (chat, by_path, base)))


async def test_an_adapter_whose_base_changed_or_does_not_fit_is_refused(tmp_path):
    base = save_model(tmp_path / "base")
    tuned = await tune(base, tmp_path / "a")
    shutil.rmtree(base)
    save_model(base, seed=1)
    request = ChatRequest((Message("user", "x"),), max_tokens=2)
    with pytest.raises(InputError, match="has other weights now"):
        await LocalChat.open(tuned.name, folder=tuned.folder).complete(request)
    (tuned.folder / "tuned.json").unlink()
    shutil.rmtree(base)
    save_model(base, hidden_size=32)
    with pytest.raises(InputError, match="cannot be opened"):
        await LocalChat.open(tuned.name, folder=tuned.folder).complete(request)


async def test_another_job_does_not_overwrite_a_finished_folder(tiny, tmp_path):  # noqa: F811
    await tune(tiny, tmp_path / "a")
    before = weights(tmp_path / "a")
    with pytest.raises(InputError, match="holds another model"):
        await tune(tiny, tmp_path / "a", seed=1)
    with pytest.raises(InputError, match="is itself an adapter"):
        await tune(tmp_path / "a", tmp_path / "b")
    assert weights(tmp_path / "a") == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": ()}, "nothing to learn from"),
        ({"train": (conversation("x", ""),)}, r"train\[0\]: has an empty answer"),
        ({"train": (conversation("x", ""),), "dev": (conversation("x", ""),)}, r"dev\[0\]: has an empty answer"),
        ({"train": (conversation("x", "a"), conversation("y", "a"))}, "train: all 2 answers are 'a'"),
        (
            {"train": (conversation("word " * 300, "a"),)},
            r"train\[0\]: has \d+ tokens; the model's context window holds 256",
        ),
        ({"recipe": {"ranc": 4}}, "Did you mean 'rank'"),
    ],
)
async def test_data_or_a_recipe_that_cannot_work_is_an_input_error(tiny, tmp_path, options, message):  # noqa: F811
    with pytest.raises(InputError, match=message):
        await tune(tiny, tmp_path / "a", **options)
    assert not (tmp_path / "a" / "tuned.json").exists()


async def test_a_base_without_a_chat_template_is_refused(tmp_path):
    base = save_model(tmp_path / "base", template=False)
    with pytest.raises(InputError, match="no chat template"):
        await tune(base, tmp_path / "a")


async def test_a_loss_that_is_not_a_number_stops_the_job(tiny, tmp_path, monkeypatch):  # noqa: F811
    honest = training.summed_loss
    monkeypatch.setattr(training, "summed_loss", lambda model, part: honest(model, part) * math.nan)
    with pytest.raises(InputError, match=r"loss became nan with 0\.02"):
        await tune(tiny, tmp_path / "a")


async def test_a_full_disk_leaves_the_former_checkpoint(tiny, tmp_path, monkeypatch):  # noqa: F811
    save, calls = checkpoint.save_file, []

    def fill(tensors, path, metadata):
        calls.append(path)
        if len(calls) == 2:
            path.write_bytes(b"half")
            raise checkpoint.SafetensorError("No space left on device")
        save(tensors, path, metadata=metadata)

    monkeypatch.setattr(checkpoint, "save_file", fill)
    with pytest.raises(BackendUnavailable, match=r"No space left.*last checkpoint is intact"):
        await tune(tiny, tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").iterdir()] == [checkpoint.FILE]
    steps = []
    await LocalTuner().tune(job(tiny, tmp_path / "a"), lambda progress: steps.append(progress.step))
    assert steps[0] == 4


async def test_too_little_memory_says_what_to_do(tiny, tmp_path, monkeypatch):  # noqa: F811
    def grow(model, part):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(training, "summed_loss", grow)
    with pytest.raises(BackendUnavailable, match="not enough memory to tune"):
        await tune(tiny, tmp_path / "a")


async def test_the_record_is_plain_json_with_what_it_was_made_from(tiny, tmp_path):  # noqa: F811
    await tune(tiny, tmp_path / "a")
    record = json.loads((tmp_path / "a" / "tuned.json").read_text(encoding="utf-8"))
    assert record["base"] == f"local/{tiny}"
    assert {"key", "base_content", "seed", "recipe", "losses", "dev_losses", "seconds"} <= set(record)
