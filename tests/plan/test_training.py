"""Seconds of candidates: which ones, how many rounds, how they share the workers."""

from typing import Any

import numpy as np
import pytest
from tests.plan.shapes import sizes

from shardwise.core.candidate import Candidate
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.target import Target, Task
from shardwise.models.families import FAMILIES
from shardwise.models.portfolio import portfolio
from shardwise.plan import training
from shardwise.plan.knowledge import defaults

POWERS = {"rate": 1.0, "leaves": -0.2, "extra_trees": 1.5, "logs": 1.2}


def test_candidates_are_the_portfolio_and_then_average_ones() -> None:
    known = portfolio(Target(column="y", task=Task.REGRESSION), (), 200_000)
    assert [c.family for c in training.candidates(sizes(), None)] == [c.family for c in known]
    many = training.candidates(sizes(), len(known) + 3)
    assert len(many) == len(known) + 3
    assert {c.family for c in many[len(known) :]} == {"trees"}
    assert len(training.candidates(sizes(), 2)) == 2


def test_params_that_are_held_bound_the_rounds() -> None:
    held = {"trees": {"n_estimators": 30}}
    trees = next(c for c in training.candidates(sizes(), 2, (), held) if c.family == "trees")
    assert training.boosted(500.0, training.params_of(trees)) == 30
    assert training.rounds_of(trees, trees, 500.0, POWERS) == 30


def test_catboost_takes_some_times_as_long_as_trees_of_as_many_leaves() -> None:
    cat = Candidate(family="catboost", params={"max_depth": 5, "learning_rate": 0.1})
    trees = Candidate(family="trees", params={"num_leaves": 32, "learning_rate": 0.1})
    law, terms = training.unit_terms(cat, sizes(), 100.0)
    same_law, usual = training.unit_terms(trees, sizes(), 100.0)
    assert law == same_law
    assert terms == {name: pytest.approx(training.CATBOOST_COST * value) for name, value in usual.items()}
    assert training.rounds_of(cat, trees, 100.0, POWERS) == training.rounds_of(trees, trees, 100.0, POWERS)


def test_slow_learners_take_more_rounds() -> None:
    first = Candidate(family="trees", params={"learning_rate": 0.1})
    slow = Candidate(family="trees", params={"learning_rate": 0.05})
    assert training.rounds_of(slow, first, 100.0, POWERS) == pytest.approx(200.0)
    assert training.rounds_of(first, first, 100.0, POWERS) == pytest.approx(100.0)


def test_rounds_grow_with_the_rows_by_a_power() -> None:
    rounds = training.Rounds(100.0, 1_000, 0.5)
    assert rounds.at(1_000) == pytest.approx(100.0)
    assert rounds.at(4_000) == pytest.approx(200.0)


@pytest.mark.parametrize("term", ["histograms", "rows", "cells"])
def test_terms_grow_with_the_rows(term: str) -> None:
    trees = Candidate(family="trees", params={})
    _, few = training.unit_terms(trees, sizes(train_rows=10_000), 100.0)
    _, many = training.unit_terms(trees, sizes(train_rows=20_000), 100.0)
    assert many[term] == pytest.approx(2 * few[term], rel=0.01)


@pytest.mark.parametrize(("rows", "rounds"), [(1_000, 16), (150_000, 16), (600_000, 10), (3_000_000, 6)])
def test_a_linear_model_ends_early_or_after_six_million_visits(rows: int, rounds: int) -> None:
    _, terms = training.unit_terms(Candidate(family="linear"), sizes(train_rows=rows), 0.0)
    assert terms["visits"] == pytest.approx(1e-6 * rounds * min(rows, 2**20))
    _, seen = training.unit_terms(Candidate(family="linear"), sizes(train_rows=rows), 0.0, steps=3)
    assert seen["visits"] == pytest.approx(1e-6 * 3 * min(rows, 2**20))


@pytest.mark.parametrize(("outputs", "features"), [(3, 10), (26, 10), (3, 2_000)])
def test_the_portfolio_is_that_of_the_classes_and_columns(outputs: int, features: int) -> None:
    target = Target(column="y", task=Task.MULTICLASS, classes=tuple(range(outputs)))
    numbers = [Feature(name=f"x{i}", source=f"x{i}", kind=FeatureKind.NUMBER) for i in range(features - 1)]
    own = portfolio(target, [*numbers, Feature(name="c", source="c", kind=FeatureKind.CODE, cardinality=3)], 10_000)
    asked = sizes(task="multiclass", outputs=outputs, features=features, rows=10_000, test_rows=0)
    planned = training.candidates(asked, None, memory_bytes=0)
    first, expected = (next(each for each in found if each.family == "trees") for found in (planned, own))
    assert first.params == expected.params


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("rows", [1_000, 10_000_000])
def test_each_family_has_a_law_that_is_shipped(family: str, rows: int) -> None:
    name, _ = training.unit_terms(Candidate(family=family), sizes(train_rows=rows), 10.0)
    assert name in defaults().time


