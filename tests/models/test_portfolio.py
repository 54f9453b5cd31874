"""The default candidates."""

from collections.abc import Sequence
from typing import Any

import pytest

from shardwise.core.errors import ConfigError
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.target import Target, Task
from shardwise.models import catboost
from shardwise.models.families import build
from shardwise.models.neural import model
from shardwise.models.portfolio import (
    ASKED,
    CATBOOST_ROWS,
    EARLY_FEATURES,
    EARLY_ROWS,
    FAST_TREES,
    FEW_ROWS,
    FIRST_OF_CLASSES,
    FIRST_ROUNDS,
    JOINING,
    LARGE_ROWS,
    NETWORK_ROWS,
    QUICK_NETWORK,
    QUICK_NETWORK_ROWS,
    QUICK_TREES,
    SMALL_NETWORK,
    joining,
    portfolio,
)
from shardwise.models.spaces import idle_params, spaces_for

FEATURES = (Feature(name="x", source="x", kind=FeatureKind.NUMBER),)
CODED = (*FEATURES, Feature(name="c", source="c", kind=FeatureKind.CODE, cardinality=3))
REGRESSION = Target(column="y", task=Task.REGRESSION)


@pytest.mark.parametrize("rows", [100, LARGE_ROWS])
@pytest.mark.parametrize("task", list(Task))
def test_every_candidate_can_be_built_and_none_is_there_twice(task: Task, rows: int) -> None:
    target = Target(column="y", task=task, classes=(0, 1) if task.is_classification else ())
    candidates = portfolio(target, FEATURES, rows, positive=True)
    assert candidates[0].family == "baseline"
    assert all(candidate not in candidates[:place] for place, candidate in enumerate(candidates))
    for candidate in candidates:
        build(candidate.family, target, FEATURES, candidate.params)


def test_some_trees_leave_out_categories_of_few_numbers_where_there_are_some() -> None:
    hour = Feature(name="hour", source="hour", kind=FeatureKind.NUMBER)
    both = (*CODED, hour, Feature(name="hour:category", source="hour", kind=FeatureKind.CODE, cardinality=25))
    many = (*CODED, hour, Feature(name="hour:category", source="hour", kind=FeatureKind.CODE, cardinality=26))

    def without(features: Sequence[Feature], rows: int) -> int:
        return sum("use_copies" in candidate.params for candidate in portfolio(REGRESSION, features, rows))

    assert without(both, 1000) == 3
    assert without(both, LARGE_ROWS) == 1
    assert without(CODED, 1000) == without(many, 1000) == 0  # nothing is there twice; so many values are labels
    assert "use_copies" in spaces_for(["trees"], idle_params(both))["trees"]
    assert "use_copies" not in spaces_for(["trees"], idle_params(CODED))["trees"]


def test_where_features_are_many_for_the_rows_few_of_them_may_count() -> None:
    def linear(features: int, rows: int) -> list[dict[str, Any]]:
        many = [Feature(name=f"x{i}", source=f"x{i}", kind=FeatureKind.NUMBER) for i in range(features)]
        candidates = portfolio(REGRESSION, many, rows)
        return [dict(candidate.params) for candidate in candidates if candidate.family == "linear"]

    assert linear(19, 10) == linear(100, 501) == [{}]
    assert linear(2000, 800) == [{"l1": 0.024}, {}]
    assert linear(100, 500) == [{"l1": 0.024}, {}]


def test_what_is_slow_on_many_features_comes_early_on_few() -> None:
    for features, places in ((EARLY_FEATURES, [({}, 1)]), (EARLY_FEATURES + 1, [({}, None)])):
        many = [Feature(name=f"x{i}", source=f"x{i}", kind=FeatureKind.NUMBER) for i in range(features)]
        assert JOINING["catboost"].places(REGRESSION, many, 1000) == places
    assert JOINING["catboost"].places(REGRESSION, CODED, 1000) == [({}, None)]


@pytest.mark.parametrize(("rows", "first"), [(99, "linear"), (100, "trees")])
def test_the_first_model_of_fewer_rows_than_features_is_sparse(rows: int, first: str) -> None:
    many = [Feature(name=f"x{i}", source=f"x{i}", kind=FeatureKind.NUMBER) for i in range(100)]
    assert portfolio(REGRESSION, many, rows)[1].family == first


