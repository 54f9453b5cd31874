"""Contributions: they add up to the answer, and are what a plain computation gives."""

from dataclasses import replace

import numpy as np
import pytest
from tests.registry.parts import make_table

from shardwise.core.target import Task
from shardwise.registry.package import Member
from shardwise.serve.explain import explain
from shardwise.serve.predictor import Predictor


class Dumb:
    """A family that does not say what features add."""

    def __init__(self, model):
        self.predict = model.predict


def rows_of(task: Task, count: int = 6) -> list[dict]:
    return make_table(count, task, seed=5).drop_columns(["y", "row"]).to_pylist()


def encoded(predictor: Predictor, row: dict) -> np.ndarray:
    return predictor.package.recipe.transform(predictor.row_batch(row))


@pytest.mark.parametrize("kind", ["predictors", "promising"])
@pytest.mark.parametrize("task", list(Task))
def test_contributions_add_up_to_the_answer(task, kind, request):
    """Of trees and linear models together, with calibration where `promising` have it."""
    predictor = request.getfixturevalue(kind)[task]
    for row in rows_of(task):
        found, scores = predictor.explain_one(row), predictor.row_scores(row)
        place = found.output if found.output is not None else 0
        assert (found.output is None) == (not task.is_classification)
        assert found.answer == pytest.approx(scores[place], rel=1e-6, abs=1e-9)
        assert found.answer == pytest.approx(found.start + found.contributions.sum() + found.rest, abs=1e-9)
        assert abs(found.rest) <= 0.01 * abs(found.answer - found.start) + 1e-6
        assert (found.share, found.silent) == (1.0, ())
        assert len(found.contributions) == len(found.features)
        if task is Task.MULTICLASS:
            assert place == predictor.target.classes_of(scores)


def test_of_one_model_they_are_the_slope_of_the_chord_times_its_terms(predictors):
    package = predictors[Task.BINARY].package
    alone = replace(package, members=package.members[:1], calibrator=None)
    X = encoded(predictors[Task.BINARY], rows_of(Task.BINARY)[0])
    terms = alone.members[0].model.terms(X)[0, :, 0]
    before, after = 1 / (1 + np.exp(-terms[-1])), 1 / (1 + np.exp(-terms.sum()))
    found = explain(alone, X, 1)
    np.testing.assert_allclose(found.contributions, terms[:-1] * (after - before) / terms[:-1].sum(), rtol=1e-6)
    assert found.start == pytest.approx(before)


def test_of_a_mean_of_numbers_they_are_the_mean_of_the_terms(predictors):
    package = predictors[Task.REGRESSION].package
    linear = [member for member in package.members if member.family == "linear"]
    X = encoded(predictors[Task.REGRESSION], rows_of(Task.REGRESSION)[0])
    found = explain(replace(package, members=tuple(linear)), X, 0)
    each = [m.model.answers(m.model.terms(X)[:, :-1].transpose(1, 0, 2)[:, 0]) - m.model.answers(np.zeros((1, 1)))
            for m in linear]  # fmt: skip
    np.testing.assert_allclose(found.contributions, np.mean(each, axis=0), rtol=1e-6, atol=1e-9)


def test_a_column_that_the_model_does_not_use_adds_nothing(predictors):
    package = predictors[Task.BINARY].package
    trees = replace(package, members=package.members[:1])
    unused = [name for name, share in trees.members[0].model.importance().items() if share == 0]
    found = explain(trees, encoded(predictors[Task.BINARY], rows_of(Task.BINARY)[0]), 1)
    told = {feature.name: part for feature, part in zip(found.features, found.contributions, strict=True)}
    assert unused
    assert all(told[name] == 0 for name in unused)


def test_what_members_do_not_tell_is_said_and_lies_in_the_start(predictors):
    package = predictors[Task.BINARY].package
    first, *others = package.members
    X = encoded(predictors[Task.BINARY], rows_of(Task.BINARY)[0])
    half = replace(package, members=(Member("silent", Dumb(first.model), first.weight), *others))
    found = explain(half, X, 1)
    assert (found.share, found.silent) == (pytest.approx(0.75), ("silent",))
    assert found.answer == pytest.approx(explain(package, X, 1).answer)
    assert found.answer == pytest.approx(found.start + found.contributions.sum() + found.rest)
    none = explain(replace(package, members=(Member("silent", Dumb(first.model), 1.0),)), X, 1)
    assert (none.share, none.start) == (0.0, none.answer)
    assert not none.contributions.any()
