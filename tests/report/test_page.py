import dataclasses
import re
from functools import cache

import numpy as np
import pytest
from tests.report.runs import TASKS, Page, column, run_of, trial

from shardwise.core.errors import DataError
from shardwise.report import evaluation, tables
from shardwise.report.data import ReportData
from shardwise.report.page import render, write_report
from shardwise.report.words import percent

HOSTILE = '</script><script>alert("x")</script><img src=//evil.example onerror=alert(1)>\'"&\u202e\x00$x$\\frac{'
SECTIONS = ("findings", "test", "trials", "columns", "cost", "run")
CHARTS = {
    "binary": ("ROC", "Precision and recall", "Calibration", "Scores of both classes", "Confusion matrix"),
    "multiclass": ("ROC, each class against the rest", "Calibration", "Most frequent mistakes", "Confusion matrix"),
    "regression": ("Actual against predicted", "Residuals", "Error by size of the prediction", "Calibration"),
    "count": ("Counts, observed and expected", "Calibration", "Error by size of the prediction"),
    "quantile": ("Coverage", "Residuals", "Actual against predicted"),
}


@cache
def whole(task: str) -> str:
    return render(run_of(task))


@pytest.mark.parametrize("task", TASKS)
def test_page_is_well_formed_and_complete(task: str) -> None:
    page = Page(whole(task))
    assert len(page.ids) == len(set(page.ids))
    assert set(SECTIONS) | {"features", "slices"} <= set(page.ids)
    assert set(CHARTS[task]) <= set(page.headings)
    assert {"Learning curves", "Scores, trial by trial", "Memory over time"} <= set(page.headings)


@pytest.mark.parametrize("task", TASKS)
def test_nothing_is_loaded_from_anywhere(task: str) -> None:
    text = whole(task)
    page = Page(text)
    assert all(link.startswith("#") or link == "data:," for link in page.links)
    assert all(link[1:] in page.ids for link in page.links if link.startswith("#"))
    assert not re.search(r"https?:|@import|url\((?!#)|<script|javascript:", text)
    assert "default-src 'none'" in text


def test_every_chart_and_table_has_a_name() -> None:
    page = Page(whole("binary"))
    assert all(svg.get("aria-hidden") == "true" or svg.get("aria-label") for svg in page.find("svg"))
    assert len(page.find("caption")) == len(page.find("table"))
    assert all(head.get("scope") in ("col", "row") for head in page.find("th"))
    assert all(box.get("aria-label") for box in page.find("div") if box.get("role") == "region")
    assert len(page.find("h1")) == 1


def test_references_inside_of_charts_are_whole() -> None:
    text = whole("regression")
    page = Page(text)
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(page.ids)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_hostile_names_and_values_are_shown_and_not_run(task: str) -> None:
    names = [f"{HOSTILE}{i}" for i in range(4 if task == "multiclass" else 2)]
    clean = run_of(task)
    text = render(
        run_of(
            task,
            title=HOSTILE,
            target=HOSTILE,
            classes=names,
            metric=HOSTILE,
            asked={HOSTILE: HOSTILE},
            columns=[column(HOSTILE, type=HOSTILE, top=[[HOSTILE, 5]], flags=[HOSTILE], rejected=HOSTILE)],
            findings=[{"severity": HOSTILE, "text": HOSTILE, "columns": [HOSTILE], "evidence": {HOSTILE: HOSTILE}}],
            trials=[trial(i, 0.5, family=HOSTILE, params={HOSTILE: HOSTILE}, why=HOSTILE) for i in range(4)],
            curves={HOSTILE: [(0, 1.0, 1.0), (1, 0.5, 0.6)]},
            importance=[(HOSTILE, 1.0)],
            slices=[{"column": HOSTILE, "value": HOSTILE, "rows": 1, "score": 0.5}],
            stages=[{"stage": HOSTILE, "seconds": 1.0}],
            versions={HOSTILE: HOSTILE},
            package={"path": HOSTILE},
            commands={HOSTILE: HOSTILE},
            test={**clean.test, "metrics": {HOSTILE: {"value": 0.5}}},
        )
    )
    page = Page(text)
    assert {"script", "img"}.isdisjoint(tag for tag, _ in page.tags)
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert "<script>alert" in page.text
    assert "\x00" not in text
    assert len(page.ids) == len(set(page.ids))


