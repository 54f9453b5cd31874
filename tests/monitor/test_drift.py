"""Distances equal plain NumPy and SciPy answers; tests keep their rate on null data."""

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from shardwise.data.profile import Profile
from shardwise.monitor.drift import at_least, compare_profiles, fisher, homogeneity, kind_of, sizes_of, unseen_share


def profile(columns) -> Profile:
    table = pa.table(columns)
    made = Profile(table.schema)
    made.update(table.combine_chunks().to_batches()[0])
    return made


def drift(before, after, name="x"):
    return next(d for d in compare_profiles(profile({name: before}), profile({name: after})) if d.column == name)


def test_ks_is_that_of_scipy_where_the_sketch_is_exact():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=800), rng.normal(0.3, 1.2, size=500)
    found = drift(a, b)
    expected = stats.ks_2samp(a, b)
    assert found.kind == "number"
    assert found.ks == pytest.approx(expected.statistic)
    assert found.p_values["distribution"] == pytest.approx(expected.pvalue, rel=0.3)


def test_psi_and_js_are_those_of_the_bins():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=900), rng.normal(0.5, 1.0, size=700)
    edges = np.quantile(a, np.arange(1, 10) / 10)
    counts = [np.bincount(np.searchsorted(edges, x), minlength=10) + 0.5 for x in (a, b)]
    p, q = (c / c.sum() for c in counts)
    found = drift(a, b)
    assert found.psi == pytest.approx(((q - p) * np.log(q / p)).sum(), rel=0.02)
    m = (p + q) / 2
    js = np.sqrt((stats.entropy(p, m, 2) + stats.entropy(q, m, 2)) / 2)
    assert found.js == pytest.approx(js, rel=0.02)
    assert sizes_of(np.array([5.0, 5.0]), np.array([5.0, 5.0])) == {"psi": 0.0, "js": 0.0}


def test_categories_are_compared_by_chi_square():
    rng = np.random.default_rng(2)
    a, b = rng.choice(list("abc"), 900), rng.choice(list("abc"), 600, p=[0.5, 0.3, 0.2])
    found = drift(a, b)
    table = np.array([[np.sum(side == letter) for letter in "abc"] for side in (a, b)])
    assert found.kind == "category"
    both = [stats.chi2_contingency(table, correction=False, lambda_=power).pvalue for power in (1, 0)]
    assert found.p_values["distribution"] == pytest.approx(max(both))


def test_new_and_vanished_values_are_named():
    found = drift(["a"] * 500 + ["b"] * 400 + ["c"] * 100, ["a"] * 400 + ["z"] * 100)
    assert found.facts["new_values"] == ["z"]
    assert set(found.facts["vanished_values"]) == {"b", "c"}
    assert found.p_values["new"] < 1e-9


def test_missing_cells_and_the_range_are_seen():
    before = [*np.arange(1000) + 0.5, None]
    found = drift(before, [None] * 20 + list(np.arange(900, 1100) + 0.5))
    assert found.facts["missing"] == [pytest.approx(1 / 1001), pytest.approx(20 / 220)]
    assert found.p_values["missing"] < 1e-9
    assert found.facts["outside_rows"] == 100
    assert found.p_values["outside"] < 1e-9


def test_times_and_identifiers_are_compared_by_missing_cells_alone():
    days = pa.array(np.arange("2024-01-01", "2024-04-01", dtype="datetime64[D]"))
    ids = [f"r{number}" for number in range(len(days))]
    made = profile({"day": days, "id": ids})
    assert [kind_of(column) for column in made.columns.values()] == ["missing only"] * 2
    assert set(drift(days, pa.array(np.array(days) + 100), "day").p_values) == {"missing"}