@pytest.mark.parametrize("family", ["neural", "cnn", "rnn"])
def test_networks_multiply_as_much_as_they_have_rows_and_epochs(family: str) -> None:
    network = Candidate(family=family)
    name, terms = training.unit_terms(network, sizes(train_rows=10_000, valid_rows=0), 0.0, steps=10)
    _, twice = training.unit_terms(network, sizes(train_rows=10_000, valid_rows=0), 0.0, steps=20)
    _, wider = training.unit_terms(network, sizes(train_rows=10_000, valid_rows=0, features=784), 0.0, steps=10)
    assert name == "neural"
    assert twice["products"] == pytest.approx(2 * terms["products"])
    assert wider["products"] > 1.5 * terms["products"]


def test_networks_do_not_multiply_what_they_do_without() -> None:
    def products(features: int, copied: int, **params: Any) -> float:
        asked = sizes(features=features, copied=copied, train_rows=10_000)
        network = Candidate(family="neural", params={"embedding": 8, **params})
        return training.unit_terms(network, asked, 0.0, steps=10)[1]["products"]

    assert products(30, 10) == products(20, 0) < products(30, 0)
    assert products(30, 10, use_copies=True) == products(30, 0)


@pytest.mark.parametrize("slots", [1, 2, 3, 50])
def test_a_makespan_lies_between_its_bounds(slots: int) -> None:
    lengths = np.random.default_rng(slots).random(20).tolist()
    found = training.makespan(lengths, slots)
    assert max(max(lengths), sum(lengths) / slots) - 1e-9 <= found <= sum(lengths) / slots + max(lengths)


def test_a_large_model_gets_a_process_of_its_own_only_under_a_ceiling() -> None:
    large = sizes(train_rows=5_000_000)
    free = training.place(large, workers=None, cpus=4, ceiling_bytes=None)
    assert (free.slots, free.processes, free.threads) == (1, 0, 4)
    held = training.place(large, workers=None, cpus=4, ceiling_bytes=10**9)
    assert (held.slots, held.processes) == (1, 1)
    small = training.place(sizes(train_rows=50_000, folds=5), workers=None, cpus=4, ceiling_bytes=None)
    assert (small.slots, small.processes, small.threads) == (4, 4, 1)


def test_fits_go_side_by_side_where_there_are_many_cells_or_much_time() -> None:
    cells, rows = training.CELLS_PER_WORKER, 5_000
    assert training.side_by_side(cells, rows, None)
    assert not training.side_by_side(cells - 1, rows, None)
    assert not training.side_by_side(cells - 1, rows, training.WORTH_S - 1)
    assert training.side_by_side(cells - 1, rows, training.WORTH_S)
    assert not training.side_by_side(cells, training.LARGE_ROWS, 3600.0)


def test_all_trees_of_a_forest_are_grown() -> None:
    forest = Candidate(family="forest", params={"n_estimators": 200, "num_leaves": 310})
    best = training.rounds_of(forest, Candidate(family="trees"), 50.0, POWERS)
    assert best == 200
    assert training.grown(forest, best) == 2000
    law, terms = training.unit_terms(forest, sizes(train_rows=20_000), best)
    assert law == "trees"
    assert terms["rounds"] == pytest.approx(0.2)


def test_stages_of_adaboost_are_rounds_of_trees() -> None:
    slow, fast = (Candidate(family="adaboost", params={"learning_rate": rate}) for rate in (0.1, 0.5))
    first = Candidate(family="trees")
    assert training.rounds_of(slow, first, 100.0, POWERS) > training.rounds_of(fast, first, 100.0, POWERS)


def test_a_kernel_costs_its_columns() -> None:
    linear, wide = (Candidate(family="svm", params={"kernel": kernel}) for kernel in ("linear", "rbf"))
    laws = [training.unit_terms(candidate, sizes(train_rows=20_000), 0.0) for candidate in (linear, wide)]
    assert [law for law, _ in laws] == ["linear", "linear"]
    assert laws[1][1]["cells"] > 10 * laws[0][1]["cells"]
