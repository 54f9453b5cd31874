"""Behavioural tests hold exactly where the model behaves so."""

import pyarrow as pa
import pytest
import yaml
from tests.registry.parts import make_table

from shardwise.core.errors import ConfigError
from shardwise.core.target import Task
from shardwise.deploy.behaviour import behaviour_checks
from shardwise.deploy.declared import read_tests
from shardwise.deploy.verdict import Status
from shardwise.serve.predictor import Predictor


def run(text, predictor, rows):
    return list(behaviour_checks(read_tests(yaml.safe_load(text)), predictor, rows))


@pytest.fixture
def predictor(folders):
    return Predictor.load(folders[Task.BINARY])


@pytest.fixture
def rows():
    return make_table(300, seed=3)


def test_invariance_holds_for_what_the_model_does_not_read(predictor, rows):
    found = run("[{name: id, kind: invariance, change: {row: [a, b]}}, {name: x, kind: invariance, change: {x: '+3'}}]",
                predictor, rows)  # fmt: skip
    assert [check.status for check in found] == [Status.PASS, Status.FAIL]
    assert found[0].evidence["largest_change"] == 0.0
    assert found[1].evidence["largest_change"] > 0.1


def test_the_share_of_rows_is_that_of_the_predictions(predictor, rows):
    check = run("[{kind: invariance, change: {x: '+0.5'}, tolerance: 0.1, share: 0.5}]", predictor, rows)[0]
    moved = rows.set_column(1, "x", [[None if x is None else x + 0.5 for x in rows["x"].to_pylist()]])
    away = abs(predictor.predict(moved)[:, 1] - predictor.predict(rows)[:, 1])
    assert check.evidence["share"] == pytest.approx((away <= 0.1).mean())
    assert (check.status is Status.PASS) == (check.evidence["share"] >= 0.5)


def test_direction_is_that_of_the_signal(predictor, rows):
    text = "[{kind: direction, change: {x: '+2'}, expect: %s, share: 0.9, of: %s}]"
    told = {(word, of): run(text % (word, of), predictor, rows)[0].status
            for word in ("not falls", "not rises") for of in ("true", "false")}  # fmt: skip
    assert told == {("not falls", "true"): Status.PASS, ("not rises", "true"): Status.FAIL,
                    ("not falls", "false"): Status.FAIL, ("not rises", "false"): Status.PASS}  # fmt: skip


def test_rows_that_do_not_change_count_as_they_should(predictor, rows):
    check = run("[{kind: direction, change: {town: Ulm}, expect: falls}]", predictor, rows)[0]
    at_ulm = sum(town == "Ulm" for town in rows["town"].to_pylist())
    assert check.evidence["share"] >= at_ulm / len(rows)


def test_minimum_rows_get_the_answer_that_is_declared(predictor):
    cases = """
    - name: plain
      kind: minimum
      rows:
        - {row: {x: 3.0, town: Bonn}, expect: true}
        - {row: {x: -3.0, town: Ulm}, low: 0.0, high: 0.4}
    - name: wrong
      kind: minimum
      rows: [{row: {x: 3.0, town: Bonn}, expect: false}]
    """
    assert [check.status for check in run(cases, predictor, make_table(5))] == [Status.PASS, Status.FAIL]


def test_a_metric_is_that_of_the_rows_that_match(predictor, rows):
    text = "[{kind: minimum, where: {town: Ulm}, metric: accuracy, %s}]"
    check = run(text % "at_least: 0.5", predictor, rows)[0]
    ulm = rows.filter([town == "Ulm" for town in rows["town"].to_pylist()])
    hits = predictor.predict(ulm).argmax(axis=1) == ulm["y"].to_numpy(zero_copy_only=False)
    assert (check.status, check.evidence["accuracy"]) == (Status.PASS, pytest.approx(hits.mean()))
    assert run(text % "at_most: 0.1", predictor, rows)[0].status is Status.FAIL
    assert run("[{kind: minimum, where: {town: Mars}, metric: accuracy, at_least: 0}]", predictor, rows)[0].status is (
        Status.SKIP
    )


def test_what_looks_at_no_row_is_skipped(predictor, rows):
    text = "[{kind: %s, change: {town: %s}%s}]"
    nobody = rows.filter([False] * len(rows))
    same = rows.filter([town == "Ulm" for town in rows["town"].to_pylist()])
    for kind, more in (("invariance", ""), ("direction", ", expect: rises")):
        assert run(text % (kind, "Bonn", more), predictor, nobody)[0].status is Status.SKIP
        check = run(text % (kind, "Ulm", more), predictor, same)[0]
        assert (check.status, check.evidence["changed"]) == (Status.SKIP, 0)