def test_lone_surrogates_and_emoji_can_be_written(tmp_path) -> None:
    path = write_report(run_of("binary", classes=("\ud800", "🦀")), tmp_path / "report.html")
    assert "🦀" in path.read_text("utf8")


def test_credentials_are_not_shown() -> None:
    asked = {"storage": {"secret": "hush"}, "data": ["s3://me:hush@bucket/x"], "options": {"api_key": "hush"}}
    assert "hush" not in render(run_of("binary", asked=asked))


@pytest.mark.parametrize("task", TASKS)
def test_all_but_the_first_words_may_be_missing(task: str) -> None:
    data = ReportData(title="t", task=task, target="y", metric="main", greater_is_better=False)
    page = Page(render(data))
    assert set(SECTIONS) <= set(page.ids)
    assert "No trial has finished yet." in page.text


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(ReportData)][5:])
def test_each_part_may_be_missing(name: str) -> None:
    default = next(field for field in dataclasses.fields(ReportData) if field.name == name)
    value = default.default if default.default is not dataclasses.MISSING else default.default_factory()  # type: ignore[misc]
    Page(render(run_of("binary", **{"test": {}, name: value})))


def test_dicts_without_keys_are_tolerated() -> None:
    nothing = [{}]
    Page(render(run_of("binary", columns=nothing, findings=nothing, trials=nothing, slices=nothing, stages=nothing)))
    Page(render(run_of("binary", ceilings={"samples": [(0.0, 5), (1.0, 6)]}, test={"metrics": {"main": 0.5}})))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("rows", [1, 7])
def test_few_and_equal_test_rows_can_be_drawn(task: str, rows: int) -> None:
    test = run_of(task).test
    few = {"y": test["y"][:rows], "prediction": test["prediction"][:rows]}
    equal = {"y": np.ones(rows), "prediction": np.repeat(test["prediction"][:1], rows, axis=0)}
    for part in (few, equal):
        data = run_of(task, test=part)
        assert len(evaluation.charts(data)) >= 2
        (
            tables.confusion(data.evaluated, data),
            tables.gains(data.evaluated, data),
            tables.confused(data.evaluated, data),
        )


@pytest.mark.parametrize("shift", [0.5, 0.0])
def test_only_whole_numbers_are_counted_one_by_one(shift: float) -> None:
    test = run_of("count").test
    mixed = {**test, "y": np.where(np.arange(len(test["y"])) == 3, 1.5, test["y"] + shift)}
    titles = [chart.title for chart in evaluation.charts(run_of("count", test=mixed))]
    assert "Counts, observed and expected" not in titles
    assert {"Actual against predicted", "Residuals"} <= set(titles)


def test_what_is_decided_by_weights_is_told_so_everywhere() -> None:
    decision = (0.1, 0.1, 0.1, 0.7)
    plain, decided = run_of("multiclass"), run_of("multiclass", decision=decision)
    y, prediction = np.asarray(plain.test["y"]), plain.test["prediction"]
    right = (prediction * decision).argmax(axis=1) == y
    assert right.mean() != (prediction.argmax(axis=1) == y).mean()
    assert tables.surest(decided.evaluated, decided)[-1]["accuracy"] == percent(right.mean())
    note = next(chart.note for chart in evaluation.charts(decided) if chart.title.startswith("Confidence"))
    assert f"{percent(right.mean())} of the rows are right" in note
    assert decided.evaluated is not None
    probability, hit = evaluation.called(decided.evaluated, decided)
    assert probability.tolist() == [row[(row * decision).argmax()] for row in prediction]
    assert hit.tolist() == right.tolist()


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_the_confusion_matrix_says_how_classes_are_predicted(task: str) -> None:
    plain, weighed = "Each row is predicted as its most probable class.", "whose probability times its weight"
    assert plain in whole(task)
    assert weighed not in whole(task)
    n = len(run_of(task).classes)
    decided = render(run_of(task, decision=np.arange(1.0, n + 1)))
    assert plain not in decided
    assert weighed in decided


