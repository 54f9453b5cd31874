"""What is kept of requests: bounded in bytes, without what nobody reads, and holding nothing else."""

import numpy as np
import pyarrow as pa

from shardwise.serve.online.kept import MOST_TEXT, Sketched, plain, size_of

SCORES = np.zeros((4, 2))


def columns_of(sketched):
    return [({name: list(column) for name, column in columns.items()}, scores) for columns, scores in sketched.pieces()]


def test_sizes_grow_with_texts():
    assert 1_000_000 < size_of([{"a": "x" * 1_000_000, "b": 1}]) < 1_002_000


def test_what_no_version_reads_is_left_out():
    known = frozenset("a")
    rows = [{"a": 1}, {"a": 2}]
    assert plain(rows, known) is rows
    assert plain([{"a": 1, "b": [1], "c": {}, "d": "e"}], known) == [{"a": 1, "d": "e"}]


def test_rows_are_kept_up_to_a_number_of_them_and_of_bytes():
    sketched = Sketched(["a"], 6, 10**6)
    for _ in range(2):
        sketched.add([{"a": number, "other": [1]} for number in range(4)], SCORES)
    assert (sketched.rows, sketched.is_full) == (6, True)
    ((columns, scores),) = columns_of(sketched)
    assert (columns, scores.shape) == ({"a": [0, 1, 2, 3, 0, 1]}, (6, 2))
    small = Sketched(["a"], 1000, 3 * MOST_TEXT)
    small.add([{"a": "x" * MOST_TEXT}] * 4, SCORES)
    assert (small.rows, small.is_full) == (3, True)


def test_long_texts_are_cut_and_stay_different():
    texts = ["short", "a" * 10**6, "a" * (10**6 - 1) + "b", None]
    sketched = Sketched(["t"], 100, 10**6)
    sketched.add([{"t": text} for text in texts], SCORES)
    sketched.add_table(pa.table({"t": texts}), SCORES)
    encoded = pa.array(texts).dictionary_encode()
    sketched.add_table(pa.table({"t": encoded}), SCORES)
    for columns, _ in sketched.pieces():
        found = columns["t"] if isinstance(columns["t"], list) else columns["t"].to_pylist()
        assert (found[0], found[3], len(set(found))) == ("short", None, 4)
        assert max(len(text) for text in found[:3]) < MOST_TEXT + 20


def test_a_table_is_cut_out_of_what_it_came_in():
    table = pa.table({"a": np.arange(10**6), "b": np.arange(10**6)})
    sketched = Sketched(["a"], 10, 10**6)
    sketched.add_table(table, np.zeros(10**6))
    ((columns, scores),) = sketched.pieces()
    assert columns["a"].to_pylist() == list(range(10))
    assert columns["a"].get_total_buffer_size() < 1_000
    assert scores.base is None
    few = Sketched(["a"], 10**6, 8_000)
    few.add_table(table, np.zeros(10**6))
    assert (few.rows, few.is_full) == (1_001, True)
