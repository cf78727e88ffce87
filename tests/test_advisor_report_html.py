"""report.html: everything on it comes from the run, nothing on it runs or loads, and it can be read by everybody."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import itertools
import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from advisor import engine
from advisor.cli import history
from advisor.contender import rules_for
from advisor.goal import Goal
from advisor.report.html import explorer
from advisor.report.html.evidence import Conversation, Evidence, gather
from advisor.report.html.explorer import Exploration, explore, script_json
from advisor.report.html.figures.all import figures
from advisor.report.html.figures.climb import climb
from advisor.report.html.figures.figure import Figure
from advisor.report.html.figures.mistakes import tabulated
from advisor.report.html.figures.placing import place_labels, spread
from advisor.report.html.figures.quality import cost_against_score
from advisor.report.html.figures.spending import monthly
from advisor.report.html.figures.training import learning_curve
from advisor.report.html.figures.worth import worth
from advisor.report.html.markup import Markup, element
from advisor.report.html.names import named
from advisor.report.html.page import asset, page
from advisor.scenario.load import load_scenario
from advisor.tuning.investment import Investment, drivers, expected_usd, present_value
from backends.types import ChatResponse, Usage
from evals.cache import store_path
from evals.statistics.binary import BinaryTest
from evals.store import Store
from evals.trial import Score, Trial
from tests import toys
from tests.chromium import BINARY, Chromium, browser

PLANTED = "<script>window.planted=1</script>"
LOADED = '</script><img src="https://evil.example/x.png" onerror="window.planted=2">'


@dataclasses.dataclass(frozen=True)
class Made:
    """A run for a test to look at."""

    scenario: Path
    workspace: Path
    report: dict[str, Any]
    html: str

    def evidence(self, store: Store, *, scenario: bool = True) -> Evidence:
        found = load_scenario(self.scenario) if scenario else None
        return gather(store, self.report["run_id"], Goal(**self.report["goal"]), found)

    def figure(self, name: str) -> Figure:
        with Store.open(store_path(self.workspace)) as store:
            return next(one for one in figures(self.report, self.evidence(store)) if one.name == name)


def make(folder: Path, rules: list[dict[str, str]], kind: Any = engine.run, **changes: Any) -> Made:
    folder.mkdir(parents=True, exist_ok=True)
    model = toys.script(folder, "model", rules, usd_per_1m_input=1.0, usd_per_1m_output=4.0)
    scenario = toys.scenario(folder / "s", model, **changes)
    return ran(scenario, folder / "w", kind)


def ran(scenario: Path, workspace: Path, kind: Any = engine.run) -> Made:
    finished = kind(scenario, workspace)
    html = (finished.folder / "report.html").read_text("utf-8")
    return Made(scenario, workspace, dict(finished.report), html)


@pytest.fixture(scope="module")
def picked(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("picked"), toys.rules(0.93, needs="worked example"))


@pytest.fixture(scope="module")
def escalated(tmp_path_factory: pytest.TempPathFactory) -> Made:
    techniques = ["zero_shot", "few_shot", "fine_tune"]
    return make(tmp_path_factory.mktemp("escalated"), toys.rules(0.55), techniques=techniques)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Made:
    techniques = ["zero_shot", "few_shot", {"name": "few_shot", "k": 2}]
    rules = toys.rules(0.9, needs="worked example")
    return make(tmp_path_factory.mktemp("compared"), rules, engine.compare, n_test=60, techniques=techniques)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A run whose name, inputs, labels, answers and errors all try to become markup."""
    folder = tmp_path_factory.mktemp("hostile")
    label = f"iron{PLANTED}"
    rules: list[dict[str, str]] = [
        {"when": "message 3 about", "error": f"no answer {LOADED}"},
        {"when": "message [4-9] about", "answer": f"an answer {PLANTED}{LOADED}"},
        {"when": "iron|copper|zinc|nickel", "answer": label},
        *toys.rules(1.0),
    ]
    model = toys.script(folder, "model", rules)
    path = toys.scenario(
        folder / "s",
        model,
        n_test=60,
        instructions=f"Sort the message. {LOADED}",
        labels=["fruit", "river", label],
        techniques=["zero_shot", "few_shot"],
        goal={"target": 0.7, "margin": 0.1, "max_error_rate": 0.5},
        fine_tune={"when": "never"},
    )
    for split in ("train", "dev", "test"):
        data = path.parent / f"{split}.jsonl"
        rows = [json.loads(line) for line in data.read_text("utf-8").splitlines()]
        for row in rows:
            row["target"] = label if row["target"] == "metal" else row["target"]
            row["input"] += f" {LOADED}"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    made = ran(path, folder / "w", engine.compare)
    # No scenario may have such a name; a report that was tampered with may.
    report = made.report | {"scenario": made.report["scenario"] | {"name": f"toy {PLANTED}"}}
    with Store.open(store_path(made.workspace)) as store:
        html = page(report, made.evidence(store))
    written(made).write_text(html, "utf-8")
    return dataclasses.replace(made, report=report, html=html)


