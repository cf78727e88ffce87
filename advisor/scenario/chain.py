"""The steps of a scenario's prompt chain: what their prompts refer to, and what their outputs are held to."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import yaml

from advisor.retrieval.retriever import STEP as RETRIEVAL
from advisor.scenario.answers import check_labels
from advisor.scenario.assets import read_output_schema
from advisor.scenario.choices import check_model
from advisor.scenario.document import Document
from advisor.scenario.findings import Findings
from advisor.scenario.schema import ChainStep as Said
from advisor.techniques.template import escaped, fields
from evals.task import ChainStep

_INPUT = "input"
_TAKEN = {_INPUT: "the sample's own text", RETRIEVAL: "what looking documents up is called"}


def load_chain(steps: Sequence[Said], findings: Findings) -> tuple[ChainStep, ...]:
    """The steps, ready to be asked; whatever is wrong with one is a problem at its line.

    A prompt that refers to nothing would see nothing of the sample: what is known by then is put after it, and a
    warning says so.
    """
    names = [step.name for step in steps]
    return tuple(_step(step, position, names, findings) for position, step in enumerate(steps))


def _step(said: Said, position: int, names: Sequence[str], findings: Findings) -> ChainStep:
    inside = _inside(findings, position)
    _check_name(said.name, names[:position], inside)
    if said.labels and said.output_schema:
        what = f"step {said.name!r} has both labels and output_schema."
        inside.problem(("output_schema",), what, "Keep the one that its output must follow.")
    if said.labels:
        check_labels(said.labels, inside)
    if said.model is not None:
        check_model(said.model, inside.document.place(("model",)), findings)
    return ChainStep(
        name=said.name,
        prompt=_prompt(said, position, names, inside),
        model=said.model,
        choices=tuple(said.labels or ()),
        json_schema=said.output_schema and read_output_schema(said.output_schema, (), inside),
        max_tokens=said.max_tokens,
    )


def _inside(findings: Findings, position: int) -> Findings:
    """The same findings, for keys that count from one step: its problems tell its own lines."""
    document = findings.document
    chain = next((value for key, value in document.root.value if key.value == "chain"), None)
    if isinstance(chain, yaml.SequenceNode) and isinstance(chain.value[position], yaml.MappingNode):
        document = Document(document.where, document.content, chain.value[position])
    return Findings(document, findings.folder, findings.problems, findings.warnings, findings.files)


def _check_name(name: str, earlier: Sequence[str], inside: Findings) -> None:
    """A name is what later prompts write between braces."""
    if name in earlier:
        inside.problem(("name",), f"two steps of the chain are called {name!r}.", "Rename one of the two.")
    elif name in _TAKEN:
        inside.problem(("name",), f"a step is called {name!r}, which is {_TAKEN[name]}.", "Rename the step.")
    elif not name.isidentifier():
        what = f"the step name {name!r} cannot be written as a field of a prompt."
        inside.problem(("name",), what, "Use letters, digits and _ only, beginning with a letter.")


def _prompt(said: Said, position: int, names: Sequence[str], inside: Findings) -> str:
    """The step's prompt; references to what is not known by then are problems."""
    known = [_INPUT, *names[:position]]
    try:
        used = fields(said.prompt)
    except ValueError as error:
        what = f"the prompt of step {said.name!r} {error}."
        inside.problem(("prompt",), what, "Write {input} or {NAME} of an earlier step, and {{ }} for braces as text.")
        return escaped(said.prompt)
    for field in used:
        if field not in known:
            what = f"the prompt of step {said.name!r} refers to {{{field}}}, {_unknown(field, position, names)}."
            inside.problem(("prompt",), what, _instead(field, known, names))
    if used:
        return said.prompt
    inside.warnings.append(
        f"{inside.document.place(('prompt',))}: the prompt of step {said.name!r} refers to nothing, so that "
        f"{' and '.join(f'{{{name}}}' for name in known)} will be put after it."
    )
    return "\n\n".join([said.prompt.strip(), *(f"{{{name}}}" for name in known)])


def _unknown(field: str, position: int, names: Sequence[str]) -> str:
    if field == names[position]:
        return "which is the step itself"
    return "which comes later" if field in names else "which is no step"


def _instead(field: str, known: Sequence[str], names: Sequence[str]) -> str:
    near = [] if field in names else difflib.get_close_matches(field, known, n=1)
    if near:
        return f"Did you mean {{{near[0]}}}?"
    return f"It may refer to {', '.join(f'{{{name}}}' for name in known)}."
