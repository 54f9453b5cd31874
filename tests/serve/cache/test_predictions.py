"""A predictor with a cache gives what the predictor gives: for rows of any types, versions, threads, refusals."""

import datetime
import threading

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.registry.parts import make_table

from shardwise.core.errors import ConfigError, SchemaError
from shardwise.core.target import Task
from shardwise.serve.cache.breaker import GuardedCache
from shardwise.serve.cache.keys import RowKeys, cells
from shardwise.serve.cache.local import LocalCache
from shardwise.serve.cache.opening import open_cache
from shardwise.serve.cache.predictions import CachedPredictor
from shardwise.serve.predictor import Predictor, to_array
from shardwise.testing.caches import ONE

ROOM = 100_000_000
INPUTS = pa.schema([("n", pa.int64()), ("f", pa.float64()), ("s", pa.string()), ("t", pa.timestamp("us")),
                    ("g", pa.float32()), ("d", pa.date32())])  # fmt: skip
VALUES = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(-3, 3), st.booleans(), st.text(max_size=3),
    st.floats(width=32, allow_nan=False), st.sampled_from([0.1, 1.0, 2.5, 2.0**53, -0.0]),
    st.datetimes(datetime.datetime(1990, 1, 1), datetime.datetime(2030, 1, 1)),
    st.dates(datetime.date(1990, 1, 1), datetime.date(2030, 1, 1)),
)  # fmt: skip


def cached(package, cache=None):
    return CachedPredictor(package, LocalCache(ROOM) if cache is None else cache)


# -- keys ------------------------------------------------------------------------------------------------------------


@given(st.fixed_dictionaries(dict.fromkeys(INPUTS.names, VALUES)))
@settings(max_examples=150)
def test_a_row_and_its_batch_have_one_key(row):
    keys = RowKeys(INPUTS, to_array)
    try:
        arrays = [to_array(row[field.name], field) for field in INPUTS]
    except SchemaError:
        return
    batch = pa.RecordBatch.from_arrays(arrays, names=INPUTS.names)
    assert keys.of_batch(batch) == [keys.of_row(row)]


@given(st.lists(st.one_of(st.none(), st.integers(-(2**53), 2**53)), min_size=1))
def test_numbers_have_one_form_whatever_their_width(numbers):
    forms = [cells(pa.array(numbers, kind), numeric=True) for kind in (pa.int64(), pa.float64())]
    assert forms[0] == forms[1]
    small = [None if number is None else number % 100 for number in numbers]
    kinds = (pa.int8(), pa.uint16(), pa.int32(), pa.uint64(), pa.float32(), pa.float64())
    assert len({tuple(cells(pa.array(small, kind), numeric=True)) for kind in kinds}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array([1]), pa.array(["1"])),
        (pa.array([1]), pa.array([True])),
        (pa.array([0], pa.timestamp("s")), pa.array([0], pa.timestamp("us"))),
        (pa.array([0], pa.timestamp("s")), pa.array([0], pa.timestamp("s", "UTC"))),
        (pa.array([None], pa.string()), pa.array([""])),
        (pa.array([2**53 + 1]), pa.array([float(2**53)])),
        (pa.array([1], pa.timestamp("ns")), pa.array([2], pa.timestamp("ns"))),
    ],
)
def test_what_differs_has_other_cells(one, other):
    assert cells(one, numeric=True) != cells(other, numeric=True)


