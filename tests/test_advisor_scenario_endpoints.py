"""`endpoints:` of a scenario: the same form as in advisor.toml, checked with file and line, and before it."""

import json
from pathlib import Path
from typing import Any

import pytest

from advisor.scenario.endpoints import ENDPOINTS_SCHEMA
from advisor.scenario.load import load_scenario
from advisor.scenario.model import Overrides
from backends import registry
from backends.errors import InputError
from backends.openai import endpoints
from backends.openai.settings import EndpointSettings
from tests import toys

KEY = "sk-planted-0123456789abcdef"
HERE = {"base_url": "http://127.0.0.1:9/v1"}


@pytest.fixture(autouse=True)
def _nothing_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "GEMINI_API_KEY", "MY_KEY"):
        monkeypatch.delenv(name, raising=False)
    yield
    registry.declare_endpoints({}, "")


def scenario(tmp_path: Path, model: str = "stub/m", **changes: Any) -> Path:
    return toys.scenario(tmp_path / "s", model, n_test=3, fine_tune={"when": "never"}, **changes)


def problems(path: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_scenario(path)
    return [str(problem) for problem in caught.value.problems]


def test_models_are_found_at_the_scenarios_endpoints_and_those_go_before_advisor_toml(tmp_path: Path) -> None:
    Path("advisor.toml").write_text(
        '[endpoints.stub]\nbase_url = "https://far/v1"\n[endpoints.b]\nbase_url="https://b/v1"\n', encoding="utf-8"
    )
    prices = {"org/m": {"input": 0.1, "output": 0.4}}
    said = {"stub": {**HERE, "prices": prices, "extra_body": {"reasoning_effort": "low"}, "max_concurrency": 3}}
    assert load_scenario(scenario(tmp_path, "stub/org/m", endpoints=said)).models == ("stub/org/m",)
    endpoint, model = endpoints.find("stub/org/m")
    assert (endpoint.base_url, model, endpoint.settings.max_concurrency) == (HERE["base_url"], "org/m", 3)
    assert json.loads(endpoint.settings.extra_body) == {"reasoning_effort": "low"}
    assert endpoints.find("b/m")[0].base_url == "https://b/v1", "both are merged"


def test_the_endpoints_of_one_scenario_are_not_those_of_the_next(tmp_path: Path) -> None:
    load_scenario(scenario(tmp_path, endpoints={"stub": HERE}))
    assert "no backend 'stub'" in problems(scenario(tmp_path))[0]


def test_endpoints_whose_usual_address_is_known_need_no_description(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, port in (("vllm", 8000), ("llamacpp", 8080), ("ollama", 11434)):
        assert load_scenario(scenario(tmp_path, f"{name}/m")).models == (f"{name}/m",)
        assert endpoints.find(f"{name}/m")[0].base_url == f"http://127.0.0.1:{port}/v1"
    assert "GEMINI_API_KEY is not set" in problems(scenario(tmp_path, "gemini/gemini-3-flash"))[0]
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    assert load_scenario(scenario(tmp_path, "gemini/gemini-3-flash")).models


def test_the_usual_key_goes_to_no_other_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    load_scenario(scenario(tmp_path, "gemini/m", endpoints={"gemini": {"base_url": "https://models.example.com/v1"}}))
    assert endpoints.find("gemini/m")[0].key() == ""


@pytest.mark.parametrize(
    ("said", "line", "words"),
    [
        ({"stub": {"base_url": "http://10.0.0.7:8000/v1"}}, "base_url", "travel unencrypted"),
        ({"stub": {}}, "stub", "endpoints.stub.base_url is missing"),
        ({"stub": {**HERE, "key_env": KEY}}, "key_env", "name of the environment variable"),
        ({"stub": {**HERE, "key_environ": "K"}}, "key_environ", "Did you mean 'key_env'?"),
        ({"stub": {**HERE, "prices": {"m": {"input": -1}}}}, "prices", "dollars per million"),
        ({"stub": {**HERE, "timeout_seconds": 0}}, "timeout_seconds", "number of seconds"),
        ({"stub": {**HERE, "stream": "yes"}}, "stream", "true or false"),
        ({"stub": {"base_url": f"https://me:{KEY}@x/v1"}}, "base_url", "environment variable"),
        ({"stub": HERE, "local": HERE}, "local", "is taken"),
        ({"stub": HERE, "a/b": HERE}, "a/b", "holds a slash"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_without_the_key(
    said: dict[str, Any], line: str, words: str, tmp_path: Path
) -> None:
    path = scenario(tmp_path, endpoints=said)
    number = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if text.strip().startswith(f"{line}:"))
    found = problems(path)
    assert any(one.startswith(f"scenario.yaml:{number}: ") and words in one for one in found), found
    assert KEY not in "".join(found)


@pytest.mark.parametrize("said", [["a"], {"stub": "http://127.0.0.1:9/v1"}, {1: HERE}])
def test_another_form_is_told_too(said: Any, tmp_path: Path) -> None:
    assert any(
        "endpoints" in one or "text" in one for one in problems(scenario(tmp_path, "scripted/echo", endpoints=said))
    )


def test_plain_http_to_others_is_for_those_who_allow_it(tmp_path: Path) -> None:
    said = {"stub": {"base_url": "http://10.0.0.7:8000/v1", "allow_http": True}}
    assert load_scenario(scenario(tmp_path, endpoints=said)).models == ("stub/m",)


def test_endpoints_are_part_of_what_a_run_is_resumed_by_and_scenarios_without_keep_their_hash(tmp_path: Path) -> None:
    plain = load_scenario(scenario(tmp_path, "scripted/echo"))
    first = load_scenario(scenario(tmp_path, endpoints={"stub": HERE}))
    other = load_scenario(scenario(tmp_path, endpoints={"stub": {"base_url": "http://127.0.0.1:8/v1"}}))
    assert len({plain.hash, first.hash, other.hash}) == 3
    assert load_scenario(scenario(tmp_path, "scripted/echo", endpoints={})).hash == plain.hash


def test_the_json_schema_names_what_the_settings_know() -> None:
    named = set(ENDPOINTS_SCHEMA["additionalProperties"]["properties"])
    assert named == {"base_url", "key_env", *EndpointSettings.__dataclass_fields__}


def test_batches_cannot_judge_how_long_answers_take(tmp_path: Path) -> None:
    path = scenario(tmp_path, "scripted/echo", goal={"target": 0.7, "max_p95_seconds": 1.0})
    with pytest.raises(InputError, match="max_p95_seconds"):
        load_scenario(path, Overrides(batch=True))
