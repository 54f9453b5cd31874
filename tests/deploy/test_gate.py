"""The gate lets through what is as good, and stops what is worse in any of the ways it looks at."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.deploy.conftest import noisy, renamed
from tests.registry.parts import make_table

from shardwise.core.errors import ConfigError, DataError, SchemaError
from shardwise.core.target import Task
from shardwise.deploy.gate import Named, gate, read_gate
from shardwise.deploy.settings import GateConfig
from shardwise.deploy.verdict import Status
from shardwise.serve.predictor import Predictor
from shardwise.stats.metrics import METRICS, default_metric

CHEAP = {"costs": False}  # see test_costs


def judged(challenger, champion, dataset, tests=(), **options):
    config = GateConfig(**{**CHEAP, **options})
    return gate(Named("b", challenger), Named("a", champion), dataset, config, tests=tests)


def status(verdict, group, name=None):
    return next(check.status for check in verdict.checks if check.group == group and name in (None, check.name))


@pytest.mark.parametrize("task", Task)
def test_a_model_may_take_its_own_place(task, folders, save):
    same = Predictor.load(folders[task])
    verdict = judged(same, same, save(make_table(300, task, seed=5)), slices=("town",))
    assert verdict.passed, verdict.words()
    assert verdict.rows == 300
    assert {check.group for check in verdict.checks} == {"quality", "slices", "calibration", "schema", "drift"}
    assert verdict.words().startswith("Yes")


@pytest.mark.parametrize("task", [Task.BINARY, Task.REGRESSION])
def test_a_worse_model_is_stopped_and_a_better_one_is_not(task, folders, changed, save):
    good, bad = Predictor.load(folders[task]), changed(noisy(8.0 if task is Task.REGRESSION else 2.0), task)
    data = save(make_table(2000, task, seed=5))
    verdict = judged(bad, good, data)
    assert not verdict.passed
    assert status(verdict, "quality") is Status.FAIL
    assert "worse by more than" in verdict.words()
    assert status(judged(good, bad, data, require="better"), "quality") is Status.PASS


def test_the_gain_is_that_of_the_whole_data(folders, changed, save):
    good, bad, table = Predictor.load(folders[Task.BINARY]), changed(noisy(1.0)), make_table(900, seed=6)
    check = judged(bad, good, save(table), metric="log_loss").checks[0]
    y = table["y"].to_numpy().astype(float)
    losses = [METRICS["log_loss"].compute(y, each.predict(table)) for each in (good, bad)]
    assert check.evidence["gain"] == pytest.approx(losses[0] - losses[1])
    assert check.evidence["champion"] == pytest.approx(losses[0])


def test_few_rows_tell_nothing_and_it_is_said_how_many_would(folders, changed, save):
    good, other = Predictor.load(folders[Task.BINARY]), changed(noisy(0.05))
    verdict = judged(other, good, save(make_table(60, seed=7)), margin=0.001)
    assert status(verdict, "quality") is Status.FAIL
    assert "may be worse by more than 0.001" in verdict.checks[0].text


def test_a_slice_that_is_worse_stops(folders, changed, save):
    def broken_in_bonn(scores, batch):
        towns = batch.column("town").combine_chunks() if isinstance(batch, pa.Table) else batch.column("town")
        bonn = pc.fill_null(pc.equal(towns, "Bonn"), False).to_numpy(zero_copy_only=False)
        return np.where(bonn[:, None], 0.5, scores)

    good, bad = Predictor.load(folders[Task.BINARY]), changed(broken_in_bonn)
    data = save(make_table(3000, seed=8))
    verdict = judged(bad, good, data, slices=("town",), metric="accuracy", margin=0.5)
    assert status(verdict, "quality") is Status.PASS
    assert status(verdict, "slices", "town = Bonn") is Status.FAIL
    assert status(verdict, "slices", "town = Ulm") is Status.PASS


def test_lost_calibration_stops_where_the_ranking_is_the_same(folders, changed, save):
    def flatter(scores, _):
        odds = (scores[:, 1] / scores[:, 0]) ** 0.2
        return np.column_stack([1 / (1 + odds), odds / (1 + odds)])

    good, bad = Predictor.load(folders[Task.BINARY]), changed(flatter)
    verdict = judged(bad, good, save(make_table(4000, seed=9)), calibration_margin=0.01)
    assert status(verdict, "quality") is Status.PASS
    found = next(check for check in verdict.checks if check.group == "calibration")
    assert found.evidence["challenger"] > found.evidence["champion"]
    assert (found.status is Status.FAIL) == (found.evidence["p_worse"] < 0.025)
    assert found.status is Status.FAIL


def test_rows_of_a_group_are_no_news(folders, changed, save):
    good, other, table = Predictor.load(folders[Task.BINARY]), changed(noisy(0.5)), make_table(200, seed=10)
    many = pa.concat_tables([table] * 5)
    alone = judged(other, good, save(table)).checks[0].evidence
    grouped = judged(other, good, save(many, "many.parquet"), group="row").checks[0].evidence
    assert grouped["units"] == 200
    assert (grouped["low"], grouped["high"]) == pytest.approx((alone["low"], alone["high"]))


def test_the_schema_must_fit(folders, save):
    champion = Predictor.load(folders[Task.BINARY])
    other = judged(renamed(champion, column="late"), champion, save(make_table(50)))
    assert not other.passed
    assert "'y' and 'late'" in other.words()
    assert {check.group for check in other.checks} == {"schema"}


def test_drift_of_the_new_data_is_a_warning(folders, save):
    same, table = Predictor.load(folders[Task.BINARY]), make_table(400, seed=11)
    moved = table.set_column(1, "x", pc.add(table["x"], 5.0))
    verdict = judged(same, same, save(moved))
    assert verdict.passed
    assert status(verdict, "drift", "new data") is Status.WARN
    assert "x (PSI" in next(check.text for check in verdict.checks if check.name == "new data")
    assert not judged(same, same, save(moved), strict=True).passed


def test_the_result_depends_on_no_thread(folders, changed, save):
    pair = changed(noisy(0.5)), Predictor.load(folders[Task.BINARY])
    data = save(make_table(700, seed=12))
    first, second = (judged(*pair, data, slices=("town", "x")).to_json()["checks"] for _ in range(2))
    assert first == second


def test_what_cannot_be_judged_is_said(folders, save):
    same = Predictor.load(folders[Task.BINARY])
    with pytest.raises(SchemaError, match="twon"):
        judged(same, same, save(make_table(50)), slices=("twon",))
    with pytest.raises(ConfigError, match="does not fit"):
        judged(same, same, save(make_table(50)), metric="rmse")
    empty = make_table(50).set_column(5, "y", pa.nulls(50, pa.bool_()))
    with pytest.raises(DataError, match="no row of the new data"):
        judged(same, same, save(empty))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"margn": "1%"}, "Did you mean 'margin'"),
        ({"margin": "much"}, "no margin"),
        ({"margin": -1}, "no margin"),
        ({"level": 2.0}, "between 0.5 and 1"),
        ({"require": "best"}, "require is 'best'"),
        ({"strict": "yes"}, "strict is 'yes'"),
        ({"latency_ratio": 0}, "above 0"),
        ({"tests": {"name": "x"}}, "no list"),
        ({"slices": 5}, "slices is 5"),
        ({"slices": None}, "slices is None"),
        ({"slices": ["town", 5]}, "a list of columns"),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused(content, message):
    with pytest.raises(ConfigError, match=message):
        read_gate(content)


def test_the_default_metric_is_that_of_the_task(folders, save):
    for task, folder in folders.items():
        same = Predictor.load(folder)
        assert judged(same, same, save(make_table(60, task))).checks[0].name == default_metric(task)
