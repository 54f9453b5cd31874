"""The estimators: scikit-learn's own checks, all of them, and what they promise beyond these."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

import shardwise
from shardwise import ShardwiseClassifier, ShardwiseRegressor, estimators
from shardwise.core.errors import ConfigError, DataError, PackageError, SchemaError, ShardwiseError, TargetError
from shardwise.testing.tables import people
from shardwise.workflow import TrainResult, train

pytestmark = pytest.mark.filterwarnings("default::UserWarning:sklearn")  # the checks provoke them, and look at them


@parametrize_with_checks([ShardwiseClassifier(trials=2, folds=2), ShardwiseRegressor(trials=2, folds=2)])
def test_scikit_learn_accepts_the_estimators(estimator: Any, check: Any) -> None:
    check(estimator)


ARRAY_API = """
from sklearn.utils.estimator_checks import check_array_api_input
from shardwise import ShardwiseClassifier, ShardwiseRegressor
for estimator in (ShardwiseClassifier(trials=1), ShardwiseRegressor(trials=1)):
    check_array_api_input(type(estimator).__name__, estimator, "numpy", expect_only_array_outputs=False)
"""


def test_the_check_that_needs_a_variable_of_the_environment() -> None:
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    subprocess.run([sys.executable, "-c", ARRAY_API], env=environment, check=True)


def classifier(**changes: Any) -> ShardwiseClassifier:
    return ShardwiseClassifier(**{"trials": 2, "families": "linear", "random_state": 0, **changes})


def regressor(**changes: Any) -> ShardwiseRegressor:
    return ShardwiseRegressor(**{"trials": 2, "families": "linear", "random_state": 0, **changes})


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Numbers with nulls, strings, categories, dates, booleans; and targets."""
    table = people(240).to_pandas().drop(columns=["id", "weight", "household"])
    table["plan"] = pd.Categorical(np.array(["basic", "plus", "pro"])[np.arange(240) % 3])
    table["member"] = np.arange(240) % 2 == 0
    return table


@pytest.fixture(scope="module")
def fitted(frame: pd.DataFrame) -> ShardwiseClassifier:
    return classifier().fit(*split(frame))


def split(frame: pd.DataFrame, target: str = "bought") -> tuple[pd.DataFrame, pd.Series]:
    return frame.drop(columns=["bought", "spent", "visits"]), frame[target]


# -- data ------------------------------------------------------------------------------------------------------------


def test_columns_of_any_type_are_learned_from(fitted: ShardwiseClassifier, frame: pd.DataFrame) -> None:
    X, y = split(frame)
    assert fitted.score(X, y) > 0.8
    assert fitted.feature_names_in_.tolist() == list(X.columns)
    assert fitted.classes_.tolist() == ["no", "yes"]
    probabilities = fitted.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    np.testing.assert_array_equal(fitted.predict(X), fitted.classes_[probabilities.argmax(axis=1)])


@pytest.mark.parametrize("convert", [pl.from_pandas, pa.Table.from_pandas, lambda X: pa.RecordBatch.from_pandas(X)])
def test_every_kind_of_frame_gives_the_same_model(fitted: Any, frame: pd.DataFrame, convert: Any) -> None:
    X, y = split(frame)
    other = classifier().fit(convert(X), y.tolist())
    np.testing.assert_array_equal(other.predict_proba(convert(X)), fitted.predict_proba(X))
    np.testing.assert_array_equal(other.predict_proba(X), fitted.predict_proba(convert(X)))


def test_a_frame_of_numbers_and_an_array_give_the_same_model() -> None:
    X = np.random.default_rng(0).normal(size=(80, 3))
    y = X[:, 0] > 0
    frame = pd.DataFrame(X, columns=["x0", "x1", "x2"])
    assert classifier().fit(X, y).package_ == classifier().fit(frame, y).package_


