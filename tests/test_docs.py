"""What the documentation says is executed or held to the code it describes."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pydantic import ValidationError

import advisor
from advisor.cli.app import app
from advisor.scenario.reference import reference
from advisor.scenario.schema import PLACEHOLDERS, ScenarioFile
from advisor.techniques import registry
from backends.errors import InputError
from backends.openai.settings import settings_problems
from tests import toys

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = sorted([*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("scenarios/*/README.md")])
OTHERS = {"--enable-lora", "--max-lora-rank", "--lora-modules"}
"""Options of vLLM."""


def examples(page: str) -> list[str]:
    return EXAMPLE.findall((DOCS / page).read_text("utf-8"))


@pytest.mark.parametrize("number", range(6))
def test_every_example_of_the_python_api_runs(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    toys.scenario(tmp_path / "tickets", toys.script(tmp_path, "m", toys.rules(1.0)))
    exec(compile(examples("python-api.md")[number], f"python-api.md, example {number}", "exec"), {"__name__": "x"})
    assert capsys.readouterr().out.strip()


def test_all_examples_are_run() -> None:
    assert len(examples("python-api.md")) == 6


def test_the_scenario_reference_is_the_schemas() -> None:
    assert (DOCS / "scenario.md").read_text("utf-8") == reference()


def test_every_exported_name_exists() -> None:
    for name in advisor.__all__:
        assert getattr(advisor, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        advisor.nothing  # noqa: B018


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*DOCS.glob("*.md"), DOCS.parent / "README.md"]
    links = [
        (page.name, link)
        for page in pages
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
        if not (page.parent / link).exists()
    ]
    assert len(pages) > 5
    assert links == []


# -- commands, options and keys that pages show -----------------------------------------------------------------------


def commands() -> dict[str, set[str]]:
    """Every command with its options."""
    found = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return {
        name: {"--help", *(form for one in command.params for form in (*one.opts, *one.secondary_opts))}
        for name, command in found.items()
    }


def code(text: str) -> Iterator[str]:
    """Lines of code blocks but for Python and TOML, and code within sentences."""
    for language, block in FENCE.findall(text):
        yield from block.splitlines() if language in {"", "bash", "yaml"} else ()
    # A sentence may break its line within code.
    yield from (" ".join(one.split()) for one in re.findall(r"`([^`]+)`", FENCE.sub("", text)))


def misnamed(text: str) -> list[str]:
    """Commands and options that the code of a page shows and the command line does not have."""
    known = commands()
    every = set().union(*known.values()) | OTHERS
    found = []
    for line in code(text):
        asked = re.search(r"(?<!from )(?<![\w-])advisor ([a-z]+)", line)
        options = re.findall(r"(?<![\w-])--[a-z][a-z-]*", line.partition(" #")[0])
        if asked and asked[1] not in known:
            found.append(f"advisor {asked[1]}")
        own = known.get(asked[1], every) if asked else every
        command = f"{asked[1]} " if asked else ""
        is_ours = asked or line.startswith("--")
        found += [f"{command}{option}" for option in options if is_ours and option not in own]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_and_option_that_a_page_shows_exists(page: Path) -> None:
    assert misnamed(page.read_text("utf-8")) == []


def test_pages_show_every_command_and_a_wrong_one_would_be_seen() -> None:
    told = " ".join(line for page in PAGES for line in code(page.read_text("utf-8")))
    assert [name for name in commands() if f"advisor {name} " not in told] == []
    wrong = "```\nadvisor climb x\nadvisor runs --probe 3\n```\nSay `advisor check x --budget-usd 1` or `--batches`."
    assert misnamed(wrong) == ["advisor climb", "runs --probe", "check --budget-usd", "--batches"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_scripts_that_a_page_runs_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    modules = re.findall(r"python -m ([\w.]+)", text)
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []
    assert [name for name in re.findall(r"python (\w[\w/]*\.py)", text) if not (ROOT / name).is_file()] == []


def snippets(page: Path, language: str) -> list[str]:
    return [block for found, block in FENCE.findall(page.read_text("utf-8")) if found == language]


def faults(said: Any) -> list[str]:
    """What the schema, the endpoints, the techniques and the tuners have against a part of a scenario."""
    assert isinstance(said, dict)
    try:
        ScenarioFile.model_validate({**PLACEHOLDERS, **said})
    except ValidationError as error:
        return [f"{one['loc']}: {one['msg']}" for one in error.errors()]
    sections = said.get("endpoints", {}).items()
    found = [str(one) for name, section in sections for one in settings_problems(name, section)]
    named = said.get("techniques", [])
    for spec in [] if named == "auto" else named:
        name, options = (spec, {}) if isinstance(spec, str) else (spec["name"], {**spec})
        options.pop("name", None)
        found += map(str, registry.problems(name, options))
        found += recipe_faults("local", options.get("recipe"))
    tuning = said.get("fine_tune", {})
    return found + recipe_faults(tuning.get("backend", "local"), tuning.get("recipe"))


def recipe_faults(backend: str, recipe: dict[str, Any] | None) -> list[str]:
    from backends.local.recipe import check_recipe as local
    from backends.openai.training_recipe import check_recipe as remote

    try:
        {"local": local, "openai": remote}[backend](recipe or {})
    except InputError as error:
        return [str(error)]
    return []


@pytest.mark.parametrize("page", [page for page in PAGES if snippets(page, "yaml")], ids=lambda page: page.name)
def test_every_key_of_a_scenario_that_a_page_shows_is_known(page: Path) -> None:
    shown = [yaml.safe_load(block) for block in snippets(page, "yaml")]
    assert [fault for said in shown if "jobs" not in said for fault in faults(said)] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"goal": {"target": 0.8, "margins": 0.1}},
        {"endpoints": {"x": {"base_uri": "https://x"}}},
        {"techniques": [{"name": "few_shot", "n": 3}]},
        {"fine_tune": {"recipe": {"ranks": 3}}},
        {"fine_tune": {"backend": "openai", "recipe": {"rank": 3}}},
    ],
)
def test_a_wrong_key_would_be_seen(wrong: dict[str, Any]) -> None:
    assert len(faults(wrong)) == 1


def test_every_endpoint_of_an_advisor_toml_that_a_page_shows_is_in_order() -> None:
    shown = [tomllib.loads(block) for page in PAGES for block in snippets(page, "toml")]
    assert shown
    sections = [(name, section) for said in shown for name, section in said["endpoints"].items()]
    assert [problem for name, section in sections for problem in settings_problems(name, section)] == []


def test_presets_that_the_page_lists_are_those_there_are() -> None:
    from backends.openai.endpoints import USUAL

    page = (DOCS / "endpoints-and-prices.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)/[^`]+` \| [^|]+ \| `?(\w+)`? \|$", page, re.MULTILINE))
    assert rows == {name: key or "none" for name, (_, key) in USUAL.items()}


def test_the_page_has_every_setting_of_an_endpoint() -> None:
    from advisor.scenario.endpoints import ENDPOINTS_SCHEMA

    page = (DOCS / "endpoints-and-prices.md").read_text("utf-8")
    told = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert set(ENDPOINTS_SCHEMA["additionalProperties"]["properties"]) <= told
