"""Health names what is wrong, and the remedies mend it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import shardwise
from shardwise.core.errors import AnswerIsNo, ConfigError, SchemaError
from shardwise.data.health import HotKey, Part, assess, count_overlaps, gini, straggler
from shardwise.data.health_view import render_health
from shardwise.data.partition import rows_of
from shardwise.data.partitioners.positions import Stretches
from shardwise.data.remedies import Ailment, merge, split

ROWS = 40_000
RNG = np.random.default_rng(3)


def parts(rows: list[int]) -> list[Part]:
    return [Part(label=f"p{number}", rows=count, size_bytes=count * 100) for number, count in enumerate(rows)]


def codes(rows: list[int], workers: int = 4, **more) -> list[str]:
    return [finding.code for finding in assess(parts(rows), workers=workers, **more).findings]


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30))
def test_gini_is_the_mean_difference(sizes: list[int]) -> None:
    differences = np.abs(np.subtract.outer(sizes, sizes)).sum()
    want = differences / (2 * len(sizes) * sum(sizes)) if sum(sizes) else 0.0
    assert gini(sizes) == pytest.approx(want, abs=1e-12)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30), st.integers(1, 8))
def test_the_straggler_is_at_least_an_even_share_and_the_largest_partition(rows: list[int], workers: int) -> None:
    found = straggler(rows, workers)
    assert found >= 1.0 - 1e-12
    if sum(rows):
        assert found >= max(rows) * workers / sum(rows) - 1e-12
    assert found <= workers + 1e-12


def test_even_partitions_are_fine() -> None:
    health = assess(parts([100_000] * 16), workers=4)
    assert (health.skew, health.gini, health.straggler, health.empty) == (1.0, 0.0, 1.0, 0)
    assert health.findings == ()
    assert "nothing is wrong" in list(render_health(health))[-1]


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([100_000, 0, 100_000], "empty"),
        ([900_000, *[100_000] * 7], "oversize"),
        ([900_000, *[100_000] * 7], "straggler"),
        ([100_000] * 7 + [10], "uneven"),
        ([10] * 100, "small"),
        ([160_000, *[90_000] * 9], "skew"),
    ],
)
def test_what_is_wrong_is_named(rows: list[int], code: str) -> None:
    assert code in codes(rows)


def test_overlaps_are_counted() -> None:
    ranges = [(1, 5), (5, 9), (10, 12), (2, 3), (None, None)]
    found = [Part(label=str(place), rows=1, minimum=low, maximum=high) for place, (low, high) in enumerate(ranges)]
    assert count_overlaps(found) == 2
    assert "overlap" in [finding.code for finding in assess(found, workers=1, key=["k"], ranged=True).findings]
    assert "overlap" not in [finding.code for finding in assess(found, workers=1, key=["k"]).findings]


def test_only_keys_that_fill_a_partition_are_hot() -> None:
    keys = [HotKey(key=(name,), rows=1, share=share) for name, share in (("a", 0.4), ("b", 0.2), ("c", 0.001))]
    assert [hot.name for hot in assess(parts([100] * 4), workers=1, key=["k"], hot_keys=keys).hot_keys] == ["a"]


# -- on a dataset with one key that has 40 % of the rows ---------------------------------------------------------------


def skewed(hot: object, others: list) -> pa.Table:
    keys = [hot if place < 0.4 * ROWS else others[place % len(others)] for place in range(ROWS)]
    order = RNG.permutation(ROWS)
    return pa.table({"id": np.arange(ROWS), "k": [keys[place] for place in order], "x": RNG.normal(size=ROWS)})


KEYS = {
    "text": ("hot", [f"key-{number}" for number in range(500)]),
    "number": (7, list(range(10, 900))),
    "null": (None, [f"key-{number}" for number in range(500)]),
}


@pytest.fixture(params=KEYS)
def dataset(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    pq.write_table(skewed(*KEYS[request.param]), "data.parquet")
    shardwise.partition("data.parquet", "out", "hash:k:16")
    return "null" if request.param == "null" else str(KEYS[request.param][0])


def test_the_hot_key_is_named_and_salting_evens_the_work(dataset: str) -> None:
    before = shardwise.health("out", workers=8)
    (finding,) = [each for each in before.findings if each.code == "hot_key"]
    assert dataset in finding.text
    assert "40.0%" in finding.text
    assert before.straggler > 3
    result = shardwise.partition("out", remedy="salt")
    after = shardwise.health("out", workers=8)
    assert after.straggler <= 1.3
    assert after.rows == ROWS
    assert not [each for each in after.findings if each.code == "hot_key"]
    assert after.hot_keys[0].spread
    assert any("several partitions" in note for note in result.notes)
    written = pa.concat_tables([pq.read_table(Path("out") / file.path) for file in result.manifest.files])
    assert sorted(written["id"].to_pylist()) == list(range(ROWS))


def test_isolating_gives_the_key_a_partition_of_its_own(dataset: str) -> None:
    result = shardwise.partition("out", "alone", remedy="isolate")
    (file,) = [file for file in result.manifest.files if file.label.endswith("alone")]
    keys = pq.read_table(f"alone/{file.path}")["k"].to_pylist()
    assert len(set(keys)) == 1
    assert len(keys) == 0.4 * ROWS
    assert shardwise.health("out").rows == ROWS


def test_appended_rows_of_a_salted_key_are_salted_too(dataset: str) -> None:
    shardwise.partition("out", remedy="salt")
    result = shardwise.partition("data.parquet", "out", append=True)
    assert shardwise.health("out", workers=8).straggler <= 1.3
    assert result.manifest.rows == 2 * ROWS


def test_splitting_and_merging_even_the_partitions(dataset: str) -> None:
    split_rows = [count for count in rows_of(shardwise.partition("out", "cut", remedy="split").manifest) if count]
    assert max(split_rows) <= 1.6 * ROWS / 16
    shardwise.partition("data.parquet", "many", "hash:k:3000")
    merged = rows_of(shardwise.partition("many", "few", remedy="merge").manifest)
    assert sum(merged) == ROWS
    assert len(merged) <= 32
    assert 0 not in merged


def test_a_remedy_without_an_ailment_says_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"k": np.arange(9000)}), "even.parquet")
    shardwise.partition("even.parquet", "even", "hash:k:4")
    for remedy in ("salt", "isolate", "split", "merge"):
        with pytest.raises(AnswerIsNo):
            shardwise.partition("even", remedy=remedy)
    with pytest.raises(ConfigError, match="by no range"):
        shardwise.partition("even", remedy="rerange")
    with pytest.raises(ConfigError, match="'merge'"):
        shardwise.partition("even", remedy="merg")
    with pytest.raises(SchemaError, match="'k'"):
        shardwise.partition("even", remedy="salt", key="kk")


def test_ranges_that_became_uneven_are_planned_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"k": np.arange(10_000)}), "old.parquet")
    pq.write_table(pa.table({"k": np.arange(10_000, 40_000)}), "new.parquet")
    shardwise.partition("old.parquet", "out", "range:k:8")
    shardwise.partition("new.parquet", "out", append=True)
    assert shardwise.health("out").skew > 4
    shardwise.partition("out", remedy="rerange")
    health = shardwise.health("out")
    assert health.skew <= 1.05
    assert health.overlaps == 0
    assert health.rows == 40_000


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=30).filter(lambda rows: sum(rows) > 0))
def test_merged_and_split_partitions_hold_the_same_rows(rows: list[int]) -> None:
    ailment = Ailment(partitioner=Stretches(np.cumsum(rows[:-1])), rows=rows)
    batch = pa.record_batch({"x": np.zeros(sum(rows))})
    even = ailment.even_rows
    for remedy in (merge, split):
        try:
            found = remedy(ailment)
        except AnswerIsNo:
            continue
        counts = np.bincount(found.assign(batch, 0), minlength=found.count)
        assert counts.sum() == sum(rows)
        if remedy is merge:
            assert counts.max() <= max(even, max(rows))
            assert found.count < len(rows)


def test_partitions_of_plain_files_are_judged_too(tmp_path: Path) -> None:
    for number, rows in enumerate((1000, 1000, 4000)):
        table = pa.table({"day": np.arange(rows) + 1000 * number, "c": ["x"] * rows})
        pq.write_table(table, tmp_path / f"{number}.parquet")
    health = shardwise.health(str(tmp_path), workers=2)
    assert (health.partitions, health.rows, health.largest_rows) == (3, 6000, 4000)
    keyed = shardwise.health(str(tmp_path), key="day")
    assert keyed.overlaps == 0
    assert shardwise.health(str(tmp_path), key="c").hot_keys[0].name == "x"
