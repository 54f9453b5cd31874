import errno
import pickle

import pyarrow as pa
import pytest

from shardwise.core.errors import (
    ConfigError,
    DataError,
    DiskFull,
    OverBudget,
    ShardwiseError,
    WorkerLost,
    context,
    foreign,
)


def test_an_error_is_one_paragraph_with_what_where_and_next() -> None:
    with pytest.raises(DataError) as caught, context(stage="profile", column="outer"), context(column="age"):
        raise DataError("a number was expected", hint="Cast it")
    assert str(caught.value) == "a number was expected (stage profile, column age). Cast it."


def test_bad_input_is_a_value_error_too() -> None:
    with pytest.raises(ValueError, match="no"):
        raise ConfigError("no")
    assert not issubclass(WorkerLost, ValueError)


def test_an_error_crosses_processes_with_its_context() -> None:
    error = DataError("no", hint="yes", column="x")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (DataError, str(error))


@pytest.mark.parametrize(
    ("error", "kind", "word"),
    [
        (OSError(errno.ENOSPC, "x", "f"), DiskFull, "space"),
        (PermissionError(errno.EACCES, "x", "f"), DataError, "permission"),
        (FileNotFoundError(errno.ENOENT, "x", "f"), DataError, "no such file"),
        (MemoryError(), OverBudget, "memory"),
        (pa.ArrowInvalid("bad\nmore"), DataError, "bad"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), DataError, "encoding"),
    ],
)
def test_foreign_errors_are_mapped(error: BaseException, kind: type[ShardwiseError], word: str) -> None:
    mapped = foreign(error, stage="data")
    assert type(mapped) is kind
    assert word in str(mapped)
    assert "stage data" in str(mapped)


def test_an_error_that_is_nobodys_passes_unchanged() -> None:
    with pytest.raises(ZeroDivisionError), context(stage="x"):
        _ = 1 / 0
