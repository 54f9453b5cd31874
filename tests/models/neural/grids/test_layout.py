"""Prepared cells against a plain answer."""

from dataclasses import replace

import numpy as np

from shardwise.data.rows import Chunk
from shardwise.models.neural.grids.layout import GridDesign
from shardwise.models.neural.shape import LIMIT
from shardwise.testing.models import FEATURES


def test_cells_come_in_the_order_of_their_places_after_the_numbers() -> None:
    places = {"size": (1, 0), "age": (0, 0), "shop": (1, 1), "age is missing": (0, 1)}
    features = [replace(feature, place=places.get(feature.name, ())) for feature in FEATURES]
    design = GridDesign(features, 10, axes=2, flags=True)
    X = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    X[:, 3] = 1.0
    X[3, [0, 4]] = np.nan  # the whole second step
    X[4, 0] = np.nan
    X[5, 0], X[6, 0] = np.inf, -1e30
    block = design.prepare(Chunk(np.asfortranarray(X), np.zeros(20)), np.zeros(20), 1.0)
    assert design.sizes == (2, 2)
    assert (design.numbers, design.codes) == (0, 1)
    scaled = (X - [f.center for f in features]) / [f.scale for f in features]
    wanted = np.nan_to_num(np.clip(scaled[:, [1, 2, 0, 4]], -LIMIT, LIMIT))
    np.testing.assert_allclose(block.numbers[:, :4], wanted, rtol=1e-6)
    assert np.flatnonzero(block.numbers[:, 5]).tolist() == [3]
    assert not block.numbers[:, 4].any()


def test_without_places_it_is_a_plain_design() -> None:
    design = GridDesign(FEATURES, 10, axes=3)
    chunk = Chunk(np.zeros((4, 5), np.float32), np.zeros(4))
    assert design.sizes == ()
    assert design.prepare(chunk, np.zeros(4), 1.0).numbers.shape == (4, 4)