def test_all_that_a_row_declares_must_hold(predictor):
    text = "[{kind: minimum, rows: [{row: {x: 3.0, town: Bonn}, expect: true, %s}]}]"
    assert run(text % "low: 0.5", predictor, make_table(5))[0].status is Status.PASS
    assert run(text % "high: 0.01", predictor, make_table(5))[0].status is Status.FAIL


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{kind: invarience, change: {x: 1}}]", "Did you mean 'invariance'"),
        ("[{kind: invariance}]", "needs change"),
        ("[{kind: invariance, change: 3}]", "Name a column"),
        ("[{kind: invariance, change: {x: 1}, tolerence: 1}]", "Did you mean 'tolerance'"),
        ("[{kind: invariance, change: {xx: 1}}]", "no column 'xx'"),
        ("[{kind: invariance, change: {x: maybe}}]", "cannot hold 'maybe'"),
        ("[{kind: direction, change: {x: 1}, expect: up}]", "expect is 'up'"),
        ("[{kind: direction, change: {x: 1}, expect: rises, of: maybe}]", "no class 'maybe'"),
        ("[{kind: minimum}]", "either rows or metric"),
        ("[{kind: minimum, metric: accuracy}]", "either at_least or at_most"),
        ("[{kind: minimum, rows: [{row: {x: 1}}]}]", "row 1"),
        ("[{kind: minimum, rows: [{row: {xyz: 1}, expect: true}]}]", "no column 'xyz'"),
        ("[{kind: invariance, change: {x: 1}, share: 2}]", "share is 2"),
        ("[{kind: minimum, rows: [{row: {x: 1}, expect: maybe}]}]", "no class 'maybe'"),
        ("[{kind: minimum, rows: [{row: {x: 1}, low: 0}], of: maybe}]", "no class 'maybe'"),
    ],
)
def test_what_the_model_does_not_know_is_said(text, message, predictor, rows):
    with pytest.raises(ConfigError, match=message):
        run(text, predictor, rows)


def test_a_column_of_whole_numbers_takes_no_fraction(predictor, rows):
    whole = rows.set_column(rows.schema.get_field_index("x"), "x", pa.array(range(len(rows))))
    with pytest.raises(ConfigError, match=r"int64 cannot hold 2\.5"):
        run("[{kind: invariance, change: {x: 2.5}}]", predictor, whole)
    assert run("[{kind: invariance, change: {x: 2.0}, tolerance: 1}]", predictor, whole)[0].status is Status.PASS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[3]", "test 1 is 3"),
        ("[{kind: [a]}]", "no kind"),
        ("[{kind: minimum, rows: 5}]", "rows is 5.*at least one"),
        ("[{name: empty, kind: minimum, rows: []}]", r"rows is \[\].*test empty"),
        ("[{kind: minimum, rows: [{row: {x: 1}, lowww: 0.1}]}]", r"no 'lowww' \(.*row 1\)\. Did you mean 'low'"),
        ("[{kind: minimum, rows: [{row: {x: 1}, low: 0}, {row: {x: 1}, low: a}]}]", "low is 'a'.*row 2"),
        ("[{kind: minimum, rows: [{row: {x: 1}, high: true}]}]", "high is True"),
        ("[{kind: minimum, rows: [{row: {x: 1}, high: .nan}]}]", "high is nan"),
        ("[{kind: minimum, rows: [{row: {x: 1}, low: 1, high: 0}]}]", "the lesser one"),
        ("[{kind: minimum, rows: [{row: {x: 1}, expect: [a]}]}]", r"expect is \['a'\]"),
        ("[{kind: minimum, rows: [{row: {1: 1}, low: 0}]}]", "1 is no name of a column"),
        ("[{kind: minimum, rows: [{row: {x: 1}, low: 0}], of: [a]}]", r"of is \['a'\]"),
        ("[{kind: minimum, rows: [{row: {x: 1}, low: 0}], where: {x: 1}}]", "where does not go with rows"),
        ("[{kind: minimum, metric: accuracy, at_least: 0.5, share: 0.5}]", "share does not go with a metric"),
        ("[{kind: minimum, metric: accuracy, at_least: x}]", "at_least is 'x'"),
        ("[{kind: minimum, metric: accuracy, at_least: .inf}]", "at_least is inf"),
        ("[{kind: minimum, metric: [accuracy], at_least: 1}]", "metric is"),
        ("[{kind: minimum, metric: accuracy, at_least: 0.5, where: [age]}]", "where is"),
        ("[{kind: minimum, metric: accuracy, at_least: 0.5, where: {x: [1]}}]", "where is"),
        ("[{kind: invariance, change: {x: []}}]", r"change is \[\].*column x"),
        ("[{kind: invariance, change: {x: [[1]]}}]", "at least one"),
        ("[{kind: invariance, change: {x: '+1'}, tolerance: x}]", "tolerance is 'x'"),
        ("[{kind: invariance, change: {x: '+1'}, tolerance: -1}]", "tolerance is -1"),
        ("[{kind: invariance, change: {x: '+1'}, share: true}]", "share is True"),
        ("[{kind: direction, change: {x: 1}, expect: [rises]}]", r"expect is \['rises'\]"),
    ],
)
def test_what_is_declared_wrongly_is_said_when_it_is_read(text, message):
    with pytest.raises(ConfigError, match=message):
        read_tests(yaml.safe_load(text))
