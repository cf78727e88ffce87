"""Fine-tuning jobs at any endpoint that speaks the OpenAI protocol: looked through, uploaded, created once, waited for.

A job is known by its key, a hash of base, data, recipe and seed. Whatever interrupts a sitting - Ctrl-C, a kill, an
outage - the next one finds the job by its key and goes on with it; nothing is paid for twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from backends.errors import BackendError, BackendUnavailable, InputError, RequestError
from backends.openai import explanations, training_costs
from backends.openai.client import GaveUp, Refused
from backends.openai.endpoints import key_problem
from backends.openai.job_body import body_of, recipe_used
from backends.openai.job_creation import created, found, status_of
from backends.openai.job_files import cleaned, uploaded
from backends.openai.job_results import (
    Results,
    error_of,
    results,
    seconds_of,
    trained_tokens,
)
from backends.openai.job_state import StateFile
from backends.openai.job_watch import Stuck, ended
from backends.openai.job_work import Work, looked_through
from backends.openai.jobs_api import Closed, JobsApi, Json, Missing
from backends.openai.pace import Pace
from backends.openai.retries import Policy
from backends.openai.tokens import base_model
from backends.openai.training_file import Tokens, files_of, remarks, tokens_of
from backends.openai.tuned import read_finished, write_finished
from backends.types import ChatRequest, Quote, TunedModel, TuneJob, TuneObserver, TuneProgress, Usage

_FAREWELL_SECONDS = 30.0
"""How long Ctrl-C may take where it is to end the job too."""
_MOST_READY = 8
"""How often a new model is looked for before it is asked although the endpoint does not list it yet."""


class OpenAITuner:
    """Implements Tuner. The job's folder holds `job.json` while it goes on and, written last, `tuned.json`."""

    def __init__(
        self, *, usd_per_hour: float | None = None, pace: Pace | None = None, policy: Policy | None = None
    ) -> None:
        """`usd_per_hour` is for machines of one's own."""
        self._pace = pace or Pace()
        self._policy = policy

    async def parity(self, base: str, model: TunedModel, requests: Sequence[ChatRequest]) -> None:
        """A model at an endpoint has one form."""

    def quote(self, job: TuneJob) -> Quote:
        """What is uploaded where, and what the training costs. Raises InputError for data that must not be sent."""
        work = looked_through(job)
        files = files_of(job, work.recipe)
        finished = read_finished(job.folder, work.key) is not None
        tokens = Tokens(0, 0) if finished else tokens_of(job, work.recipe, work.endpoint, base_model(work.model))
        return Quote(
            job=work.name,
            place=work.endpoint.host,
            leaves=not work.endpoint.is_our_own,
            train=len(job.train),
            dev=len(job.dev) if files.dev else 0,
            megabytes=(len(files.train) + len(files.dev)) / 1e6,
            tokens=tokens.counted,
            epochs=work.epochs,
            usd=work.cost(tokens.counted * work.epochs),
            worst_usd=work.cost(tokens.most * work.epochs),
            billed=training_costs.is_billed(work.endpoint, work.model),
            priced=training_costs.are_requests_priced(work.endpoint, work.model),
            finished=finished,
            notes=(*remarks(job, work.found), *explanations.dates(work.endpoint, work.model)),
        )

    async def tune(self, job: TuneJob, observe: TuneObserver | None = None) -> TunedModel:
        """Run the job to its end. Cut off, the job goes on at the endpoint unless the recipe says otherwise."""
        work = await asyncio.to_thread(looked_through, job)
        finished = read_finished(job.folder, work.key)
        if finished is not None:
            return finished
        problem = key_problem(job.base, work.endpoint)
        if problem is not None:
            raise InputError(problem)
        state = StateFile(job.folder, work.key, work.endpoint.base_url)
        async with JobsApi(work.endpoint, self._policy) as api:
            try:
                return await _Sitting(work, api, state, self._pace, observe).run()
            except Missing as error:
                raise RequestError(explanations.no_jobs(work.endpoint, str(error))) from None
            except Refused as error:
                raise RequestError(str(error)) from None
            except GaveUp as error:
                raise BackendUnavailable(f"{error} Go on later with --resume.") from None
            except asyncio.CancelledError:
                await asyncio.shield(_interrupted(work, api, state))
                raise

    def left_running(self, job: TuneJob) -> str | None:
        """That a job goes on, how to take it up again and how to end it; None where nothing was created."""
        work = looked_through(job)
        now = StateFile(job.folder, work.key, work.endpoint.base_url).now
        if not now.is_ours or now.ended:
            return None
        return explanations.goes_on(work.endpoint, now.job, now.key)