def written(made: Made) -> Path:
    return made.workspace / "runs" / made.report["run_id"] / "report.html"


class Reader(HTMLParser):
    """A page as a browser sees it: elements with attributes, and the text of those asked for."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            continue

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.append((self._open[-1], data))

    def text(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def embedded(html: str) -> dict[str, Any]:
    (data,) = re.findall(r'<script type="application/json" id="explorer-data">(.*?)</script>', html, re.DOTALL)
    return dict(json.loads(data))


def test_the_page_opens_with_the_verdict_and_holds_every_reason_step_and_candidate(picked: Made) -> None:
    reader = Reader(picked.html)
    assert len(reader.text("h1")) == 1
    assert reader.text("h1")[0].startswith("Use few_shot on scripted/")
    said = "\n".join(text for _, text in reader.texts)
    for sentence in [*picked.report["because"], *(risk["text"] for risk in picked.report["risks"])]:
        assert sentence in said
    names = [one.label for one in named(picked.report)]
    assert names == ["1 zero_shot", "2 few_shot", "3 knn_few_shot", "4 fine_tune"]
    assert set(names) <= set(reader.text("th"))
    assert [text for text in reader.text("code") if text.startswith("advisor compare ")], "a command to copy"


def test_figures_on_the_page_are_those_of_the_report(picked: Made) -> None:
    row = next(one for one in picked.report["candidates"] if one["id"] == picked.report["pick"])
    said = Reader(picked.html).text("span")
    assert f"{row['mean_score']:.3f}" in said
    assert f"{row['score']['low']:.3f}–{row['score']['high']:.3f}" in said
    assert f"${row['usd_per_1k_requests']:.3g}" in said


@pytest.mark.parametrize("name", ["picked", "escalated", "compared", "hostile"])
def test_the_page_loads_nothing_and_runs_one_script_known_by_its_hash(
    name: str, request: pytest.FixtureRequest
) -> None:
    html = request.getfixturevalue(name).html
    reader = Reader(html)
    assert not {tag for tag, _ in reader.elements} & {"img", "link", "iframe", "object", "embed", "base", "form"}
    for tag, attributes in reader.elements:
        assert not any(key.startswith("on") for key in attributes), (tag, attributes)
        links = {attributes.get(key) for key in ("src", "href", "xlink:href", "srcset", "data", "action")} - {None}
        assert all(str(link).startswith("#") for link in links), (tag, links)
    assert [one.get("type") for one in reader.all("script")] == ["application/json", None]
    policy = next(str(one["content"]) for one in reader.all("meta") if "http-equiv" in one)
    assert policy.startswith("default-src 'none'")
    for tag in ("style", "script"):
        code = html.rpartition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not any("style" in attributes for _, attributes in reader.elements), "the policy would refuse it"
    assert not re.search(r"url\((?!#)|@import", html.split("</style>")[0])


def test_what_models_and_users_wrote_stays_text(hostile: Made) -> None:
    reader = Reader(hostile.html)
    said = "\n".join(text for tag, text in reader.texts if tag != "script")
    assert f"toy {PLANTED}" in said, "shown as it was written"
    assert any("iron<script>" in text for text in reader.text("text")), "a label in the picture of confusions"
    data = embedded(hostile.html)
    for planted in (PLANTED, LOADED):
        assert any(planted in text for text in data["texts"])
    assert "<" not in script_json(data)
    assert json.loads(script_json({"a": "<!--\u2028</script>&"})) == {"a": "<!--\u2028</script>&"}


def test_every_picture_has_a_text_alternative_and_its_data_as_a_table(escalated: Made) -> None:
    parts = re.findall(r"<figure.*?</figure>", escalated.html, re.DOTALL)
    assert len(parts) >= 7
    for part in parts:
        reader = Reader(part)
        (image,) = [one for one in reader.all("div") if one.get("role") == "img"]
        assert len(str(image["aria-label"])) > 40
        assert reader.all("svg")
        assert reader.all("table")
        assert all(one.get("scope") in {"col", "row"} for one in reader.all("th"))


def test_headings_go_down_one_step_at_a_time_and_landmarks_are_there(escalated: Made) -> None:
    reader = Reader(escalated.html)
    levels = [int(tag[1]) for tag, _ in reader.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert {"header", "nav", "main", "footer"} <= {tag for tag, _ in reader.elements}
    assert all(one.get("tabindex") == "0" for one in reader.all("div") if one.get("class") == "scroll")
    ids = [str(attributes["id"]) for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {str(one["href"])[1:] for one in reader.all("a")}
    assert targets <= set(ids)


def test_without_the_drawing_package_the_page_has_tables_and_says_what_to_install(
    picked: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    monkeypatch.delitem(sys.modules, "advisor.report.html.charts", raising=False)
    with Store.open(store_path(picked.workspace)) as store:
        html = page(picked.report, picked.evidence(store))
    reader = Reader(html)
    assert not reader.all("svg")
    assert len(reader.all("figure")) >= 6
    assert any("pip install 'cheapest-llm-advisor[report]'" in text for text in reader.text("p"))


ODD: dict[str, tuple[list[dict[str, str]], dict[str, Any], Any]] = {
    "no answer at all": ([{"when": ".", "error": "down"}], {"fine_tune": {"when": "never"}}, engine.run),
    "graded scores": (
        toys.rules(0.8, needs="worked example"),
        {"scorer": "token_f1", "labels": None, "fine_tune": {"when": "never"}},
        engine.run,
    ),
    "stopped by the budget": (toys.rules(0.5), {"budget": {"minutes": 1e-9}}, engine.run),
    "one label takes all": ([{"when": ".", "answer": "fruit"}], {"fine_tune": {"when": "never"}}, engine.compare),
    "no traffic": (toys.rules(0.9), {"traffic": {}, "techniques": ["zero_shot"]}, engine.run),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_runs_have_a_page_too(name: str, tmp_path: Path) -> None:
    rules, changes, kind = ODD[name]
    made = make(tmp_path, rules, kind, n_test=30, **changes)
    reader = Reader(made.html)
    assert reader.text("h1")
    assert len(reader.all("table")) >= 1
    assert len(reader.all("svg")) >= len(reader.all("figure"))
    assert not re.search(r"\b(None|nan|NaN)\b", made.html.split('<script type="application/json"')[0])


# -- colours ------------------------------------------------------------------------------------------------------

TEXT = ("ink", "muted", "accent", "target", "good", "bad", "warn")
GROUNDS = ("page", "surface", "raised", "wash")
DRAWN = ("plain", "accent", "target", "series-1", "series-2", "series-3")


def palettes() -> list[dict[str, str]]:
    """The page's colours in light, dark and print."""
    found = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in asset("page.css").split(":root")[1:]]
    assert [len(palette) for palette in found] == [len(found[0])] * 3
    return found