def test_logarithms_are_learned_of_targets_that_have_one() -> None:
    def logarithms(target: Target, positive: bool) -> int:
        return sum("target_transform" in c.params for c in portfolio(target, FEATURES, 1000, positive=positive))

    assert logarithms(REGRESSION, positive=False) == 0
    assert logarithms(REGRESSION, positive=True) == 1
    assert logarithms(Target(column="y", task=Task.COUNT), positive=True) == 0


def test_families_restrict_and_an_unknown_one_is_an_error() -> None:
    assert [c.family for c in portfolio(REGRESSION, FEATURES, 100, ["linear"])] == ["baseline", "linear"]
    with pytest.raises(ConfigError) as caught:
        portfolio(REGRESSION, FEATURES, 100, ["tree"])
    assert caught.value.hint == "Did you mean 'trees'?"


@pytest.mark.parametrize("family", ["forest", "adaboost", "svm"])
def test_other_families_come_when_they_are_asked_for(family: str) -> None:
    classes = Target(column="y", task=Task.BINARY, classes=(0, 1))
    assert all(candidate.family != family for candidate in portfolio(classes, FEATURES, 1000))
    asked = [candidate for candidate in portfolio(classes, FEATURES, 1000, [family]) if candidate.family != "baseline"]
    assert {candidate.family for candidate in asked} == {family}
    assert [dict(candidate.params) for candidate in asked] == [dict(params) for params in ASKED[family]]
    for candidate in asked:
        build(family, classes, FEATURES, candidate.params)


def test_a_family_that_does_not_learn_the_task_is_an_error() -> None:
    with pytest.raises(ConfigError, match="adaboost models do not learn regression") as caught:
        portfolio(REGRESSION, FEATURES, 1000, ["trees", "adaboost"])
    assert caught.value.hint == "Allowed: baseline, catboost, cnn, forest, linear, neural, rnn, svm, trees."


def test_catboost_joins_small_data_where_it_was_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def places(rows: int, features: tuple[Feature, ...] = CODED, **asked: Any) -> list[int]:
        families = [candidate.family for candidate in portfolio(REGRESSION, features, rows, **asked)]
        return [place for place, family in enumerate(families) if family == "catboost"]

    assert places(1000) == []
    assert places(1000, extras=["catboost"]) == [len(portfolio(REGRESSION, CODED, 1000))]  # the last one
    assert places(EARLY_ROWS, FEATURES, extras=["catboost"]) == [3]  # after the baseline, trees and a linear model
    assert places(EARLY_ROWS + 1, FEATURES, extras=["catboost"]) == [len(portfolio(REGRESSION, FEATURES, 10**4))]
    assert places(CATBOOST_ROWS + 1, extras=["catboost"]) == []
    assert places(1000, families=["trees", "linear"], extras=["catboost"]) == []  # what is named is all there is
    monkeypatch.setattr(catboost, "has_catboost", lambda: True)
    for rows in (1000, LARGE_ROWS):
        assert places(rows, families=["trees", "linear", "catboost"]) == [len(portfolio(REGRESSION, CODED, rows))]
    monkeypatch.setattr(catboost, "has_catboost", lambda: False)
    with pytest.raises(ConfigError, match="CatBoost") as caught:
        places(1000, families=["catboost"])
    assert "shardwise[catboost]" in caught.value.hint


def test_a_quick_network_and_a_full_one_join_where_pytorch_was_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def families(rows: int, target: Target = REGRESSION, **asked: Any) -> list[str]:
        return [candidate.family for candidate in portfolio(target, FEATURES, rows, **asked)]

    least, most = FEW_ROWS, NETWORK_ROWS[1]
    classes = Target(column="y", task=Task.MULTICLASS, classes=(1, 2, 3))
    for rows, target, quick, full in ((least, REGRESSION, 3, 4), (most, REGRESSION, 3, 4), (least, classes, 2, 3)):
        plain, joined = families(rows, target), families(rows, target, extras=["neural"])
        assert [place for place, family in enumerate(joined) if family == "neural"] == [quick, full]
        waiting = [*plain[:2], plain[3], plain[2], *plain[4:]]  # the linear model behind the network, of classes
        assert [family for family in joined if family != "neural"] == (waiting if target is classes else plain)
        networks = [
            dict(c.params) for c in portfolio(target, FEATURES, rows, extras=["neural"]) if c.family == "neural"
        ]
        assert networks == [QUICK_NETWORK, {}]
        both = families(rows, target, extras=["neural", "catboost"])
        assert [family for family in both if family != "catboost"] == joined
        assert families(rows, target, families=["trees", "linear"], extras=["neural"]) == plain
    assert families(least, extras=["catboost", "neural"])[3:6] == ["neural", "neural", "catboost"]
    plain, joined = (
        [dict(each.params) for each in portfolio(REGRESSION, FEATURES, least, extras=extras) if each.family == "trees"]
        for extras in ([], ["neural"])
    )
    assert FAST_TREES in plain
    rest = [params for params in plain if params != FAST_TREES]
    assert joined == [QUICK_TREES, *rest]  # trees of few rounds first, so that there is time for the network
    monkeypatch.setattr(model, "has_torch", lambda: True)
    assert families(least, families=["trees", "neural"], extras=["neural"]).count("neural") == 1
    for rows in (most + 1, QUICK_NETWORK_ROWS):  # the quick one alone, behind four of trees
        tried = portfolio(REGRESSION, FEATURES, rows, extras=["neural"])
        networks = {place: dict(each.params) for place, each in enumerate(tried) if each.family == "neural"}
        assert networks == {6: QUICK_NETWORK}
    for rows in (NETWORK_ROWS[0] - 1, QUICK_NETWORK_ROWS + 1):
        assert "neural" not in families(rows, extras=["neural"])
    assert "neural" not in families(least, Target(column="y", task=Task.COUNT), extras=["neural"])
    assert "neural" not in joining(10**9)  # PyTorch takes a share of a small memory that trees need


