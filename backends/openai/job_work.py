"""A fine-tuning job looked through and named: what every step of it works from. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from backends.local.files import hash_of
from backends.openai import training_costs
from backends.openai.endpoints import Endpoint, find
from backends.openai.training_file import check
from backends.openai.training_recipe import Recipe, check_endpoint
from backends.openai.tuned import model_to_start_from
from backends.openai.upload_check import Scan
from backends.types import Message, TuneJob


@dataclass(frozen=True, slots=True)
class Work:
    """A job, looked through."""

    job: TuneJob
    recipe: Recipe
    endpoint: Endpoint
    model: str
    """What is trained: the base, or a model tuned before, by the endpoint's own name."""
    key: str
    found: Scan

    @property
    def name(self) -> str:
        """Names the job for people and books."""
        return f"{self.job.base}+ft-{self.key[:8]}"

    @property
    def epochs(self) -> int:
        """Passes over the train samples."""
        return self.recipe.epochs_for(len(self.job.train))

    def cost(self, tokens: int | None) -> float | None:
        """Dollars for so many trained tokens."""
        return training_costs.cost(self.endpoint, self.model, tokens)


def check_upload(job: TuneJob) -> None:
    """Raise InputError for a job that must not, or cannot, be sent. Counts no tokens."""
    looked_through(job)


def looked_through(job: TuneJob) -> Work:
    """The job with its key. Raises InputError for a recipe or data that must not be sent."""
    recipe = Recipe.parse(job.recipe)
    endpoint, _ = find(job.base)
    check_endpoint(recipe, endpoint)
    scan = check(job, recipe, endpoint)
    trained = model_to_start_from(job.base, job.start)
    return Work(job, recipe, endpoint, trained.partition("/")[2], _key(job, recipe, endpoint, trained), scan)


def _key(job: TuneJob, recipe: Recipe, endpoint: Endpoint, trained: str) -> str:
    """The same on every machine: everything that makes the model what it is, and nothing else."""

    def plain(conversations: Sequence[Sequence[Message]]) -> list[list[list[str]]]:
        return [[[message.role, message.content] for message in conversation] for conversation in conversations]

    waiting = {"max_hours", "cancel_on_interrupt", "allow_secrets"}
    learning = {name: value for name, value in asdict(recipe).items() if name not in waiting}
    data = [plain(job.train), plain(job.dev), list(job.rejected), list(job.dev_rejected)]
    return hash_of([endpoint.base_url.partition("://")[2], trained.partition("/")[2], data, learning, job.seed])
