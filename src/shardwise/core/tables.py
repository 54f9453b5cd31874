"""Long lists of dicts, column by column: a call for each key in the place of one for each cell.

A wide table has a state for each of its columns. Written dict by dict, ten thousand of them take seconds; as a table
they take as many buffers as a dict has entries. `{"$table": [rows, kinds, tables]}` has a table `{key: column}` for
each set of keys, and which of them each dict is of (0 where there is but one). A column of a table is one of

    {"$same": value}                        the same plain value throughout
    {"$floats": buffer}                     floats
    {"$arrays": [lengths, kinds, buffers]}  1-D arrays, those of a type one after the other
    {"$lists": [lengths, column]}           lists, their items one after the other
    {"$table": ...}                         dicts
    [value, ...]                            anything else
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import accumulate, chain, pairwise
from typing import Any

import numpy as np

LEAST_ROWS = 256  # below, a list stays a list
_CONSTANT = frozenset({str, int, bool, type(None)})

Write = Callable[[Any], Any]


def is_table(values: Sequence[Any]) -> bool:
    """Whether a list is written as a table."""
    return len(values) >= LEAST_ROWS and all(
        type(value) is dict and value and set(map(type, value)) == {str} for value in values
    )


def write_table(rows: Sequence[Mapping[str, Any]], write: Write) -> list[Any]:
    """What stands under `$table`; `write` writes what is not a column of its own kind, arrays among it."""
    kinds, groups = _grouped([tuple(sorted(row)) for row in rows])
    tables = [
        {key: _write_column([rows[place][key] for place in places], write) for key in keys}
        for keys, places in groups.items()
    ]
    return [len(rows), _numbers(kinds, write), tables]


def _grouped(names: Sequence[Hashable]) -> tuple[list[int], dict[Any, list[int]]]:
    """The number of each one's group, by first appearance, and the places of each group."""
    groups: dict[Any, list[int]] = {}
    for place, name in enumerate(names):
        groups.setdefault(name, []).append(place)
    numbers = {name: number for number, name in enumerate(groups)}
    return [numbers[name] for name in names], groups


def _write_column(values: list[Any], write: Write) -> Any:
    if not values:
        return []
    kinds = set(map(type, values))
    if any(issubclass(kind, np.generic) for kind in kinds):
        values = [value.item() if isinstance(value, np.generic) else value for value in values]
        kinds = set(map(type, values))
    if kinds == {float}:
        return {"$floats": write(np.array(values))}
    if len(kinds) == 1 and kinds <= _CONSTANT and values.count(values[0]) == len(values):
        return {"$same": values[0]}
    if kinds == {np.ndarray} and all(value.ndim == 1 for value in values):
        numbers, groups = _grouped([value.dtype.str for value in values])
        buffers = [write(np.concatenate([values[place] for place in places])) for places in groups.values()]
        return {"$arrays": [_numbers(map(len, values), write), _numbers(numbers, write), buffers]}
    if kinds <= {list, tuple}:
        return {"$lists": [_numbers(map(len, values), write), _write_column(list(chain.from_iterable(values)), write)]}
    return {"$table": write_table(values, write)} if is_table(values) else [write(value) for value in values]


def _numbers(numbers: Iterable[int], write: Write) -> Any:
    """Whole numbers; one where all are the same."""
    numbers = list(numbers)
    return numbers[0] if len(set(numbers)) == 1 else write(np.array(numbers, dtype=np.uint32))


def read_table(table: Sequence[Any], read: Write) -> list[dict[str, Any]]:
    """Inverse of `write_table`; `read` is the inverse of `write`."""
    rows, kinds, tables = table
    numbers = _read_numbers(kinds, rows, read)
    parts = []
    for number, columns in enumerate(tables):
        cells = [_read_column(column, numbers.count(number), read) for column in columns.values()]
        parts.append(iter([dict(zip(columns, values, strict=True)) for values in zip(*cells, strict=True)]))
    return [next(parts[number]) for number in numbers]


def _read_column(column: Any, rows: int, read: Write) -> list[Any]:
    if isinstance(column, list):
        return [read(value) for value in column]
    [(kind, content)] = column.items()
    if kind == "$table":
        return read_table(content, read)
    if kind == "$same":
        return [content] * rows
    if kind == "$floats":
        floats: list[Any] = read(content).tolist()
        return floats
    lengths = _read_numbers(content[0], rows, read)
    if kind == "$lists":
        return _pieces(_read_column(content[1], sum(lengths), read), lengths)
    numbers = _read_numbers(content[1], rows, read)
    parts = [
        iter(_pieces(read(buffer), [length for length, own in zip(lengths, numbers, strict=True) if own == number]))
        for number, buffer in enumerate(content[2])
    ]
    return [next(parts[number]) for number in numbers]


def _pieces(flat: Any, lengths: Iterable[int]) -> list[Any]:
    """One after the other, of so many items each."""
    return [flat[start:end] for start, end in pairwise(accumulate(lengths, initial=0))]


def _read_numbers(numbers: Any, rows: int, read: Write) -> list[int]:
    found: list[int] = [numbers] * rows if isinstance(numbers, int) else read(numbers).tolist()
    return found
