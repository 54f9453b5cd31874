import numpy as np
import pyarrow as pa
import pytest
from tests.features.tables import BINARY, MEAN, fitted, k_folds, whole

from shardwise.core.errors import SchemaError
from shardwise.features.recipe import RecipeConfig
from shardwise.features.text import grams, read_texts
from shardwise.features.tokens import split_words

GOOD, BAD = ["love", "great", "perfect"], ["awful", "broken", "refund"]
FILLER = ["the", "a", "product", "it", "was", "and", "very", "today"]


def reviews(rows, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, rows)
    texts = []
    for label in y:
        own = GOOD if rng.random() < (0.85 if label else 0.15) else BAD
        texts.append(" ".join(rng.permutation([*rng.choice(FILLER, 8), rng.choice(own), str(rng.integers(1000))])))
    return pa.table({"t": pa.array(texts), "y": pa.array(y)}), rng.integers(0, 3, rows)


def buckets_of(*texts):
    found = grams(read_texts(pa.array(list(texts)), "t"), 2**16)
    return [set(found.buckets[found.rows == row].tolist()) for row in range(len(texts))]


def test_case_punctuation_and_blanks_have_no_say_and_order_has():
    same, dashed, other, single = buckets_of("Not GOOD!", "  not --- good…", "good not", "good")
    assert same == dashed
    assert len(same) == 3  # two words and a pair
    assert single < same
    assert single < other != same


def test_pairs_do_not_reach_into_the_next_text():
    together, first, second = buckets_of("red car", "red", "car")
    assert first | second < together
    found = grams(pa.array(["red", "car"]), 2**16)
    assert len(found.buckets) == 2


def test_words_of_a_slice_are_those_of_its_rows():
    texts = pa.array(["one", "two three", "", "vier"])
    words, rows = split_words(texts.slice(1, 3))
    assert words.to_pylist() == ["two", "three", "vier"]
    assert rows.tolist() == [0, 0, 2]


@pytest.mark.parametrize("target", [BINARY, MEAN], ids=["binary", "mean"])
def test_the_score_is_that_of_plain_sums(target):
    table, folds = reviews(600)
    visible = {**k_folds(3), 0: ()}
    recipe = fitted(table, folds, target, visible=visible, config=RecipeConfig(text_columns=0, text_buckets=2**14))
    X = recipe.transform(whole(table), folds=folds)
    found = grams(read_texts(table["t"].combine_chunks(), "t"), 2**14)
    y = np.asarray(table["y"], dtype=float)
    for fold in (1, 2):
        seen = np.isin(folds, visible[fold])
        dense = np.zeros((600, 2**14))
        dense[found.rows, found.buckets] = 1.0
        inside, counts, prior = dense[seen].T @ y[seen], dense[seen].sum(axis=0), y[seen].mean()
        if target is BINARY:
            odds = (inside + 5 * prior) / (counts - inside + 5 * (1 - prior))
            weights = np.log(odds) - np.log(prior / (1 - prior))
        else:
            weights = (inside - counts * prior) / (counts + 5)
        expected = dense @ weights
        mine = folds == fold
        np.testing.assert_allclose(X[mine, 0], expected[mine], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(X[mine, 1], (expected / dense.sum(axis=1))[mine], rtol=1e-4, atol=1e-5)
    assert (X[folds == 0, :2] == 0.0).all()


def test_the_score_tells_classes_apart_and_noise_does_not():
    table, folds = reviews(2000)
    noise = table.set_column(1, "y", pa.array(np.random.default_rng(9).integers(0, 2, 2000)))
    for given, low, high in ((table, 0.8, 1.0), (noise, 0.45, 0.55)):
        X = fitted(given, folds).transform(whole(given), folds=folds)
        y = np.asarray(given["y"])
        above = X[y == 1, 0][:, None] > X[y == 0, 0][None]
        assert low <= above.mean() <= high


def test_columns_are_the_most_frequent_ngrams_with_their_idf():
    table, folds = reviews(500)
    recipe = fitted(table, folds, config=RecipeConfig(text_columns=8))
    X = recipe.transform(whole(table))
    assert X.shape == (500, 12)
    for column in X[:, 4:].T:
        texts = (column > 0).sum()
        np.testing.assert_allclose(column[column > 0], np.log(501 / (1 + texts)) + 1, rtol=1e-5)
        assert texts > 50


def test_empty_missing_and_odd_texts_are_read():
    table, folds = reviews(500)
    recipe = fitted(table, folds).sealed()
    X = recipe.transform(pa.record_batch({"t": pa.array([None, "", "!!!", "😀 日本語 \x00", "x" * 100_000])}))
    assert np.isfinite(X).all()
    np.testing.assert_array_equal(X[0], X[1])
    large = recipe.transform(pa.record_batch({"t": pa.array(["Love it", "5"], pa.large_string())}))
    encoded = recipe.transform(pa.record_batch({"t": pa.array(["love it", "5"]).dictionary_encode()}))
    np.testing.assert_array_equal(large, encoded)
    with pytest.raises(SchemaError, match="text was expected"):
        recipe.transform(pa.record_batch({"t": pa.array([["a"]])}))


def titles(rows=3000, seed=0):
    """Some 400 labels of three words, of which the last tells the target; and folds."""
    rng = np.random.default_rng(seed)
    grade = rng.integers(0, 8, rows)
    words = [f"{rng.choice(FILLER)} {rng.choice(FILLER)} grade{number}" for number in grade]
    return pa.table({"t": pa.array(words), "y": grade + rng.normal(size=rows)}), rng.integers(0, 3, rows)


def test_words_that_labels_have_in_common_tell_more_than_the_labels():
    table, folds = titles()
    recipe = fitted(table, folds, MEAN)
    assert recipe.kinds == ("encoding", "words")
    X = recipe.transform(whole(table.select(["t"])), folds=folds.astype(np.int8))
    y = table["y"].to_numpy()
    places = {feature.name: place for place, feature in enumerate(recipe.features)}
    known = [abs(np.corrcoef(X[:, places[name]], y)[0, 1]) for name in ("t:target", "t:target_sum")]
    assert known[1] > known[0] + 0.02
    assert sum(":gram_" in feature.name for feature in recipe.features) <= RecipeConfig().word_columns


def test_labels_that_are_said_again_have_the_bits_of_each_alone():
    table, folds = titles(600)
    recipe = fitted(table, folds, MEAN)
    batch = whole(table.select(["t"]))
    together = recipe.transform(batch, folds=folds.astype(np.int8))
    for row in (0, 7, 599):
        alone = recipe.transform(batch.slice(row, 1), folds=folds[row : row + 1].astype(np.int8))
        np.testing.assert_array_equal(alone[0], together[row])


def test_columns_of_labels_share_the_words():
    table, folds = titles()
    more = table.append_column("u", table["t"]).append_column("v", table["t"])
    config = RecipeConfig(word_columns=30)
    names = [feature.name for feature in fitted(more, folds, MEAN, config=config).features if ":gram_" in feature.name]
    assert len(names) == 30
