import numpy as np
import pyarrow as pa
import pytest
from tests.features.tables import column_of

from shardwise.features.category import NULL, UNSEEN, Category, Vocabulary
from shardwise.features.columns import RecipeConfig


def encode(training, new, **config):
    category = Category.plan("x", column_of(training), RecipeConfig(**config))
    out = np.empty((len(new), 1), np.float32, order="F")
    category.transform(pa.record_batch({"x": new}), out)
    return category, out[:, 0]


def test_codes_fall_with_the_count_and_ties_follow_the_text():
    training = pa.array(["b"] * 5 + ["a"] * 9 + ["d"] * 5 + ["rare"] + [None])
    category, found = encode(training, pa.array(["a", "b", "d", "rare", "never seen", None, ""]))
    np.testing.assert_array_equal(found, [1, 2, 3, 0, 0, np.nan, 0])
    assert category.output()[0].cardinality == 4


def test_the_dictionary_is_bounded():
    training = pa.array([f"v{value}" for value in np.random.default_rng(0).integers(0, 100, 5000)])
    category, found = encode(training, training, max_categories=10)
    assert category.output()[0].cardinality == 11
    assert set(found) == set(range(11))


NUMBERS = [7, 3, 7, 12, None, 3, 7]


@pytest.mark.parametrize(
    "given",
    [
        pa.array(NUMBERS, pa.int8()),
        pa.array(NUMBERS, pa.uint64()),
        pa.array([None if n is None else float(n) for n in NUMBERS]),
        pa.array([float("nan") if n is None else float(n) for n in NUMBERS], pa.float32()),
        pa.array([None if n is None else str(n) for n in NUMBERS]),
        pa.array([None if n is None else f"{n}.0" for n in NUMBERS]),
        pa.array(["" if n is None else f" 00{n} " for n in NUMBERS], pa.large_string()),
        pa.array(NUMBERS).dictionary_encode(),
        pa.array([None if n is None else str(n) for n in NUMBERS]).dictionary_encode(),
    ],
)
@pytest.mark.parametrize("training_type", [pa.int64(), pa.float64()])
def test_codes_of_whole_numbers_do_not_depend_on_the_type(given, training_type):
    training = pa.array([7, 7, 7, 7, 3, 3, 3, None, 12, 12], training_type)
    _, found = encode(training, given, min_count=2)
    np.testing.assert_array_equal(found, [1, 2, 1, 3, np.nan, 2, 1])


def test_text_categories_are_found_when_they_come_as_numbers():
    _, found = encode(pa.array(["1", "2", "2", "x"]), pa.array([2, 1, 5]), min_count=1)
    np.testing.assert_array_equal(found, [1, 2, 0])


@pytest.mark.parametrize("values", ["üñí", "😀", "", " ", "a" * 250, "\x00", "naïve"])
def test_any_text_is_a_category(values):
    _, found = encode(pa.array([values] * 4 + ["other"] * 3), pa.array([values, "other"]))
    np.testing.assert_array_equal(found, [1, 2])


def test_small_and_large_batches_agree():
    vocabulary = Vocabulary([f"v{number}" for number in range(5000)])
    texts = pa.array([None if number % 7 == 0 else f"v{number}" for number in range(6000)])
    large = vocabulary.lookup(texts)
    small = np.concatenate([vocabulary.lookup(texts.slice(start, 100)) for start in range(0, 6000, 100)])
    np.testing.assert_array_equal(large, small)
    assert {NULL, UNSEEN} < set(large.tolist())
