import numpy as np

from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.target import Task
from shardwise.data.rows import Chunk
from shardwise.models.design import Design
from shardwise.models.kernel import MOST_VALUES, Directions, KernelDesign, categories
from shardwise.testing.models import FEATURES, tiny_table

GAMMA = 0.1


def design(components: int = 4096) -> KernelDesign:
    linear = Design(FEATURES, 1024)
    slots = sum(category.values for category in categories(linear))
    return KernelDesign(linear, Directions.draw(3, linear.numbers, slots, components=components, gamma=GAMMA))


def test_products_of_features_come_near_the_gaussian_kernel() -> None:
    table = tiny_table(Task.BINARY, 60)
    kernel = design()
    block = kernel.widened(kernel.prepare(Chunk(table.X, table.y, None), table.y, 1.0))
    waves = block.numbers[:, kernel.linear.numbers :]
    numbers, slots = kernel.linear.columns(table.X)
    far = ((numbers[:, None] - numbers[None]) ** 2).sum(axis=2) + 2.0 * (slots[:, None, 0] != slots[None, :, 0])
    assert np.abs(waves @ waves.T - np.exp(-GAMMA * far)).max() < 0.1


def test_scores_are_the_product_with_what_is_prepared() -> None:
    table = tiny_table(Task.BINARY, 700)
    kernel = design(200)
    weights = np.random.default_rng(0).normal(size=(kernel.width + 1, 2))
    block = kernel.widened(kernel.prepare(Chunk(table.X, table.y, None), table.y, 1.0))
    expected = block.numbers @ weights[: kernel.numbers] + weights[block.slots[:, 0]] + weights[-1]
    scores = kernel.scores(table.X, weights)
    np.testing.assert_allclose(scores, expected, atol=2e-4)
    row = kernel.for_rows(weights)
    np.testing.assert_array_equal(np.concatenate([row(table.X[i : i + 1]) for i in range(300)]), scores[:300])


def test_columns_of_some_rows_are_those_that_they_have_among_all() -> None:
    table = tiny_table(Task.BINARY, 700)
    kernel = design(200)
    rows = kernel.prepare(Chunk(table.X, table.y, None), table.y, 1.0)
    some = np.random.default_rng(0).permutation(700)[:33]
    expected, found = kernel.widened(rows).take(some), kernel.widened(rows.take(some))
    np.testing.assert_array_equal(found.numbers, expected.numbers)
    np.testing.assert_array_equal(found.slots, expected.slots)


def test_categories_of_many_values_are_no_inputs() -> None:
    few, many = (
        Feature(name=name, source=name, kind=FeatureKind.CODE, cardinality=values)
        for name, values in (("few", 5), ("many", MOST_VALUES))
    )
    found = categories(Design([many, few], 1024))
    assert [(category.place, category.values, category.row) for category in found] == [(1, 6, 0)]


def test_the_seed_alone_decides_what_is_drawn() -> None:
    first, again = (Directions.draw(5, 3, 2, components=7, gamma=0.5) for _ in range(2))
    other = Directions.draw(6, 3, 2, components=7, gamma=0.5)
    np.testing.assert_array_equal(first.numbers, again.numbers)
    np.testing.assert_array_equal(first.phases, again.phases)
    assert (first.numbers != other.numbers).any()
