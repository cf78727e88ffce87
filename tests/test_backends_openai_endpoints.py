import subprocess
import sys
import time
from pathlib import Path

import pytest

from backends import registry
from backends.errors import InputError
from backends.openai import endpoints
from backends.openai.endpoints import find, problem

KEY = "sk-planted-0123456789abcdef"


@pytest.fixture(autouse=True)
def _nothing_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "MY_KEY"):
        monkeypatch.delenv(name, raising=False)


def write(text: str, folder: Path = Path()) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "advisor.toml").write_text(text, encoding="utf-8")


def test_openai_needs_its_key_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    found = registry.problem("openai/gpt-6-luna")
    assert found is not None
    assert "OPENAI_API_KEY" in found.what
    assert "export OPENAI_API_KEY" in found.remedy
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert registry.problem("openai/gpt-6-luna") is None
    endpoint, model = find("openai/gpt-6-luna")
    assert (endpoint.base_url, model, endpoint.is_openai) == ("https://api.openai.com/v1", "gpt-6-luna", True)


def test_the_environment_moves_openai_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1/")
    endpoint, _ = find("openai/x")
    assert (endpoint.base_url, endpoint.is_openai, endpoint.is_loopback) == ("http://127.0.0.1:9/v1", False, True)
    assert problem("openai/x") is None
    monkeypatch.setenv("OPENAI_BASE_URL", "http://models.example.com/v1")
    found = problem("openai/x")
    assert found is not None
    assert "unencrypted" in found.what


def test_named_endpoints_give_models_their_first_name(monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        '[endpoints.nebius]\nbase_url = "https://models.example.com/v1/"\nkey_env = "MY_KEY"\n'
        'extra_body = {reasoning_effort = "low"}\n[endpoints.nebius.prices."org/m"]\ninput = 0.1\noutput = 0.4\n'
    )
    found = registry.problem("nebius/org/m")
    assert found is not None
    assert "MY_KEY" in found.what
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    assert registry.problem("nebius/org/m") is None
    endpoint, model = find("nebius/org/m")
    assert (model, endpoint.key(), endpoint.prices_of("org/m")) == ("org/m", KEY, endpoints.TokenPrices(0.1, 0.4))
    assert endpoint.settings.extra_body == '{"reasoning_effort": "low"}'


def test_the_nearer_file_goes_first(tmp_path: Path) -> None:
    write('[endpoints.a]\nbase_url = "https://far/v1"\n[endpoints.b]\nbase_url = "https://b/v1"\n', tmp_path / "x")
    far = tmp_path / "home" / ".config" / "advisor"
    far.mkdir(parents=True)
    (tmp_path / "x" / "advisor.toml").rename(far / "advisor.toml")
    write('[endpoints.a]\nbase_url = "https://near/v1"\n')
    assert find("a/m")[0].base_url == "https://near/v1"
    assert find("b/m")[0].base_url == "https://b/v1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[endpoints.a\n", "no TOML"),
        ('endpoints = "x"\n', "no table"),
        ('[endpoints.local]\nbase_url = "https://x/v1"\n', "taken"),
        ('[endpoints."a/b"]\nbase_url = "https://x/v1"\n', "slash"),
        ("[endpoints.a]\n", "base_url is missing"),
        ('[endpoints.a]\nbase_url = "https://x/v1"\nkey_environ = "K"\n', "Did you mean 'key_env'?"),
        (f'[endpoints.a]\nbase_url = "https://x/v1"\nkey_env = "{KEY}"\n', "name of the environment variable"),
        (f'[endpoints.a]\nbase_url = "https://me:{KEY}@x/v1"\n', "environment variable"),
        (f'[endpoints.a]\nbase_url = "https://x/v1?api-key={KEY}"\n', "environment variable"),
        ('[endpoints.a]\nbase_url = "ftp://x/v1"\n', "no address"),
        ('[endpoints.a]\nbase_url = "https://x:99999999/v1"\n', "no address"),
        ('[endpoints.a]\nbase_url = "http://10.0.0.7:8000/v1"\n', "set allow_http to true"),
        ('[endpoints.a]\nbase_url = "https://x/v1"\ntimeout_seconds = 0\n', "number of seconds"),
        ('[endpoints.a]\nbase_url = "https://x/v1"\nprices = {m = {input = -1}}\n', "dollars per million"),
        ('[endpoints.a]\nbase_url = "https://x/v1"\nextra_body = {when = 2026-01-01}\n', "table of fields"),
    ],
)
def test_a_wrong_file_is_one_clear_problem_without_the_key(text: str, words: str) -> None:
    write(text)
    found = registry.problem("a/m")
    assert found is not None
    assert words in str(found)
    assert KEY not in str(found)
    assert found.remedy