def test_the_tests_keep_their_rate_where_nothing_has_changed():
    rng = np.random.default_rng(3)

    def rows(count):
        return {"n": rng.normal(size=count), "s": rng.lognormal(size=count), "i": rng.poisson(2.0, count),
                "c": rng.choice([f"v{k}" for k in range(12)], count, p=np.arange(1, 13) / 78),
                "m": pa.array(rng.normal(size=count), mask=rng.random(count) < 0.02)}  # fmt: skip

    reference = profile(rows(20_000))
    raw = [p for _ in range(150) for d in compare_profiles(reference, profile(rows(400))) for p in d.p_values.values()]
    for level in (0.05, 0.01):
        rate = np.mean(np.array(raw) < level)
        assert rate <= level + 3 * np.sqrt(level / len(raw))


def test_merged_windows_are_the_window_of_all_rows():
    rng = np.random.default_rng(4)
    reference, parts = profile({"x": rng.normal(size=900)}), [rng.normal(size=300) for _ in range(3)]
    merged = profile({"x": parts[0]})
    for part in parts[1:]:
        merged.merge(profile({"x": part}))
    whole = next(compare_profiles(reference, profile({"x": np.concatenate(parts)})))
    assert next(compare_profiles(reference, merged)).to_json() == whole.to_json()


def test_fisher_is_that_of_scipy():
    for table in ((5, 100, 9, 80), (0, 50, 3, 20), (7, 7, 7, 7)):
        a, n, b, m = table
        one_sided = [stats.fisher_exact([[a, n - a], [b, m - b]], side).pvalue for side in ("less", "greater")]
        assert fisher((a, n), (b, m)) == pytest.approx(min(1.0, 2 * min(one_sided)))


def test_many_equally_frequent_values_are_no_drift():
    """The hundred that are most frequent in training are so by chance, and less so in new rows."""
    rng = np.random.default_rng(6)
    words = np.array([f"v{k:03d}" for k in range(170)])
    found = [drift(*(rng.choice(words, 3000) for _ in range(2))) for _ in range(40)]
    assert {each.kind for each in found} == {"category"}
    assert min(each.p_values["distribution"] for each in found) > 1e-4


def test_rows_beyond_the_extremes_of_training_have_their_exact_chance():
    for hits, rows, training in ((1, 5, 3), (4, 1000, 20_000), (9, 16_000, 20_000), (200, 500, 50)):
        law = stats.hypergeom(training + rows, training, hits + 1)  # at most one of the first hits + 1 is of training
        assert at_least(hits, rows, 2.0, training - 1.0) == pytest.approx(law.cdf(1), rel=1e-6)


def test_chances_that_are_estimates_keep_their_rate_in_windows_as_large_as_training():
    rng, level = np.random.default_rng(5), 0.002
    share = 1.0 / np.arange(1, 3001)
    found = {"outside": [], "new": []}
    for _ in range(1500):
        old, new = rng.normal(size=400), rng.normal(size=300)
        found["outside"].append(at_least(int((new > old.max()).sum() + (new < old.min()).sum()), 300, 2.0, 399.0))
        old, new = (rng.multinomial(rows, share / share.sum()) for rows in (400, 300))
        a, b = unseen_share(int((old == 1).sum()), int((old == 2).sum()), 400)
        found["new"].append(at_least(int(new[old == 0].sum()), 300, a, b))
    for name, p_values in found.items():
        assert np.mean(np.array(p_values) < level) <= level + 3 * np.sqrt(level / 1500), name


def test_few_rows_make_no_cell_of_their_own():
    assert homogeneity(np.array([1000.0, 1.0, 1.0]), np.array([50.0, 1.0, 0.0])) == 1.0


def test_a_window_of_one_new_value_has_a_p_value():
    for rows in (60, 100, 200):
        assert homogeneity(np.array([4000.0, 4000.0, 0.0]), np.array([0.0, 0.0, rows])) < 1e-9
    towns = ["Ulm", "Bonn", "Kiel"] * 2000
    found = drift(towns, ["Xville"] * 150)
    assert found.p_values["distribution"] < 1e-9
    assert found.facts["new_rows"] == 150


def test_p_values_are_numbers_whatever_the_counts():
    rng = np.random.default_rng(3)
    for _ in range(300):
        before, after = (rng.poisson(rng.choice([0, 0.3, 4, 300], 6)).astype(float) for _ in range(2))
        assert 0.0 <= homogeneity(before, after) <= 1.0