class _Sitting:
    """One sitting of one job."""

    def __init__(self, work: Work, api: JobsApi, state: StateFile, pace: Pace, observe: TuneObserver | None) -> None:
        self._work = work
        self._api = api
        self._state = state
        self._pace = pace
        self._observe = observe

    async def run(self) -> TunedModel:
        """Find or create the job, wait for its end, and take what it made."""
        was_ours = self._state.now.is_ours
        job = await found(self._api, self._state)
        is_reused = job is not None and not was_ours and status_of(job) == "succeeded"
        if job is None:
            job = await self._begun()
        self._state.change(job=str(job["id"]), ended=False)
        job = await self._waited(job)
        if status_of(job) != "succeeded":
            raise await self._failed(job)
        tuned = await self._taken(job, is_reused)
        write_finished(tuned, self._record(job))
        return tuned

    async def _begun(self) -> Json:
        """Upload the files and create the job. What was uploaded goes again when the job is refused."""
        self._tell("uploading the samples")
        files = files_of(self._work.job, self._work.recipe)
        try:
            await uploaded(self._api, self._state, files, self._pace)
            self._tell("creating the job")
            return await created(self._api, self._state, body_of(self._work, self._state, files), self._pace)
        except Closed as error:
            raise await self._refused(explanations.closed(self._work.endpoint, self._work.model, str(error))) from None
        except Refused as error:
            raise await self._refused(f"{self._work.endpoint.host} takes no such job: {error}") from None
        except Missing as error:
            raise await self._refused(explanations.no_jobs(self._work.endpoint, str(error))) from None
        except RequestError as error:
            raise await self._refused(str(error)) from None

    async def _refused(self, text: str) -> RequestError:
        """The error of a job that was never created, after the uploads are gone."""
        left = await cleaned(self._api, self._state)
        self._state.change(creating=False, job=None, ended=True)
        return RequestError(f"{text} {left or 'What was uploaded has been deleted.'}")

    async def _waited(self, job: Json) -> Json:
        hours = self._work.recipe.max_hours
        try:
            return await ended(self._api, job, self._observe, self._pace, hours * 3600)
        except Stuck as error:
            how = explanations.goes_on(self._work.endpoint, str(job["id"]), self._work.key)
            text = f"{error} {how} A longer wait: fine_tune.recipe.max_hours (now {hours:g})."
            raise BackendUnavailable(text) from None
        except BackendUnavailable as error:
            how = explanations.goes_on(self._work.endpoint, str(job["id"]), self._work.key)
            raise BackendUnavailable(f"{error} {how}") from None
        except (Missing, Refused) as error:
            self._state.change(ended=True)
            raise RequestError(
                f"the tuning job {job['id']} is gone from {self._work.endpoint.host}: {error}", Usage(cost_usd=None)
            ) from None

    async def _failed(self, job: Json) -> RequestError:
        """The error of a job that failed or was cancelled, with what is billed for it."""
        left = await cleaned(self._api, self._state)
        self._state.change(creating=False, job=None, ended=True)
        tokens = trained_tokens(job)
        # A job that failed its checks has trained nothing; one that was ended midway may be billed for what it did.
        cost = 0.0 if tokens is None and status_of(job) == "failed" else self._work.cost(tokens)
        said = self._api.clean(error_of(job)) or "it does not say why"
        verb = "failed" if status_of(job) == "failed" else "was cancelled"
        text = f"the tuning job {job['id']} at {self._work.endpoint.host} {verb}: {said}"
        return RequestError(
            " ".join([text if text.endswith(".") else f"{text}.", left or ""]).strip(), Usage(cost_usd=cost)
        )

    async def _taken(self, job: Json, is_reused: bool) -> TunedModel:
        work = self._work
        model = job.get("fine_tuned_model")
        tokens = trained_tokens(job)
        if not model:
            self._state.change(ended=True)
            raise RequestError(explanations.no_model(work.endpoint, str(job["id"])), Usage(cost_usd=work.cost(tokens)))
        gave = await results(self._api, job, work.epochs)
        await self._ready(str(model))
        left = await cleaned(self._api, self._state)
        counted = await asyncio.to_thread(tokens_of, work.job, work.recipe, work.endpoint, base_model(work.model))
        billed = counted.counted * work.epochs if tokens is None else tokens
        self._state.change(ended=True)
        return TunedModel(
            name=f"{work.endpoint.name}/{model}",
            folder=work.job.folder,
            trained_tokens=billed,
            seconds=seconds_of(job) or 0.0,
            cost_usd=work.cost(billed),
            losses=gave.losses,
            dev_losses=gave.dev_losses,
            recipe=recipe_used(work, job),
            cached=is_reused,
            hosted=True,
            checkpoints=tuple(f"{work.endpoint.name}/{one.model}" for one in gave.checkpoints),
            notes=self._notes(gave, tokens, left),
        )

    def _notes(self, gave: Results, tokens: int | None, left: str | None) -> tuple[str, ...]:
        uncounted = "The endpoint does not tell what it bills; the tokens of the samples times epochs were taken."
        found = [*remarks(self._work.job, self._work.found), *gave.notes]
        return (*found, *([uncounted] if tokens is None else []), *([left] if left else []))

    async def _ready(self, model: str) -> None:
        """Wait until a new model can be asked, which takes a while after its job has ended."""
        for look in range(_MOST_READY):
            try:
                await self._api.model(model)
            except Missing:
                await asyncio.sleep(self._pace.after(look))
            except (Refused, GaveUp):
                return
            else:
                return

    def _record(self, job: Json) -> dict[str, Any]:
        work = self._work
        own = {"key": work.key, "base": work.job.base, "seed": work.job.seed, "job": job["id"]}
        return {**own, "endpoint": work.endpoint.base_url, "trained_from": work.model}

    def _tell(self, phase: str) -> None:
        if self._observe is not None:
            self._observe(TuneProgress(0, 1, None, None, phase))


async def _interrupted(work: Work, api: JobsApi, state: StateFile) -> None:
    """End the job where the recipe says so; else leave it to go on."""
    if not work.recipe.cancel_on_interrupt or not state.now.is_ours:
        return
    with contextlib.suppress(BackendError, Refused, GaveUp, Missing, TimeoutError):
        async with asyncio.timeout(_FAREWELL_SECONDS):
            job = await found(api, state)
            if job is not None and status_of(job) != "succeeded":
                await api.cancel(str(job["id"]))
                await cleaned(api, state)
                state.change(creating=False, job=None, ended=True)
