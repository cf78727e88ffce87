"""The request that creates a job, and what its answer says of the hyperparameters."""

from __future__ import annotations

from typing import Any

from backends.openai.job_creation import NONCE
from backends.openai.job_results import hyperparameters_of
from backends.openai.job_state import StateFile
from backends.openai.job_work import Work
from backends.openai.jobs_api import Json
from backends.openai.training_file import Files


def body_of(work: Work, state: StateFile, files: Files) -> Json:
    """The request that creates the job.

    OpenAI and Azure want the hyperparameters under `method`; others know the older place, and no other method.
    """
    recipe, method = work.recipe, work.recipe.method
    figures = recipe.hyperparameters(len(work.job.train))
    is_new = work.endpoint.is_openai or "azure" in work.endpoint.host or method != "supervised"
    body: Json = {
        **recipe.extra_body,
        "model": work.model,
        "training_file": state.now.train_file,
        "suffix": recipe.suffix or f"advisor-{work.key[:8]}",
        "seed": work.job.seed % 2**31,
        "metadata": {NONCE: work.key},
        **({"method": {"type": method, method: {"hyperparameters": figures}}} if is_new else {}),
        **({} if is_new else {"hyperparameters": figures}),
    }
    return body | ({"validation_file": state.now.dev_file} if files.dev else {})


def recipe_used(work: Work, job: Json) -> dict[str, Any]:
    """The hyperparameters as the endpoint says it used them, in our words."""
    used = work.recipe.hyperparameters(len(work.job.train)) | hyperparameters_of(job)
    epochs = used.pop("n_epochs", work.epochs)
    return {"method": work.recipe.method, "epochs": epochs, **used}