def test_nan_is_missing_and_infinity_is_taken() -> None:
    X = np.random.default_rng(0).normal(size=(100, 2))
    y = 3 * X[:, 1]
    X[::7, 0], X[::11, 0] = np.nan, np.inf
    model = regressor().fit(X, y)
    assert model.score(X, y) > 0.9
    assert np.isfinite(model.predict([[np.nan, 0.0], [-np.inf, np.nan]])).all()


@pytest.mark.parametrize(
    "labels",
    [[3, -1, 10], [7.0, 2.0, -1.0], ["b", "", " a"], ["true", "1.0", "null"], np.array(["x", "y", "é"], object)],
)
def test_labels_come_back_as_they_were_given(labels: Any) -> None:
    X = np.random.default_rng(0).normal(size=(90, 2)) + 8 * np.eye(3, 2).repeat(30, axis=0)
    y = np.asarray(labels)[np.arange(90) // 30]
    model = classifier().fit(X, y)
    np.testing.assert_array_equal(model.classes_, np.unique(y))
    assert model.predict(X).dtype == y.dtype
    assert (model.predict(X) == y).mean() > 0.9


# -- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [classifier, regressor])
@pytest.mark.parametrize("families", ["linear", "trees"])
def test_whole_weights_are_copies_and_the_order_of_rows_has_no_say(make: Any, families: str) -> None:
    rng = np.random.default_rng(3)
    X, weight = rng.normal(size=(60, 3)), rng.integers(0, 4, 60)
    y = (X[:, 0] > 0).astype(int)
    copies, order = np.repeat(np.arange(60), weight), rng.permutation(60)
    weighted = make(families=families).fit(X[order], y[order], sample_weight=weight[order])
    assert weighted.package_ == make(families=families).fit(X[copies], y[copies]).package_


def test_many_or_fractional_weights_enter_the_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.random.default_rng(0).normal(size=(200, 1))
    y, weight = np.where(np.arange(200) < 100, 0.0, 10.0), np.where(np.arange(200) < 100, 0.9, 0.1)
    fraction = regressor(families="baseline").fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(fraction.predict(X), 1.0, rtol=0.1)
    monkeypatch.setattr(estimators, "COUNTED_ROWS", 500)
    whole = regressor(families="baseline").fit(X, y, sample_weight=10 * weight)
    np.testing.assert_allclose(whole.predict(X), fraction.predict(X))


def test_copies_of_few_rows_are_in_one_fold_however_many_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def trained(config: Any, *, dataset: Any) -> TrainResult:
        batch = pa.Table.from_batches([batch for part in dataset.partitions for batch in dataset.read(part)])
        asked.append((config, batch.to_pandas()))
        return train(config, dataset=dataset)

    monkeypatch.setattr(estimators, "train", trained)
    X, weight = np.random.default_rng(0).normal(size=(60, 2)), np.full(60, 40)
    assert weight.sum() > estimators.DEALT_ROWS
    y = np.arange(60) % 2
    weighted = classifier(families="baseline", trials=1).fit(X, y, sample_weight=weight)
    copied = classifier(families="baseline", trials=1).fit(X.repeat(40, axis=0), y.repeat(40))
    assert weighted.package_ == copied.package_
    for config, rows in asked:
        folds = rows.groupby("x0")[config.fold_column]
        assert (folds.nunique() == 1).all()
        assert folds.first().value_counts().tolist() == [20, 20, 20]  # as of 60 rows
    assert not {finding["code"] for finding in weighted.findings_} & {"uneven_folds", "shared_rows"}


def test_weights_of_classes_move_the_probabilities() -> None:
    X = np.random.default_rng(0).normal(size=(200, 1))
    y = (np.arange(200) < 40).astype(float)
    shares = {
        name: classifier(families="baseline", class_weight=given).fit(X, y).predict_proba(X)[0, 1]
        for name, given in (("none", None), ("balanced", "balanced"), ("own", {1: 12}))
    }
    assert shares["none"] == pytest.approx(0.2, abs=0.02)
    assert shares["balanced"] == pytest.approx(0.5, abs=0.05)
    assert shares["own"] == pytest.approx(0.75, abs=0.05)


# -- the fitted estimator --------------------------------------------------------------------------------------------


def test_it_depends_on_no_file_and_is_pickled(fitted: ShardwiseClassifier, frame: pd.DataFrame) -> None:
    X, _ = split(frame)
    content = pickle.dumps(fitted)
    assert len(content) < len(fitted.package_) + 20_000
    again = pickle.loads(content)
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert pickle.dumps(again) == content


def test_the_same_random_state_gives_the_same_bytes_and_none_is_drawn(frame: pd.DataFrame) -> None:
    X, y = split(frame)
    packages = [classifier(random_state=state).fit(X, y).package_ for state in (1, 1, 2)]
    assert packages[0] == packages[1] != packages[2]
    np.random.seed(5)
    first = clone(classifier(random_state=None)).fit(X, y).package_
    assert classifier(random_state=None).fit(X, y).package_ != first
    assert classifier(random_state=np.random.RandomState(5)).fit(X, y).package_ == first


def test_nothing_is_left_behind_unless_a_folder_is_given(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temp"))
    monkeypatch.chdir(tmp_path)
    model = classifier().fit(*split(frame))
    assert list(tmp_path.rglob("*")) == [tmp_path / "temp"]
    kept = classifier(runs_folder=tmp_path / "runs").fit(*split(frame))
    assert kept.package_ == model.package_
    assert len(list((tmp_path / "runs").glob("*/journal.db"))) == 1
    assert kept.fit(*split(frame)).package_ == model.package_


def test_a_saved_package_serves_and_comes_back(
    fitted: ShardwiseClassifier, frame: pd.DataFrame, tmp_path: Path
) -> None:
    X, _ = split(frame)
    predictor = shardwise.load(fitted.save(tmp_path / "model"))
    np.testing.assert_array_equal(predictor.predict(pa.Table.from_pandas(X)), fitted.predict_proba(X))
    again = ShardwiseClassifier.from_package(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(X[again.feature_names_in_]), fitted.predict(X))
    assert again.package_ == fitted.package_
    with pytest.raises(TargetError, match="ShardwiseClassifier"):
        ShardwiseRegressor.from_package(tmp_path / "model")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine").touch()
    with pytest.raises(PackageError):
        fitted.save(tmp_path / "other")


def test_it_goes_with_scikit_learns_tools(frame: pd.DataFrame) -> None:
    X, y = split(frame)
    assert cross_val_score(classifier(), X, y, cv=3).mean() > 0.7
    search = GridSearchCV(classifier(), {"families": ["baseline", "linear"]}, cv=2, scoring="roc_auc").fit(X, y)
    assert search.best_params_ == {"families": "linear"}


def test_more_rows_than_are_dealt_are_split_by_their_content(
    frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimators, "DEALT_ROWS", 100)
    X, y = split(frame)
    model = classifier(folds=3).fit(X, y)
    assert model.score(X, y) > 0.8
    assert 0.5 < model.valid_score_ <= 1.0


# -- tasks -----------------------------------------------------------------------------------------------------------


def test_counts_are_positive_and_quantiles_cover(frame: pd.DataFrame) -> None:
    X, _ = split(frame)
    counts = regressor(task="count").fit(X, frame["visits"])
    assert (counts.predict(X) > 0).all()
    high = regressor(task="quantile", quantile=0.9).fit(X, frame["spent"])
    assert 0.8 < (frame["spent"] <= high.predict(X)).mean() < 0.99


def test_aggregates_joins_and_selection_work_as_in_a_run(tmp_path: Path, frame: pd.DataFrame) -> None:
    X, y = frame.drop(columns="spent"), frame["spent"]
    cities = frame[["city"]].dropna().drop_duplicates().assign(size=range(frame["city"].nunique()))
    cities.to_parquet(tmp_path / "cities.parquet")
    model = ShardwiseRegressor(
        trials=2, folds=2, random_state=0, aggregates="mean(income) by city",
        joins=f"{tmp_path / 'cities.parquet'} on city", select="none",
    ).fit(X, y)  # fmt: skip
    recipe = shardwise.load(model.save(tmp_path / "model")).package.recipe
    assert {"size", "income"} <= {feature.source for feature in recipe.features}
    assert any("mean(income) by city" in feature.name for feature in recipe.features)
    assert model.predict(X[::-1]).shape == (len(X),)
    with pytest.raises(ConfigError, match="auto"):
        ShardwiseRegressor(select="some").fit(X, y)


def test_targets_below_zero_are_learned() -> None:
    X = np.random.default_rng(0).normal(size=(120, 2))
    y = 10 * X[:, 0] - 50
    assert regressor(families="trees", trials=3).fit(X, y).score(X, y) > 0.8


@pytest.mark.parametrize("rows", [2, 3, 5, 9])
@pytest.mark.parametrize("families", ["baseline", "linear", "trees"])
def test_a_few_rows_are_enough(rows: int, families: str) -> None:
    X = np.random.default_rng(rows).normal(size=(rows, 2))
    assert np.isfinite(regressor(families=families).fit(X, X[:, 0]).predict(X)).all()
    for labels in (2, min(rows, 3)):
        probabilities = classifier(families=families).fit(X, np.arange(rows) % labels).predict_proba(X)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)


def test_copies_of_two_rows_are_enough() -> None:
    X = np.repeat([[0.0, 1.0], [1.0, 0.0]], 20, axis=0)
    assert classifier(families=None, trials=3).fit(X, X[:, 0] > 0).score(X, X[:, 0] > 0) >= 0.5


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda X, y: classifier(metric="rmse").fit(X, y), ConfigError, "roc_auc"),
        (lambda X, y: classifier(trials=0).fit(X, y), ConfigError, "at least 1"),
        (lambda X, y: classifier(class_weight={"maybe": 2}).fit(X, y), TargetError, "no class 'maybe'"),
        (lambda X, y: classifier().fit(X, np.full(len(y), "a")), TargetError, "1 class"),
        (lambda X, y: classifier().fit(X.assign(nested=[[1]] * len(X)), y), SchemaError, "'nested'"),
        (lambda X, y: classifier().fit(X[[]], y), DataError, "no columns"),
        (lambda X, y: classifier().fit(X, y, np.full(len(y), -1)), DataError, "negative"),
        (lambda X, y: classifier().fit(X, y, np.zeros(len(y))), DataError, "zero"),
        (lambda X, y: classifier().fit(X, y, np.ones((len(y), 2))), DataError, "2 dimensions"),
        (lambda X, y: regressor(task="binary").fit(X, X["age"]), TargetError, "count"),
        (lambda X, y: regressor(task="count").fit(X, np.arange(-1, len(X) - 1)), TargetError, "negative"),
    ],
)
def test_what_cannot_be_used_is_both_kinds_of_error(
    frame: pd.DataFrame, make: Any, error: type[ShardwiseError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        make(*split(frame))
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("y", [["a", None] * 120, [0, np.nan] * 120, [[0, 1]] * 240, np.ones(239)])
def test_targets_that_are_none_are_refused(frame: pd.DataFrame, y: Any) -> None:
    X, _ = split(frame)
    for make in (classifier, regressor):
        with pytest.raises((ValueError, TypeError)):
            make().fit(X, y)


def test_a_missing_column_is_named(fitted: ShardwiseClassifier, frame: pd.DataFrame) -> None:
    X, _ = split(frame)
    with pytest.raises(ValueError, match="city"):
        fitted.predict(X.drop(columns="city"))