def test_rows_without_a_number_are_left_out() -> None:
    data = run_of("regression")
    y, prediction = data.test["y"].copy(), data.test["prediction"].copy()
    y[3], prediction[5] = np.nan, np.inf
    left = run_of("regression", test={"y": y, "prediction": prediction}).evaluated
    assert left is not None
    assert len(left.y) == len(y) - 2


def test_binary_probabilities_may_be_of_the_positive_class_alone() -> None:
    data = run_of("binary")
    alone = run_of("binary", test={**data.test, "prediction": data.test["prediction"][:, 1]})
    assert render(alone) == whole("binary")


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_same_data_same_bytes(task: str, tmp_path) -> None:
    first = write_report(run_of(task), tmp_path / "a" / "report.html")
    assert first.read_bytes() == whole(task).encode()
    assert [path.name for path in first.parent.iterdir()] == ["report.html"]


def test_size_is_bounded_whatever_the_run() -> None:
    many = 10_000
    wide = "x" * 2000
    params = {f"{k}{wide}": wide for k in range(50)}
    numbers = list(np.random.default_rng(0).normal(size=41))
    data = run_of(
        "multiclass",
        classes=[f"{wide}{i}" for i in range(300)],
        columns=[column(f"{i}{wide}", quantiles=numbers, top=[[wide, 9]] * 20, flags=[wide] * 9) for i in range(many)],
        findings=[{"severity": "leak", "text": wide, "columns": [wide] * 99, "evidence": {"x": wide}}] * many,
        trials=[trial(i, 0.5 + i / 10**6, params=params) for i in range(many)],
        curves={i: [(step, 1.0, 1 / (step + 1)) for step in range(3000)] for i in range(20)},
        importance=[(f"{i}{wide}", 1 / many) for i in range(many)],
        slices=[{"column": wide, "value": wide, "rows": 1, "score": i / many} for i in range(many)],
        asked={f"{i}{wide}": wide for i in range(many)},
        test=_many_classes(300, 30_000),
    )
    text = render(data)
    assert len(text.encode()) < 1_500_000
    assert "Of 10,000 columns, 300 are shown" in text


def _many_classes(classes: int, rows: int) -> dict[str, object]:
    draw = np.random.default_rng(0)
    y = draw.integers(0, classes, rows)
    prediction = draw.random((rows, classes)) + 3 * np.eye(classes)[y]
    return {"y": y, "prediction": prediction / prediction.sum(axis=1, keepdims=True)}


def test_flagged_columns_are_shown_first_when_there_are_too_many() -> None:
    columns = [column(f"c{i}", flags=["constant"] if i == 4999 else []) for i in range(5000)]
    page = Page(render(run_of("binary", columns=columns)))
    assert "c4999" in page.text
    assert "c4998" not in page.text


def test_a_path_that_cannot_be_written_is_said(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError):
        write_report(run_of("binary"), tmp_path / "file" / "report.html")


def test_evidence_in_evidence_is_shown_entry_by_entry() -> None:
    evidence = {"max_size": {"given": "50 MB", "takes": 81_871_385.39}, "share": 0.61234}
    data = dataclasses.replace(
        run_of("binary"), findings=[{"severity": "warning", "text": "large", "evidence": evidence}]
    )
    page = re.sub(r"<[^>]+>", " ", render(data))
    assert re.search(r"max size given\s+50 MB\s+max size takes\s+81,871,385\s+share\s+0\.6123\b", page)
    assert "{" not in page.split("large", 1)[1].split("Sealed test")[0]