def test_all_that_is_wrong_with_an_endpoint_is_told_at_once() -> None:
    write('[endpoints.a]\nbase_url = "https://x/v1"\nallow_http = 1\ntools = "yes"\n')
    with pytest.raises(InputError) as caught:
        find("a/m")
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "[::1]", "localhost", "vllm.localhost"])
def test_plain_http_is_fine_on_this_machine(host: str) -> None:
    write(f'[endpoints.a]\nbase_url = "http://{host}:8000/v1"\n')
    assert registry.problem("a/m") is None


def test_plain_http_elsewhere_is_for_those_who_allow_it() -> None:
    write('[endpoints.a]\nbase_url = "http://10.0.0.7:8000/v1"\nallow_http = true\n')
    assert registry.problem("a/m") is None


def test_a_host_that_only_begins_like_this_machine_is_not_it() -> None:
    for host in ("localhost.example.com", "127.0.0.1.example.com", "notlocalhost"):
        assert not endpoints.is_loopback(host)


@pytest.mark.parametrize("key", [f"{KEY}\nX-Evil: 1", f"{KEY} {KEY}", "schlüssel-0123456789"])
def test_a_key_that_cannot_be_one_is_refused_without_being_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    found = registry.problem("openai/x")
    assert found is not None
    assert "characters that no key has" in found.what
    assert key not in str(found)
    assert KEY not in str(found)


def test_an_endpoint_that_nobody_described_is_a_problem_that_names_near_ones() -> None:
    write('[endpoints.nebius]\nbase_url = "https://x/v1"\n')
    found = registry.problem("nebus/m")
    assert found is not None
    assert "Did you mean nebius/m?" in found.remedy


def test_what_the_backend_does_not_have_is_said() -> None:
    assert "no tuner" in str(registry.tuning_problem("stub", "openai/gpt-4.1-mini", {}))
    with pytest.raises(InputError, match="no tuner"):
        registry.open_tuner("stub", registry.Settings())
    with pytest.raises(InputError, match="no cross-encoders"):
        registry.open_reranker("openai/x", registry.Settings())


def test_opening_without_a_key_says_which_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for opening in (registry.open_chat, registry.open_embedder):
        with pytest.raises(InputError, match="OPENAI_API_KEY"):
            opening("openai/x", registry.Settings())
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    chat = registry.open_chat("openai/gpt-6-luna", registry.Settings())
    assert (chat.name, chat.billed, chat.native_tools) == ("openai/gpt-6-luna", True, True)
    embedder = registry.open_embedder("openai/text-embedding-3-small", registry.Settings())
    for model in (chat, embedder):
        assert KEY not in f"{model!r} {model} {model.fingerprint} {vars(model)}"


def test_the_check_imports_no_sdk_and_takes_milliseconds() -> None:
    code = (
        "import sys\nfrom backends import registry\nregistry.problem('openai/x')\n"
        "print([name for name in ('openai', 'httpx2', 'tiktoken', 'genai_prices') if name in sys.modules])"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"
    begun = time.process_time()
    for _ in range(10):
        registry.problem("openai/x")
    assert time.process_time() - begun < 0.5


def test_the_fingerprint_knows_what_changes_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def fingerprint(name: str, text: str = "") -> str:
        write(text)
        return registry.open_chat(name, registry.Settings()).fingerprint

    plain = fingerprint("openai/x")
    assert plain == fingerprint("openai/x")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-another-one-entirely")
    assert plain == fingerprint("openai/x")
    others = {
        fingerprint("openai/y"),
        fingerprint("openai/x", '[endpoints.openai]\nbase_url = "https://x/v1"\n'),
        fingerprint("openai/x", '[endpoints.openai]\nextra_body = {reasoning_effort = "low"}\n'),
        fingerprint("openai/x", "[endpoints.openai]\nreasoning_tokens = 9\n"),
    }
    assert len(others | {plain}) == 5
