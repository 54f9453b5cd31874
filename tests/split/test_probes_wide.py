import numpy as np
import pyarrow as pa
import pytest

from shardwise.core.target import Target, Task
from shardwise.data import blocks
from shardwise.split.leaks import find_leaks
from shardwise.split.probes import Labels, read_probe
from shardwise.split.probes_wide import powers, read_probes

TARGET = Target(column="y", task=Task.BINARY, classes=(0, 1))


def sample(rows: int = 700) -> tuple[pa.Table, np.ndarray]:
    """Floats, of which some tell the target, repeat, are missing or are whole; and a text."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, rows).astype(np.float64)
    X = rng.normal(size=(rows, 90))
    X[:, 0] += 3 * y
    X[:, 1] = np.round(X[:, 1], 1)
    X[5, 2], X[6, 3], X[:, 4] = np.nan, np.inf, 1.0
    X[:, 5] = rng.permutation(rows)
    X[:, 6] = y
    table = pa.table({f"x{number}": column for number, column in enumerate(X.T)} | {"text": ["a", "b"] * (rows // 2)})
    return table.append_column("y", pa.array(y.astype(np.int64))), y


@pytest.mark.parametrize("rows", [200, 700, 6_000])  # the last one with more bins than are looked at in pairs
def test_many_columns_are_probed_as_one_by_one(rows: int) -> None:
    table, y = sample(rows)
    labels = Labels.of(TARGET, y, 1)
    probes = read_probes(table, {"y", "x9"})
    alone = [read_probe(name, table.column(name)) for name in table.column_names if name not in {"y", "x9"}]
    assert [(each.name, each.distinct, each.is_whole, each.is_category) for each in probes] == [
        (each.name, each.distinct, each.is_whole, each.is_category) for each in alone if each is not None
    ]
    assert all(np.array_equal(a.values, b.values, equal_nan=True) for a, b in zip(probes, alone, strict=True) if b)
    assert powers(labels, probes) == {each.name: labels.power_of(each) for each in probes}


def test_the_same_leaks_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    table, _ = sample()
    wide = find_leaks(table, TARGET)
    assert any(finding.columns == ("x6",) and finding.severity == "leak" for finding in wide)
    monkeypatch.setattr(blocks, "LEAST_COLUMNS", 1_000)
    assert [finding.to_json() for finding in find_leaks(table, TARGET)] == [finding.to_json() for finding in wide]
