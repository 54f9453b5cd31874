"""The error tree. Everything that shardwise raises on purpose is one of these.

    ShardwiseError                      exit code
      BadInput (also a ValueError)      2   what was given cannot be used
        ConfigError                         an option, a key of the config, a size or a duration
        DataError                           files, their schema or their content
          SchemaError                       columns missing, of a wrong type, files that disagree
        TargetError                         the target column cannot be learned
        PackageError                        a package is damaged, or of an unknown format version
      AnswerIsNo                        1   the question was answered, and the answer is no (--strict, gate)
      CeilingReached                    3   a ceiling was reached with nothing to show
        DeadlineReached                     time
        OverBudget                          memory (also an expected outcome inside a run)
        DiskFull                            disk
      TaskFailed                        4   a task failed on a worker for a reason of its own
        WorkerLost                          the worker died
          MemberLost                        a member of a gang died, or is silent
      Interrupted                       130 the user asked to stop

Expected outcomes that are no failures: `Pruned` (a trial was stopped early) and `RejectColumn` (a transformer does not
apply to a column).

An error has a `message` (what was given and what is allowed), a `hint` (the next step) and a `context` (stage,
partition, column, path, row), which is attached in one place: the `context` manager below, as the error passes by.
Errors of libraries are mapped in one place too: `foreign`.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa


class ShardwiseError(Exception):
    """Base of all errors raised on purpose; `str()` gives one paragraph."""

    exit_code = 4

    def __init__(self, message: str, *, hint: str = "", **context: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.context: dict[str, object] = dict(context)

    def __str__(self) -> str:
        where = ", ".join(f"{key} {value}" for key, value in self.context.items())
        parts = [f"{self.message} ({where})" if where else self.message, self.hint]
        return " ".join(part if part.endswith((".", "?", "!")) else f"{part}." for part in parts if part)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.hint, self.context)


def _rebuild(kind: type[ShardwiseError], message: str, hint: str, context: dict[str, object]) -> ShardwiseError:
    return kind(message, hint=hint, **context)


class BadInput(ShardwiseError, ValueError):
    exit_code = 2


class ConfigError(BadInput):
    pass


class DataError(BadInput):
    pass


class SchemaError(DataError):
    pass


class TargetError(BadInput):
    pass


class PackageError(BadInput):
    pass


class AnswerIsNo(ShardwiseError):
    exit_code = 1


class CeilingReached(ShardwiseError):
    exit_code = 3


class DeadlineReached(CeilingReached):
    pass


class OverBudget(CeilingReached):
    pass


class DiskFull(CeilingReached):
    pass


class TaskFailed(ShardwiseError):
    pass


class WorkerLost(TaskFailed):
    pass


class MemberLost(WorkerLost):
    pass


class Interrupted(ShardwiseError):
    exit_code = 130


class Pruned(Exception):  # an outcome, not an error
    """A trial was stopped early; what it learned so far counts."""


class RejectColumn(Exception):  # an outcome, not an error
    """A transformer does not apply to this column; the reason is the message."""


@contextmanager
def context(**details: object) -> Iterator[None]:
    """Attach `details` (stage=, partition=, column=, path= ...) to an error that passes by; map foreign errors.

    Details that are already known are kept: the innermost place knows best.

    >>> with context(column="age"):
    ...     raise DataError("a number was expected, 'x' was found")
    Traceback (most recent call last):
        ...
    shardwise.core.errors.DataError: a number was expected, 'x' was found (column age).
    """
    try:
        yield
    except ShardwiseError as error:
        error.context = {**details, **error.context}
        raise
    except (OSError, pa.ArrowException, UnicodeDecodeError, MemoryError) as error:
        raise foreign(error, **details) from error


_BY_ERRNO: dict[int, tuple[type[ShardwiseError], str, str]] = {
    errno.ENOSPC: (DiskFull, "no space is left on the disk", "Free some space or choose another folder."),
    errno.EDQUOT: (DiskFull, "the disk quota is used up", "Free some space or choose another folder."),
    errno.EACCES: (DataError, "permission denied", "Check who may read or write there."),
    errno.EPERM: (DataError, "permission denied", "Check who may read or write there."),
    errno.EROFS: (DataError, "the file system is read-only", "Choose a folder that can be written."),
    errno.ENOENT: (DataError, "no such file or folder", "Check the path; quote globs so that the shell leaves them."),
    errno.EISDIR: (DataError, "a folder was given where a file is needed", ""),
    errno.ENOTDIR: (DataError, "a file was given where a folder is needed", ""),
}


def foreign(error: BaseException, **details: object) -> ShardwiseError:
    """Map an error of the operating system or of a library to ours; the only place where that is done."""
    if isinstance(error, OSError) and error.errno in _BY_ERRNO:
        kind, message, hint = _BY_ERRNO[error.errno]
        details.setdefault("path", error.filename)
        return kind(message, hint=hint, **{key: value for key, value in details.items() if value is not None})
    if isinstance(error, MemoryError | pa.ArrowMemoryError):
        return OverBudget("out of memory", hint="Give more --memory, or fewer --workers.", **details)
    if isinstance(error, UnicodeDecodeError):
        return DataError(f"the text is not {error.encoding}", hint="Give its encoding with --encoding.", **details)
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return DataError(first_line, hint="", **details)
