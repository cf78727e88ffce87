"""The one rule of the layout: backends <- evals <- advisor, and heavy packages only in leaves."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import advisor
import backends
import evals

ROOT = Path(__file__).parent.parent
ALLOWED = {"backends": {"backends"}, "evals": {"backends", "evals"}, "advisor": {"backends", "evals", "advisor"}}
HEAVY = {
    *("torch", "transformers", "peft", "trl", "datasets", "faiss", "sentence_transformers", "openai", "ray"),
    *("bm25s", "gepa", "genai_prices", "nltk", "pypdf", "rouge_score", "sacrebleu", "sqlglot", "tiktoken"),
    *("accelerate", "starlette", "uvicorn", "vl_convert"),
}
LEAVES = {
    "advisor/report/html/charts.py",
    "advisor/serve/endpoint.py",
    "advisor/retrieval/bm25.py",
    "advisor/retrieval/vectors.py",
    "advisor/techniques/evolution.py",
    "advisor/techniques/neighbours.py",
    "backends/local",
    "backends/openai",
    "evals/pdf.py",
    "evals/scorers/logical_form.py",
    "evals/scorers/overlap.py",
}


def imports(source: str) -> Iterator[str]:
    """First parts of all absolute imports, deferred ones included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def wrong_way(package: str, source: str) -> set[str]:
    return {name for name in imports(source) if name in ALLOWED and name not in ALLOWED[package]}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_go_one_way(package: str) -> None:
    found = {path: wrong_way(package, path.read_text("utf-8")) for path in modules(package)}
    assert len(found) > 5
    assert {path: names for path, names in found.items() if names} == {}


def test_the_import_check_can_fail() -> None:
    assert wrong_way("evals", "def f():\n    from advisor.engine import run\n") == {"advisor"}


def test_heavy_packages_are_imported_in_leaves_only() -> None:
    found = {
        str(path.relative_to(ROOT)): HEAVY & set(imports(path.read_text("utf-8")))
        for package in ALLOWED
        for path in modules(package)
    }
    outside = {
        path: names for path, names in found.items() if names and not any(path.startswith(leaf) for leaf in LEAVES)
    }
    assert outside == {}
    assert any(found.values())


def test_our_packages_are_the_ones_in_this_tree() -> None:
    for module in (advisor, backends, evals):
        assert Path(str(module.__file__)).parent.parent == ROOT


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["check", "scenarios/helpdesk_routing"],
        ["estimate", "scenarios/helpdesk_routing"],
    ],
)
def test_quick_commands_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from advisor.cli import main\n"
        f"sys.argv = ['advisor', *{arguments!r}]\n"
        "try:\n    main()\n"
        "finally:\n"
        f"    loaded = {HEAVY | {'pandas', 'pyarrow'}!r} & set(sys.modules)\n"
        "    print('HEAVY', sorted(loaded))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "HEAVY []" in done.stdout
