"""One scorer of many trees, shared by threads."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import lightgbm as lgb
import numpy as np
import pytest

from shardwise.models import trees_scores
from shardwise.models.trees_scores import TreeScores

LEAVES, ROUNDS = 100, 60


@pytest.mark.parametrize("rows", [1, 2_000], ids=["single rows", "batches"])
def test_threads_that_share_it_get_what_one_gets_alone(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(trees_scores, "BLOCK_LEAVES", 10 * LEAVES)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4_000, 5)).astype(np.float32)
    data = lgb.Dataset(X, X[:, 0] * X[:, 1] + rng.normal(size=len(X)), params={"verbosity": -1})
    booster = lgb.train({"num_leaves": LEAVES, "min_data_in_leaf": 5, "verbosity": -1, "num_threads": 1}, data, ROUNDS)
    scores = TreeScores(booster, None, features=5, leaves=LEAVES)
    pieces = [X[start : start + rows] for start in range(0, 40, rows)] * (1 if rows == 1 else 40)
    alone = [scores(piece, 1) for piece in pieces]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(partial(scores, threads=1), pieces))
    np.testing.assert_array_equal(np.concatenate(together), np.concatenate(alone))