def contrast(one: str, other: str) -> float:
    """WCAG 2.2: (L1 + 0.05) / (L2 + 0.05) of relative luminances."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_what_the_formula_says() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("palette", palettes(), ids=["light", "dark", "print"])
def test_text_can_be_read_and_lines_be_seen_on_every_ground(palette: Mapping[str, str]) -> None:
    texts = {(text, ground): contrast(palette[text], palette[ground]) for text in TEXT for ground in GROUNDS}
    assert {pair: ratio for pair, ratio in texts.items() if ratio < 4.5} == {}
    lines = {name: contrast(palette[name], palette["surface"]) for name in DRAWN}
    assert {name: ratio for name, ratio in lines.items() if ratio < 3} == {}


# -- markup and pictures ------------------------------------------------------------------------------------------


def test_text_is_escaped_unless_it_is_markup() -> None:
    made = element("p", "<b>", Markup("<i></i>"), None, class_='"x"', hidden=True, data_at=3, title=None)
    assert made == '<p class="&quot;x&quot;" hidden data-at="3">&lt;b&gt;<i></i></p>'


def test_a_picture_keeps_nothing_but_drawing() -> None:
    from advisor.report.html.charts import svg

    values = [{"a": "</text><script>1</script>", "b": 1}]
    spec = {
        "data": {"values": values},
        "mark": {"type": "bar", "clip": True, "tooltip": True},
        "encoding": {
            "x": {"field": "b", "type": "quantitative"},
            "y": {"field": "a", "type": "nominal"},
        },
    }
    reader = Reader(svg(spec, "one"))
    assert {tag for tag, _ in reader.elements} <= {"svg", "g", "path", "rect", "line", "text", "defs", "clippath"}
    assert not any("href" in key or key.startswith("on") for _, found in reader.elements for key in found)
    assert "</text><script>1</script>" in reader.text("text")
    assert all(str(found["id"]).startswith("one-") for _, found in reader.elements if "id" in found)


def test_pictures_are_drawn_from_the_data_alone() -> None:
    from advisor.report.html.charts import svg

    with pytest.raises(ValueError, match="not allowed"):
        svg({"data": {"url": "http://127.0.0.1:9/x.json"}, "mark": "bar"}, "one")


def test_names_in_a_picture_do_not_cover_each_other() -> None:
    texts = [f"{number} a_long_technique" for number in range(1, 9)]
    placed = place_labels([1.0] * 8, [0.9] * 8, texts, [0, 2], [0, 1], (450, 280), False)
    spots = {(label.align, label.dx, label.dy) for label in placed}
    assert len(spots) == 8
    assert spread([0.5, 0.5, 0.1], 0.2) == [0.5, 0.7, 0.1]


# -- what the figures say -----------------------------------------------------------------------------------------


def test_an_unknown_price_is_left_out_and_named_never_drawn_as_zero(compared: Made) -> None:
    report = json.loads(json.dumps(compared.report))
    report["candidates"][0]["usd_per_1k_requests"] = None
    figure = cost_against_score(report, named(report))
    assert figure is not None
    unpriced = named(report)[0]
    assert unpriced.label not in [row[0] for row in figure.rows]
    assert f"not drawn: {unpriced.short}" in figure.summary
    drawn = monthly(report, named(report))
    assert drawn is not None
    assert unpriced.label not in [row[0] for row in drawn.rows]


def test_the_boundaries_drawn_are_those_the_candidate_was_tested_by(picked: Made) -> None:
    with Store.open(store_path(picked.workspace)) as store:
        evidence = picked.evidence(store)
        figure = climb(picked.report, named(picked.report), evidence)
    assert figure is not None
    areas = [layer for layer in figure.draw(400)["layer"] if layer["mark"]["type"] == "area"]
    level = picked.report["alpha_ledger"][0]["alpha"]
    test = rules_for(Goal(**picked.report["goal"]), 120, level, binary=True, groups=None).quality
    assert isinstance(test, BinaryTest)
    drawn = {row["n"]: (row["low"], row["high"]) for row in areas[0]["data"]["values"]}
    for look, certify in zip(test.looks, test.design.certify, strict=True):
        if look in drawn and certify < look:
            assert drawn[look][1] == pytest.approx(certify / look, abs=0.01)
    pick = next(one for one in picked.report["candidates"] if one["id"] == picked.report["pick"])
    assert (pick["n"], pick["mean_score"]) == (40, pytest.approx(drawn[40][1], abs=0.1))


def test_paths_follow_the_order_in_which_samples_were_drawn(picked: Made) -> None:
    with Store.open(store_path(picked.workspace)) as store:
        evidence = picked.evidence(store)
    order = [sample.id for sample in evidence.order]
    asked = [trial.sample_id for trial in evidence.of(str(picked.report["pick"]))]
    assert asked == order[:40]
    assert asked != sorted(asked)


def test_confusions_count_each_trial_once_and_name_the_worst(compared: Made) -> None:
    figure = compared.figure("confusion")
    pick = next(one for one in compared.report["candidates"] if one["id"] == compared.report["pick"])
    assert sum(int(cell) for row in figure.rows for cell in row[1:]) == pick["n"] - pick["errors"]
    many = [f"label {number}" for number in range(30)]
    found = tabulated([(many[29], many[28])] * 3 + [(label, label) for label in many], many)
    assert len(found.labels) == 12
    assert found.counts[many[29], many[28]] == 3


def test_the_learning_curve_shows_pilot_forecast_and_what_was_reached() -> None:
    forecast = {"multiple": 1.0, "score": 0.8, "low": 0.7, "high": 0.9, "p_reach": 0.4, "decision": "go"}
    more = forecast | {"multiple": 4.0, "score": 0.85}
    escalation = {
        "forecast": forecast | {"wanted": 0.82, "with_more_data": more},
        "pilot": [{"fraction": f, "samples": int(400 * f), "score": 0.6 + f / 4} for f in (0.25, 0.5)],
        "tuned": {"dev_score": 0.81, "best_dev_score_before": 0.55},
    }
    report = {"escalation": escalation, "scenario": {"n_train": 400}, "goal": {"target": 0.8}}
    figure = learning_curve(report)
    assert figure is not None
    rows = {row[0]: row[1:] for row in figure.rows}
    assert rows["forecast"] == ("400", "0.800 (0.700–0.900)")
    assert rows["forecast with more data"][0] == "1,600"
    assert rows["reached"] == ("400", "0.810")
    assert "a chance of 40 %" in figure.summary
    assert learning_curve(report | {"escalation": None}) is None


def test_the_worth_of_a_fine_tune_names_what_it_hangs_on() -> None:
    from advisor.report.html.charts import svg

    plan = Investment(fixed_usd=300.0, saving_usd_per_request=0.001, requests_per_month=50_000, months=9, success=0.6)
    value = dataclasses.asdict(present_value(plan))
    found = {"candidate": "fine_tune@m", "against": "few_shot@m", "assumptions": dataclasses.asdict(plan)}
    found |= value | {"drivers": [dataclasses.asdict(driver) for driver in drivers(plan)]}
    figure = worth({"economics": {"net_present_value": found}})
    assert figure is not None
    assert f"positive with probability {value['p_positive']:.0%}".replace("%", " %") in figure.summary
    assert figure.rows[0][0] in {"requests per month", "months", "saving $ per request"}
    drawn = figure.draw(330)["layer"][0]["data"]["values"]
    assert {row["from"] for row in drawn} == {expected_usd(plan)}
    assert svg(figure.draw(330), "w").count("<path") >= 2 * len(figure.rows)
    assert worth({"economics": {"net_present_value": None}}) is None


# -- the sample explorer ------------------------------------------------------------------------------------------


def text_of(data: Mapping[str, Any], at: Any) -> str:
    """A text of the explorer's data, read as the page's script reads it."""
    return "\n\n".join(data["texts"][part] for part in at) if isinstance(at, list) else str(data["texts"][at])


def messages_of(data: Mapping[str, Any], request: int) -> list[tuple[str, str]]:
    turn, messages = data["requests"][request][0], []
    while turn is not None:
        turn, role, content, _ = data["turns"][turn]
        messages.insert(0, (data["names"][role], text_of(data, content)))
    return messages


def test_the_explorer_holds_every_trial_with_the_exact_prompt_and_answer(compared: Made) -> None:
    data = embedded(compared.html)
    with Store.open(store_path(compared.workspace)) as store:
        evidence = compared.evidence(store)
        place = {one["id"]: at for at, one in enumerate(data["candidates"])}
        columns = data["trials"]
        found = {
            (
                columns["candidate"][at],
                data["samples"][0][columns["sample"][at]],
                data["names"][columns["kind"][at]],
            ): at
            for at in range(len(columns["candidate"]))
        }
        assert len(found) == len(evidence.trials) > 180
        for trial in evidence.trials:
            at = found[place[trial.candidate], trial.sample_id, trial.variant or trial.split]
            assert columns["seconds"][at] == pytest.approx(trial.seconds, rel=1e-3)
            assert text_of(data, columns["output"][at]) == trial.output
            for number, key in zip(columns["requests"][at], trial.response_keys, strict=True):
                conversation = evidence.conversation(key)
                assert conversation is not None
                assert messages_of(data, number) == [tuple(message[:2]) for message in conversation.messages]
                assert text_of(data, data["requests"][number][2]) == conversation.answer.text


def test_what_prompts_share_is_kept_once(compared: Made) -> None:
    data = embedded(compared.html)
    assert len(data["texts"]) == len(set(data["texts"]))
    messages = sum(len(messages_of(data, number)) for number in range(len(data["requests"])))
    assert len(data["turns"]) < messages / 3


def test_failures_carry_the_cause_that_was_found(compared: Made) -> None:
    data = embedded(compared.html)
    causes = {data["names"][at] for at in data["trials"]["cause"] if at is not None}
    assert causes == {one["cause"] for row in compared.report["candidates"] for one in row["diagnosis"]}


def long_prompts(evidence: Evidence, characters: int) -> Evidence:
    """The same trials with prompts that share nothing."""

    def conversation(key: str) -> Conversation:
        words = " ".join(hashlib.sha256(f"{key}{at}".encode()).hexdigest() for at in range(characters // 65))
        return Conversation((("system", "Sort."), ("user", words)), {"max_tokens": 5}, ChatResponse("x", Usage(), 0.0))

    return dataclasses.replace(evidence, conversation=conversation)


def shown(exploration: Exploration, evidence: Evidence) -> dict[bool, int]:
    """Trials with prompts, by whether they are right."""
    columns, counts = exploration.data["trials"], {True: 0, False: 0}
    for score, requests in zip(columns["score"], columns["requests"], strict=True):
        counts[score is not None and score >= evidence.right_from] += requests is not None
    return counts


def test_when_room_runs_out_prompts_of_right_answers_go_first_and_the_page_says_so(
    compared: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(store_path(compared.workspace)) as store:
        evidence = long_prompts(compared.evidence(store), 2000)
    trials = tuple(trial for trial in evidence.trials if trial.split == "test" and not trial.variant)
    evidence = dataclasses.replace(evidence, trials=trials)
    wrong = sum(not evidence.right(trial) for trial in trials)
    whole = explore(compared.report, evidence, 10**9)
    assert whole.without_prompts == 0
    part = explore(compared.report, evidence, 300_000)
    assert part.without_prompts > 0
    assert shown(part, evidence)[False] == wrong
    assert shown(part, evidence)[True] < shown(whole, evidence)[True]
    assert len(script_json(part.data)) < 330_000
    monkeypatch.setattr(explorer.explore, "__defaults__", (300_000,))
    assert f"prompts of {part.without_prompts:,} trials are left out" in page(compared.report, evidence)


def test_long_texts_are_cut_before_the_file_grows_beyond_its_room(compared: Made) -> None:
    with Store.open(store_path(compared.workspace)) as store:
        evidence = compared.evidence(store)
        answers = [dataclasses.replace(one, output=f"{at} " * 20_000) for at, one in enumerate(evidence.trials)]
        found = explore(compared.report, dataclasses.replace(evidence, trials=tuple(answers)), 1_000_000)
    assert len(script_json(found.data)) < 1_000_000
    assert any("more characters)" in text for text in found.data["texts"])


# -- writing it again ---------------------------------------------------------------------------------------------


def again(made: Made, folder: Path, spoil: Any) -> tuple[dict[str, Any], str]:
    """`advisor report` on a copy of a workspace, after `spoil` did something to the scenario."""
    workspace = folder / "w"
    shutil.copytree(made.workspace, workspace)
    kept = made.scenario.read_text("utf-8")
    try:
        spoil(made.scenario, workspace)
        report, place = history.rewrite_report(workspace, made.report["run_id"])
    finally:
        made.scenario.write_text(kept, "utf-8")
    assert {path.name for path in place.iterdir()} >= {"report.json", "report.md", "report.html", "junit.xml"}
    # Commands name the copy, in which they work.
    told = json.dumps(report["next_steps"])
    assert str(workspace) in told
    report["next_steps"] = json.loads(told.replace(str(workspace), str(made.workspace)))
    return report, (place / "report.html").read_text("utf-8").replace(str(workspace), str(made.workspace))


def test_a_report_written_again_is_the_same_page(picked: Made, tmp_path: Path) -> None:
    report, html = again(picked, tmp_path, lambda scenario, workspace: None)
    assert report == json.loads(json.dumps(picked.report))
    assert html == picked.html


def test_when_the_scenario_changed_the_frozen_copy_is_read(picked: Made, tmp_path: Path) -> None:
    def spoil(scenario: Path, workspace: Path) -> None:
        scenario.write_text(scenario.read_text("utf-8").replace("Sort the", "Please sort the"), "utf-8")

    assert again(picked, tmp_path, spoil)[1] == picked.html


def test_when_the_scenario_is_gone_the_page_shows_what_the_store_knows(picked: Made, tmp_path: Path) -> None:
    def spoil(scenario: Path, workspace: Path) -> None:
        scenario.unlink()
        for copy in workspace.glob("runs/*/scenario/scenario.yaml"):
            copy.unlink()

    html = again(picked, tmp_path, spoil)[1]
    data = embedded(html)
    assert set(data["samples"][1]) == {None}, "inputs are not known as such"
    assert messages_of(data, data["trials"]["requests"][0][0])[-1][0] == "user", "but prompts are"
    assert 'id="figure-climb"' not in html, "the order of samples is not known"


# -- in a browser -------------------------------------------------------------------------------------------------

in_a_browser = [
    pytest.mark.slow,
    pytest.mark.skipif(BINARY is None, reason="no Chromium found: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with browser() as opened:
        yield opened


class TestInABrowser:
    """What only a browser can tell."""

    pytestmark = in_a_browser

    @pytest.mark.parametrize("name", ["picked", "escalated", "compared"])
    @pytest.mark.parametrize("mode", ["desktop", "phone", "dark", "without script"])
    def test_it_opens_without_a_complaint_asks_for_nothing_and_fits(
        self, name: str, mode: str, chromium: Chromium, request: pytest.FixtureRequest, tmp_path: Path
    ) -> None:
        path = written(request.getfixturevalue(name))
        width = 360 if mode == "phone" else 1280
        tab = chromium.open(
            path, width=width, height=800, dark=mode == "dark", phone=mode == "phone", script=mode != "without script"
        )
        assert tab.complaints == []
        assert tab.requested == [path.resolve().as_uri()]
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        wide = "[...document.querySelectorAll('#trainings .scroll')].some((box) => box.scrollWidth > box.clientWidth)"
        assert not tab.evaluate(wide), "what was won and forgotten is read without scrolling sideways"
        tab.screenshot(tmp_path / "page.png", width=width)
        assert (tmp_path / "page.png").stat().st_size > 10_000
        dark = tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(17, 21, 26)"
        assert dark == (mode == "dark")
        assert tab.evaluate("document.querySelector('#explorer').hidden") == (mode == "without script")

    def test_planted_markup_does_nothing(self, hostile: Made, chromium: Chromium) -> None:
        tab = chromium.open(written(hostile))
        listed = tab.evaluate("document.querySelectorAll('.entry').length")
        assert listed > 5
        for outcome in ("error", "wrong", "right"):
            tab.evaluate(f"choose('explorer-candidate', '') ; choose('explorer-outcome', '{outcome}')".join(CHOOSE))
            for _ in range(6):
                tab.evaluate("document.querySelector('#explorer-list').focus()")
                tab.press("ArrowDown", 40)
                tab.evaluate("document.querySelectorAll('#explorer-detail details').forEach((one) => one.open = true)")
        assert tab.evaluate("window.planted") is None
        assert tab.evaluate("document.images.length") == 0
        assert tab.complaints == []
        assert tab.requested == [written(hostile).resolve().as_uri()]

    def test_a_script_that_got_in_would_be_refused(self, picked: Made, chromium: Chromium, tmp_path: Path) -> None:
        path = tmp_path / "spoilt.html"
        path.write_text(picked.html.replace("<main", f"{PLANTED}{LOADED}<main", 1), "utf-8")
        tab = chromium.open(path)
        assert tab.evaluate("window.planted") is None
        assert any("Content Security Policy" in text for text in tab.complaints)

    def test_the_explorer_filters_compares_and_shows_the_prompt(self, compared: Made, chromium: Chromium) -> None:
        tab = chromium.open(written(compared))
        count = "document.querySelector('#explorer-count').textContent"

        def pick(**values: str) -> str:
            calls = "; ".join(f"choose('explorer-{name}', {json.dumps(value)})" for name, value in values.items())
            tab.evaluate(calls.join(CHOOSE))
            return str(tab.evaluate(count))

        total = len(embedded(compared.html)["trials"]["candidate"])
        names = [one.short for one in named(compared.report)]
        zero, few = names.index("zero_shot"), names.index("few_shot")
        assert pick(candidate="", kind="") == f"{total:,} of {total:,} trials"
        kinds = embedded(compared.html)["names"]
        assert pick(candidate=str(zero), kind=str(kinds.index("test"))) == f"60 of {total:,} trials"
        assert pick(outcome="right") == f"0 of {total:,} trials"
        right = round(compared.report["candidates"][few]["mean_score"] * 60)
        assert pick(outcome="right", candidate=str(few)) == f"{right} of {total:,} trials"
        assert pick(beside=str(zero), outcome="differs") == f"{right} of {total:,} trials"
        assert tab.evaluate("document.querySelectorAll('#explorer-detail .answer').length") == 2
        causes = embedded(compared.html)["trials"]["cause"]
        cause = next(at for at in causes if at is not None)
        assert pick(outcome="", candidate="", cause=str(cause)) == f"{causes.count(cause)} of {total:,} trials"
        pick(cause="", candidate=str(few))
        tab.evaluate(SEARCH % json.dumps("MESSAGE 17 about"))
        assert tab.evaluate(count) == f"1 of {total:,} trials"
        shown = str(tab.evaluate("document.querySelector('#explorer-detail').textContent"))
        assert "message 17 about" in shown
        assert "worked example" in shown, "the demonstrations of the prompt"

    def test_the_keyboard_reaches_everything_and_its_focus_can_be_seen(
        self, compared: Made, chromium: Chromium
    ) -> None:
        tab = chromium.open(written(compared))
        wanted = tab.evaluate(
            "[...document.querySelectorAll('a,button,select,input,summary,[tabindex=\"0\"]')]"
            ".filter((one) => one.checkVisibility()).length"
        )
        tab.evaluate("window.reached = new Set(); window.unseen = 0; 0")
        for _ in range(wanted + 5):
            tab.press("Tab", 9)
            tab.evaluate(
                "reached.add(document.activeElement);"
                "unseen += getComputedStyle(document.activeElement).outlineStyle === 'none'; 0"
            )
        assert tab.evaluate("reached.delete(document.body); reached.size") >= wanted
        assert tab.evaluate("unseen") <= 1, "the page itself, once round"
        tab.evaluate("document.querySelector('#explorer-list').focus()")
        tab.press("End", 35)
        active = tab.evaluate("document.querySelector('#explorer-list').getAttribute('aria-activedescendant')")
        assert tab.evaluate(f"document.getElementById({json.dumps(active)}).getAttribute('aria-selected')") == "true"
        assert active == f"entry-{int(tab.evaluate(POSITIONS)) - 1}"

    def test_ten_thousand_trials_open_quickly_and_scroll_smoothly(
        self, compared: Made, chromium: Chromium, tmp_path: Path
    ) -> None:
        path = tmp_path / "large.html"
        path.write_text(large_page(compared, 8, 1250), "utf-8")
        size = path.stat().st_size
        tab = chromium.open(path, trace=True)
        seconds = tab.main_thread_seconds()
        slowest = tab.evaluate(SCROLL)
        assert size < 8_000_000
        assert 0 < seconds < 2.0
        assert tab.evaluate("document.querySelectorAll('.entry').length") < 60
        assert slowest < 200


CHOOSE = (
    "{ const choose = (id, value) => { const one = document.getElementById(id); one.value = value;"
    " one.dispatchEvent(new Event('change')); }; ",
    "; 0 }",
)
SEARCH = (
    "(async () => { const one = document.getElementById('explorer-search'); one.value = %s;"
    " one.dispatchEvent(new Event('input')); await new Promise((done) => setTimeout(done, 400)); })()"
)
POSITIONS = "document.querySelector('.entry').getAttribute('aria-setsize')"
SCROLL = """(async () => {
  const list = document.getElementById('explorer-list');
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  let slowest = 0;
  for (let step = 0; step <= 40; step++) {
    const begun = performance.now();
    list.scrollTop = list.scrollHeight * step / 40;
    await frame(); await frame();
    slowest = Math.max(slowest, performance.now() - begun);
  }
  return slowest;
})()"""


def large_page(made: Made, candidates: int, samples: int) -> str:
    """A page of this many candidates and trials, with prompts that share little."""
    first = made.report["candidates"][1]
    rows = [
        first | {"id": f"technique_{at}@{first['model']}", "technique": f"technique_{at}"} for at in range(candidates)
    ]
    report = made.report | {"candidates": rows, "pick": rows[0]["id"], "pareto": [], "comparisons": []}
    trials = tuple(
        Trial(
            candidate=row["id"],
            split="test",
            sample_id=f"sample-{at:05d}",
            output=f"an answer of some length to sample {at} by {row['technique']}, with reasons",
            score=Score(float((at * 7 + number) % 10 > 1), f"got answer {at % 50}"),
            error=None,
            usage=Usage(1, 300 + at % 40, 0, 12, 0.0003),
            seconds=0.2 + (at % 97) / 100,
            response_keys=(f"{row['id']}-{at}",),
        )
        for number, row in enumerate(rows)
        for at in range(samples)
    )
    with Store.open(store_path(made.workspace)) as store:
        evidence = made.evidence(store, scenario=False)
    return page(report, dataclasses.replace(long_prompts(evidence, 700), trials=trials))
