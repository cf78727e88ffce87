"""What every test may rely on: no key in the environment, and a home that is not the user's."""

from __future__ import annotations

import os
import signal

import pytest

# Who starts the tests in the background of a script has them ignore Ctrl-C, and all that they start with them.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("OPENAI_", "ADVISOR_KEY"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def plain_reports(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second a run; only the tests of the page need pictures."""
    if "test_advisor_report_html" not in request.node.nodeid:
        monkeypatch.setattr("advisor.report.html.pictures._CHARTS", "no_such_module")