def test_on_few_rows_random_thresholds_come_first_and_a_small_network_right_behind() -> None:
    classes = Target(column="y", task=Task.MULTICLASS, classes=(1, 2, 3))
    binary = Target(column="y", task=Task.BINARY, classes=(0, 1))
    for rows in (NETWORK_ROWS[0], FEW_ROWS - 1):
        for target, place in ((REGRESSION, 3), (binary, 3), (classes, 2)):
            tried = portfolio(target, CODED, rows, extras=["neural"])
            networks = [number for number, each in enumerate(tried) if each.family == "neural"]
            assert networks == [place, len(tried) - 1]
            assert [dict(tried[number].params) for number in networks] == [SMALL_NETWORK, {}]
            assert bool(tried[1].params.get("extra_trees")) == target.task.is_classification


def test_several_classes_begin_with_small_trees_of_few_rounds_where_these_are_slow() -> None:
    def first(rows: int, classes: int, extras: Sequence[str] = ("neural",)) -> dict[str, Any]:
        target = Target(column="y", task=Task.MULTICLASS, classes=tuple(range(classes)))
        return dict(portfolio(target, CODED, rows, extras=extras)[1].params)

    small = {name: value for name, value in FIRST_OF_CLASSES.items() if name != "use_copies"}
    assert first(FEW_ROWS - 1, 3) == first(FEW_ROWS - 1, 100) == small
    assert first(FEW_ROWS, 3) == {**small, "n_estimators": FIRST_ROUNDS[0]}
    assert first(10_000, 26) == {**small, "n_estimators": FIRST_ROUNDS[1]}
    assert first(10_000, 26, extras=()) == small  # no network waits for its time
    assert first(NETWORK_ROWS[1] + 1, 3)["num_leaves"] == 31


def test_networks_come_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "has_torch", lambda: True)
    asked = portfolio(REGRESSION, FEATURES, 1000, ["trees", "neural"])
    assert [c.family for c in asked][-1] == "neural"
    assert [c.family for c in portfolio(REGRESSION, FEATURES, 1000, ["rnn", "cnn"])] == ["baseline", "cnn", "rnn"]
    assert {c.family for c in portfolio(REGRESSION, FEATURES, 1000)} == {"baseline", "linear", "trees"}


def test_without_their_extra_networks_are_left_out_and_asked_for_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "has_torch", lambda: False)
    assert all(c.family != "neural" for c in portfolio(REGRESSION, FEATURES, 1000))
    for family in ("neural", "cnn", "rnn"):
        with pytest.raises(ConfigError, match="PyTorch") as caught:
            portfolio(REGRESSION, FEATURES, 1000, [family])
        assert "shardwise[torch]" in caught.value.hint


def test_costly_data_start_with_what_is_trained_fast() -> None:
    target = Target(column="y", task=Task.MULTICLASS, classes=tuple(range(9)))
    wide = [Feature(name=f"x{i}", source=f"x{i}", kind=FeatureKind.NUMBER) for i in range(93)]
    first, cheap = (portfolio(target, wide[:number], 50_000)[1].params for number in (93, 10))
    assert first["learning_rate"] > cheap["learning_rate"]
    assert first["subsample"] < 1.0
