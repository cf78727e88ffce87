"""What a person is told about fine-tuning at an endpoint: dates, refusals, and what goes on without us."""

from __future__ import annotations

from backends.openai.endpoints import Endpoint
from backends.openai.job_creation import NONCE
from backends.openai.lifecycle import lifecycle

_LOCAL = "Train on your own machine instead: fine_tune: {backend: local, base: local/...}."


def dates(endpoint: Endpoint, model: str) -> tuple[str, ...]:
    """How long OpenAI still trains and serves a model; nothing of other endpoints, which keep their own calendar."""
    known = lifecycle(model) if endpoint.is_openai else None
    if known is None or known.shutdown is None:
        return ()
    training = f"takes tuning jobs of {model} until {known.training_ends}, from those who may still create them, and "
    return (
        f"OpenAI {training if known.training_ends else ''}shuts it down with all its fine-tunes on {known.shutdown}.",
    )


def closed(endpoint: Endpoint, model: str, said: str) -> str:
    """Why an account gets no training, with the dates, and what to do."""
    text = f"{endpoint.host} creates no tuning jobs for this account: {said}"
    if endpoint.is_openai:
        text = (
            f"{text} OpenAI shut out organisations that had not trained before 2026-05-07, and on 2026-07-02 those "
            f"that had not used a tuned model for 60 days. {' '.join(dates(endpoint, model))}"
        )
    return f"{text.rstrip()} {_LOCAL}"


def no_jobs(endpoint: Endpoint, said: str) -> str:
    """That an endpoint knows no such path."""
    what = f"{endpoint.base_url} has no fine-tuning jobs, as most servers of open models have none"
    return f"{what} ({said or 'HTTP 404'}). {_LOCAL}"


def no_model(endpoint: Endpoint, job: str) -> str:
    """That a job was done and left no model that can be asked by name."""
    return (
        f"the tuning job {job} at {endpoint.host} succeeded, but names no model that can be asked. Deploy it there, "
        f"then name the deployment under models: {endpoint.name}/DEPLOYMENT."
    )


def goes_on(endpoint: Endpoint, job: str | None, key: str) -> str:
    """That a job goes on and is billed, how to take it up again, and how to end it."""
    jobs = f"{endpoint.base_url}/fine_tuning/jobs"
    if job is None:
        return (
            f"A tuning job may have been created at {endpoint.host}; --resume looks for it by its metadata "
            f"{NONCE}={key}."
        )
    header = f' -H "Authorization: Bearer ${endpoint.key_env}"' if endpoint.key_env else ""
    return (
        f"The tuning job {job} goes on at {endpoint.host}; --resume takes it up again. To end it: "
        f"curl -X POST{header} {jobs}/{job}/cancel"
    )