def test_cells_do_not_run_into_each_other():
    keys = RowKeys(pa.schema([("a", pa.string()), ("b", pa.string())]), to_array)
    rows = [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc"), (None, "abc"), ("abc", None)]
    assert len({keys.of_row({"a": a, "b": b}) for a, b in rows}) == len(rows)


def test_strings_are_the_same_in_any_layout():
    plain = pa.array(["a", None, "b"])
    for kind in (pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        assert cells(plain.cast(kind), numeric=False) == cells(plain, numeric=False)


# -- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", Task)
def test_answers_are_those_of_the_predictor(predictors, task):
    predictor = predictors[task]
    remembering = cached(predictor.package)
    table = make_table(300, task, seed=3)
    table = pa.concat_tables([table, table.slice(50, 100)])
    expected = predictor.predict(table)
    for _ in range(2):
        np.testing.assert_allclose(remembering.predict(table), expected, rtol=1e-12, atol=1e-15)
    counters = remembering.cache.counters
    assert (counters.misses, counters.puts, counters.hits) == (300, 300, 500)  # 100 rows come twice in a table
    for row in table.slice(0, 5).to_pylist():
        ours, plain = remembering.predict_one(row), predictor.predict_one(row)
        assert list(ours) == list(plain)
        assert all(type(ours[name]) is type(plain[name]) for name in plain)
        if isinstance(plain["prediction"], str):
            assert ours.pop("prediction") == plain.pop("prediction")
        assert ours == pytest.approx(plain, rel=1e-12)
    assert remembering.answer(table).schema == predictor.answer(table).schema
    assert remembering.predict(table.slice(0, 0)).shape == predictor.predict(table.slice(0, 0)).shape


def test_an_answer_that_was_given_is_given_again_to_the_byte(predictors):
    predictor = cached(predictors[Task.MULTICLASS].package)
    table = make_table(200, Task.MULTICLASS, seed=4)
    first = predictor.predict(table)
    order = np.random.default_rng(0).permutation(200)
    np.testing.assert_array_equal(predictor.predict(table.take(pa.array(order))), first[order])


def test_rows_of_other_types_that_share_a_key_share_the_answer(predictor):
    """Column order, more columns, and the width of numbers make no difference to the key, nor to the answer."""
    table = make_table(100, seed=5)
    wide = table.set_column(table.schema.get_field_index("z"), "z", table["z"].cast(pa.float64()))
    turned = wide.select(list(reversed(wide.schema.names)))
    remembering = cached(predictor.package)
    first = remembering.predict(table)
    np.testing.assert_array_equal(remembering.predict(turned), first)
    assert remembering.cache.counters.hits == 100
    np.testing.assert_allclose(predictor.predict(turned), predictor.predict(table), rtol=0, atol=0)


def test_another_package_never_gets_an_old_answer(predictors):
    cache = LocalCache(ROOM)
    table = make_table(50, seed=6)
    for task in (Task.BINARY, Task.REGRESSION, Task.BINARY):
        expected = predictors[task].predict(table)
        np.testing.assert_allclose(cached(predictors[task].package, cache).predict(table), expected, rtol=1e-12)
    assert cache.counters.hits == 50


def test_damaged_and_foreign_values_are_computed_again(predictor):
    cache = LocalCache(ROOM)
    remembering = cached(predictor.package, cache)
    table = make_table(3, seed=7)
    first = remembering.predict(table)
    keys = remembering._keys.of_batch(table.combine_chunks().to_batches()[0])
    version = predictor.package.hash[:32]
    good = cache.get(version, keys)
    cache.put(version, {keys[0]: b"", keys[1]: good[keys[1]][:-1] + b"\x00", keys[2]: b"V1234" + bytes(4)})
    np.testing.assert_array_equal(remembering.predict(table), first)
    assert cache.counters.errors >= 2
    assert cache.get(version, keys) == good


def test_values_of_another_key_or_version_are_computed_again(predictors):
    cache, table = LocalCache(ROOM), make_table(4, seed=8)
    packages = [predictors[task].package for task in (Task.REGRESSION, Task.COUNT)]
    old, new = (cached(package, cache) for package in packages)
    first = [each.predict(table) for each in (old, new)]
    keys = new._keys.of_batch(table.combine_chunks().to_batches()[0])
    versions = [package.hash[:32] for package in packages]
    good = [cache.get(version, keys) for version in versions]
    mixed = {**good[0], keys[2]: good[1][keys[3]], keys[3]: good[1][keys[2]]}
    cache.put(versions[1], mixed)
    np.testing.assert_array_equal(new.predict(table), first[1])
    assert cache.counters.errors == 4
    assert cache.get(versions[1], keys) == good[1]


def test_of_several_rows_the_one_that_was_refused_before_is_named(predictor):
    good = make_table(2).to_pylist()
    bad = {**good[0], "x": "no number"}
    remembering = cached(predictor.package)
    with pytest.raises(SchemaError):
        remembering.predict_one(bad)
    for each in (predictor, remembering):
        with pytest.raises(SchemaError) as refused:
            each.scores_of_rows([*good, bad])
        assert refused.value.context["row"] == 2


def test_a_refused_row_is_remembered_for_a_while(predictor, monkeypatch):
    now = [0.0]
    remembering = cached(predictor.package, LocalCache(ROOM, clock=lambda: now[0]))
    row = {**make_table(1).to_pylist()[0], "x": "no number"}
    calls = []
    computed = Predictor.computed
    monkeypatch.setattr(Predictor, "computed", lambda self, rows: calls.append(1) or computed(self, rows))
    told = []
    for now[0] in (0.0, 1.0, 59.0, 61.0):
        with pytest.raises(SchemaError) as refused:
            remembering.predict_one(row)
        told.append((str(refused.value), refused.value.context))
    assert len(calls) == 2
    assert len({str(part) for part in told}) == 1
    with pytest.raises(SchemaError, match="lacks"):
        remembering.predict_one({"x": 1.0})


def test_a_dead_cache_is_computing(predictor):
    dead = open_cache(["redis://127.0.0.1:9", "memcached://127.0.0.1:9"], replicas=2)
    table = make_table(20)
    for _ in range(5):
        np.testing.assert_array_equal(cached(predictor.package, dead).predict(table), predictor.predict(table))
    dead.close()


def at_once(work, count, gate):
    """Run `work` in so many threads, and open the gate when they have had time to get there."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    threading.Timer(0.2, gate.set).start()
    for thread in threads:
        thread.join()


def test_of_many_that_miss_at_once_one_computes(predictor, monkeypatch):
    remembering = cached(predictor.package)
    row = make_table(1).to_pylist()[0]
    started, gate, calls, answers = threading.Barrier(8), threading.Event(), [], []
    computed = Predictor.computed

    def slow(self, rows):
        calls.append(1)
        assert gate.wait(30)
        return computed(self, rows)

    monkeypatch.setattr(Predictor, "computed", slow)

    def work():
        started.wait()
        answers.append(remembering.predict_one(row))

    at_once(work, 8, gate)
    assert len(calls) == 1
    assert len(answers) == 8
    assert all(answer == answers[0] for answer in answers)


def test_who_waited_for_one_that_failed_computes_itself(predictor, monkeypatch):
    remembering = cached(predictor.package)
    row = make_table(1).to_pylist()[0]
    first, gate, outcomes = [True], threading.Event(), []
    computed = Predictor.computed

    def fails_once(self, rows):
        if first:
            first.clear()
            assert gate.wait(30)
            raise MemoryError
        return computed(self, rows)

    monkeypatch.setattr(Predictor, "computed", fails_once)

    def work():
        try:
            outcomes.append(remembering.predict_one(row)["prediction"])
        except MemoryError:
            outcomes.append("failed")

    at_once(work, 4, gate)
    assert outcomes.count("failed") == 1
    assert len(outcomes) == 4
    assert not remembering._answers._flight._flying


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["memory", "memory:1MB", "memory:1MB:lfu"])
def test_caches_by_name(name):
    cache = open_cache([name], behind=True)
    cache.put(ONE, {bytes(16): b"a"})
    assert cache.get(ONE, [bytes(16)]) == {bytes(16): b"a"}
    cache.close()


def test_a_single_node_is_guarded():
    assert isinstance(open_cache(["memory"]), GuardedCache)


@pytest.mark.parametrize(
    ("names", "told"),
    [(["redsi://x"], "'redis'"), ([], "memory:256MB"), (["memory:1MB:lur"], "'lru'"), (["memory:much"], "much")],
)
def test_names_that_cannot_be(names, told):
    with pytest.raises(ConfigError, match=told):
        open_cache(names)
