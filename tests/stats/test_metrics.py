"""Metrics against scikit-learn, at the edges, resampled, gathered in pieces."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from shardwise.core.errors import ConfigError
from shardwise.core.target import Task
from shardwise.stats.metrics import (
    METRICS,
    Additive,
    Pairs,
    check_metric,
    default_metric,
    loss_of,
    metric_named,
    metric_to_compare_by,
    metrics_for,
)

TIGHT = {"rel": 1e-12, "abs": 1e-12}


def binary(seed: int, rows: int = 500, ties: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = (rng.random(rows) < 0.3).astype(float)
    score = np.clip(0.3 + 0.2 * y + rng.normal(0, 0.2, rows), 0, 1)
    return y, score.round(2) if ties else score, rng.random(rows) + 0.1


def classes(seed: int, rows: int = 400, count: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, count, rows).astype(float)
    logits = rng.normal(size=(rows, count))
    logits[np.arange(rows), y.astype(int)] += 1
    shares = np.exp(logits)
    return y, shares / shares.sum(axis=1, keepdims=True), rng.random(rows) + 0.1


BINARY = {
    "roc_auc": lambda y, p, w: sk.roc_auc_score(y, p, sample_weight=w),
    "average_precision": lambda y, p, w: sk.average_precision_score(y, p, sample_weight=w),
    "log_loss": lambda y, p, w: sk.log_loss(y, p, sample_weight=w),
    "brier_score": lambda y, p, w: sk.brier_score_loss(y, p, sample_weight=w),
    "accuracy": lambda y, p, w: sk.accuracy_score(y, p > 0.5, sample_weight=w),
    "balanced_accuracy": lambda y, p, w: sk.balanced_accuracy_score(y, p > 0.5, sample_weight=w),
    "f1": lambda y, p, w: sk.f1_score(y, p > 0.5, sample_weight=w),
}
MULTICLASS = {
    "log_loss": lambda y, p, w: sk.log_loss(y, p, sample_weight=w),
    "accuracy": lambda y, p, w: sk.accuracy_score(y, p.argmax(1), sample_weight=w),
    "balanced_accuracy": lambda y, p, w: sk.balanced_accuracy_score(y, p.argmax(1), sample_weight=w),
    "f1_macro": lambda y, p, w: sk.f1_score(y, p.argmax(1), average="macro", sample_weight=w),
    "roc_auc_ovr": lambda y, p, w: sk.roc_auc_score(y, p, multi_class="ovr", sample_weight=w),
}
NUMBERS = {
    "rmse": lambda y, p, w: sk.root_mean_squared_error(y, p, sample_weight=w),
    "mae": lambda y, p, w: sk.mean_absolute_error(y, p, sample_weight=w),
    "r2": lambda y, p, w: sk.r2_score(y, p, sample_weight=w),
    "mean_poisson_deviance": lambda y, p, w: sk.mean_poisson_deviance(y, p, sample_weight=w),
    "mean_pinball_loss": lambda y, p, w: sk.mean_pinball_loss(y, p, alpha=0.8, sample_weight=w),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("seed", range(3))
def test_binary_metrics_equal_scikit_learn(name: str, seed: int, weighted: bool) -> None:
    y, score, weight = binary(seed, ties=seed > 0)
    weight = weight if weighted else None
    value = METRICS[name].compute(y, score, weight)
    assert value == pytest.approx(BINARY[name](y, score, weight), **TIGHT)
    both = np.column_stack([1 - score, score])
    if not (score == 0.5).any():  # half and half is the first class in either shape
        assert METRICS[name].compute(y, both, weight) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", MULTICLASS)
def test_multiclass_metrics_equal_scikit_learn(name: str, weighted: bool) -> None:
    for seed in range(3):
        y, shares, weight = classes(seed)
        weight = weight if weighted else None
        expected = MULTICLASS[name](y, shares, weight)
        assert METRICS[name].compute(y, shares, weight) == pytest.approx(expected, **TIGHT)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", NUMBERS)
def test_metrics_of_numbers_equal_scikit_learn(name: str, weighted: bool) -> None:
    rng = np.random.default_rng(0)
    y = rng.poisson(3, 100_000).astype(float)  # more rows than a block
    predicted = y * 0.5 + rng.gamma(2, 1, len(y))
    weight = rng.random(len(y)) if weighted else None
    value = METRICS[name].compute(y, predicted, weight, quantile=0.8)
    assert value == pytest.approx(NUMBERS[name](y, predicted, weight), rel=1e-11)


def test_r2_far_from_zero_keeps_its_digits() -> None:
    rng = np.random.default_rng(1)
    y = 1e9 + rng.normal(size=2000)
    predicted = y + 0.3 * rng.normal(size=2000)
    assert METRICS["r2"].compute(y, predicted) == pytest.approx(sk.r2_score(y, predicted), rel=1e-9)


def test_r2_of_equal_labels_is_that_of_scikit_learn() -> None:
    y = np.full(10, 0.1)
    for predicted in (y, y + 1):
        assert METRICS["r2"].compute(y, predicted) == sk.r2_score(y, predicted)


def test_coverage_is_the_share_at_or_below() -> None:
    assert METRICS["coverage"].compute(np.array([1.0, 2, 3, 4]), np.array([1.0, 1, 5, 5])) == 0.75


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(1, 4)), min_size=2, max_size=40))
def test_a_weight_is_a_repetition(rows: list[tuple[bool, int, int]]) -> None:
    y, score, weight = (np.array(part, dtype=float) for part in zip(*rows, strict=True))
    repeats = weight.astype(int)
    for name in metrics_for(Task.BINARY):
        weighted = METRICS[name].compute(y, score / 4, weight)
        repeated = METRICS[name].compute(np.repeat(y, repeats), np.repeat(score / 4, repeats))
        assert weighted == pytest.approx(repeated, rel=1e-9, abs=1e-12, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=60))
def test_auc_is_the_share_of_pairs_in_order(rows: list[tuple[bool, int]]) -> None:
    y, score = (np.array(part, dtype=float) for part in zip(*rows, strict=True))
    up, down = score[y == 1][:, None], score[y == 0][None, :]
    pairs = (up > down) + 0.5 * (up == down)
    expected = pairs.mean() if pairs.size else np.nan
    assert METRICS["roc_auc"].compute(y, score) == pytest.approx(expected, nan_ok=True)


EDGES = {
    "empty": (np.empty(0), np.empty(0)),
    "one class": (np.ones(5), np.linspace(0, 1, 5)),
    "other class": (np.zeros(5), np.linspace(0, 1, 5)),
    "one row": (np.array([1.0]), np.array([0.3])),
    "all tied": (np.array([0.0, 1.0, 1.0]), np.full(3, 0.5)),
    "sure and wrong": (np.array([0.0, 1.0]), np.array([1.0, 0.0])),
    "nan predicted": (np.array([0.0, 1.0]), np.array([np.nan, 0.0])),
    "no label": (np.array([np.nan, np.nan]), np.array([0.1, 0.2])),
    "huge": (np.array([1e300, -1e300]), np.array([-1e300, 1e300])),
    "infinite": (np.array([1.0, 0.0]), np.array([np.inf, 0.0])),
}


@pytest.mark.parametrize("edge", [edge for edge in EDGES if edge not in ("huge", "infinite")])
def test_edges_of_binary_metrics_neither_warn_nor_raise(edge: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = {name: METRICS[name].compute(*EDGES[edge]) for name in metrics_for(Task.BINARY)}
    if edge in ("empty", "nan predicted", "no label"):
        assert all(np.isnan(value) for value in values.values())
    if edge in ("one class", "other class"):
        assert np.isnan(values["roc_auc"])
        assert np.isfinite(values["log_loss"])
    if edge == "all tied":
        assert values["roc_auc"] == 0.5
    if edge == "sure and wrong":
        assert values["log_loss"] == pytest.approx(-np.log(np.finfo(float).eps))


@pytest.mark.parametrize("edge", EDGES)
def test_edges_of_other_metrics_neither_warn_nor_raise(edge: str) -> None:
    y, predicted = EDGES[edge]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for task in (Task.REGRESSION, Task.COUNT, Task.QUANTILE):
            for name in metrics_for(task):
                METRICS[name].compute(y, predicted)
        if edge not in ("huge", "infinite"):
            for name in metrics_for(Task.MULTICLASS):
                METRICS[name].compute(y, np.column_stack([predicted, 1 - predicted, predicted * 0]))


def test_rows_without_label_or_weight_do_not_count() -> None:
    y, score, weight = binary(4)
    for name in metrics_for(Task.BINARY):
        expected = METRICS[name].compute(y, score, weight)
        more = (np.r_[y, np.nan, 1.0], np.r_[score, 0.5, np.nan], np.r_[weight, 1.0, 0.0])
        assert METRICS[name].compute(*more) == pytest.approx(expected, **TIGHT)


def test_classes_that_no_row_has_do_not_count() -> None:
    y, shares, _ = classes(2, count=4)
    kept = y != 3
    value = METRICS["roc_auc_ovr"].compute(y[kept], shares[kept])
    each = [sk.roc_auc_score(y[kept] == k, shares[kept, k]) for k in range(3)]
    assert value == pytest.approx(np.mean(each))


def test_metrics_of_a_task() -> None:
    for task in Task:
        names = metrics_for(task)
        assert names[0] == default_metric(task)
        assert len(names) == len(set(names))
        assert all(metric_named(name, task).name == name for name in names)


def test_what_does_not_fit_is_refused_with_what_does() -> None:
    with pytest.raises(ConfigError, match=r"there is no metric 'auc'.*roc_auc"):
        metric_named("auc", Task.BINARY)
    with pytest.raises(ConfigError, match=r"'rmse' does not fit a binary target.*roc_auc"):
        metric_named("rmse", Task.BINARY)


def test_losses_are_lower_for_better() -> None:
    assert loss_of("roc_auc", 0.9) < loss_of("roc_auc", 0.8) < loss_of("roc_auc", float("nan"))
    assert loss_of("rmse", 1.0) < loss_of("rmse", 2.0)


def test_nothing_is_compared_by_coverage() -> None:
    assert metric_to_compare_by(None, Task.QUANTILE).name == "mean_pinball_loss"
    for refused in (
        lambda: metric_to_compare_by("coverage", Task.QUANTILE),
        lambda: check_metric("coverage", "quantile"),
    ):
        with pytest.raises(ConfigError, match="any constant can have it") as told:
            refused()
        assert "mean_pinball_loss" in str(told.value.hint)


@pytest.mark.parametrize("name", ["balanced_accuracy", "f1_macro"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_tally_is_the_sum_of_the_terms(name: str, weighted: bool) -> None:
    rng = np.random.default_rng(0)
    prediction, y = rng.dirichlet(np.ones(90), 3_000), rng.integers(0, 89, 3_000).astype(np.float64)
    pairs = Pairs(y, prediction, rng.random(3_000) if weighted else np.ones(3_000))
    metric = METRICS[name]
    assert isinstance(metric, Additive)
    blocks = list(metric.weighted(pairs, 0.5))
    assert max(len(block) for block in blocks) <= 2**22 // 90
    np.testing.assert_allclose(metric.sums(pairs), np.sum([block.sum(axis=0) for block in blocks], axis=0), rtol=1e-12)
