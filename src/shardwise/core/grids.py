"""What a person asks of a grid: which columns together are an image or a sequence, and how they lie in it.

    pixel*:28x28            an image: 784 columns pixel0, pixel1, ... row by row
    r*,g*,b*:32x32          one of three channels
    p*:32x32x3              the same from 3,072 columns, the channels of a pixel side by side
    *x*:28x28               columns 1x1, 1x2, ...: ordered by the first number, then by the next
    x_*,y_*,z_*:128         a sequence of 128 steps with three channels
    load_*:24               one of 24 steps with one channel

A `*` stands for a whole number. A pattern names as many columns as the shape has cells, ordered by their numbers.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from shardwise.core.errors import ConfigError

AXES = {"image": 2, "sequence": 1}
EXAMPLES = {"image": "pixel*:28x28", "sequence": "x_*,y_*,z_*:128"}
LEAST_SIDE = 4  # of an image that is found by the names of its columns
_NUMBER = re.compile(r"\d+")
_SIZES = re.compile(r"\d+(?:x\d+)*")


@dataclass(frozen=True, kw_only=True)
class GridSpec:
    """Columns as cells of a grid.

    kind      `image` (rows x columns x channels) or `sequence` (steps x channels)
    patterns  names with `*`: one for each channel, or one for all of them
    sizes     (height, width) or (steps,)
    channels  values in each place
    """

    kind: str
    patterns: tuple[str, ...]
    sizes: tuple[int, ...]
    channels: int

    def __str__(self) -> str:
        sizes = self.sizes if len(self.patterns) == self.channels else (*self.sizes, self.channels)
        return f"{','.join(self.patterns)}:{'x'.join(map(str, sizes))}"

    @classmethod
    def read(cls, kind: str, text: str) -> Self:
        """From a line; raises `ConfigError`.

        >>> GridSpec.read("sequence", "x_*,y_*:128")
        GridSpec(kind='sequence', patterns=('x_*', 'y_*'), sizes=(128,), channels=2)
        """
        names, colon, shape = text.rpartition(":")
        patterns = tuple(name.strip() for name in names.split(","))
        wrong = ConfigError(f"{text!r} is no {kind}", hint=f"Write it like {EXAMPLES[kind]!r}.")
        if not colon or not _SIZES.fullmatch(shape) or not all("*" in name for name in patterns):
            raise wrong
        sizes = tuple(map(int, shape.split("x")))
        axes = AXES[kind]
        if len(sizes) == axes + 1 and len(patterns) == 1:
            sizes, channels = sizes[:-1], sizes[-1]
        else:
            channels = len(patterns)
        if len(sizes) != axes or min((*sizes, channels)) < 1 or len(set(patterns)) < len(patterns):
            raise wrong
        return cls(kind=kind, patterns=patterns, sizes=sizes, channels=channels)

    def cells(self, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """The place of each column, in the order of the places of a channel.

        Raises `ConfigError` where a pattern does not name as many columns as there are cells.

        >>> GridSpec.read("image", "p*:2x1").cells(["id", "p10", "p9"])
        {'p9': (0, 0, 0), 'p10': (1, 0, 0)}
        """
        depth = self.channels // len(self.patterns)  # channels of a pattern
        count = math.prod(self.sizes) * depth
        found: dict[str, tuple[int, ...]] = {}
        for number, pattern in enumerate(self.patterns):
            columns = matching(pattern, names)
            if len(columns) != count:
                raise ConfigError(
                    f"{self.kind} {str(self)!r}: {len(columns)} columns are named {pattern!r}, {count} are needed",
                    hint="Name columns that end in numbers, one for each cell; `*` stands for the number.",
                )
            for place, column in enumerate(columns):
                cell, channel = divmod(place, depth)
                found[column] = (*_unravel(cell, self.sizes), number + channel)
        if len(found) < count * len(self.patterns):
            raise ConfigError(f"{self.kind} {str(self)!r}: a column is in two channels", hint="Name each once.")
        return found


def matching(pattern: str, names: Sequence[str]) -> list[str]:
    """Names that a pattern stands for, ordered by their numbers.

    >>> matching("x_*", ["x_10", "x_9", "x_y", "x_"])
    ['x_9', 'x_10']
    """
    expression = re.compile(r"(\d+)".join(map(re.escape, pattern.split("*"))))
    found = [(tuple(map(int, match.groups())), name) for name in names if (match := expression.fullmatch(name))]
    return [name for _, name in sorted(found)]


def find_image(names: Sequence[str]) -> GridSpec | None:
    """The image that columns with a common name and as many numbers as a square has cells are; None unless it is one.

    >>> str(find_image(["label", *(f"p{i}" for i in range(784))])), find_image(["p1", "p2"])
    ('p*:28x28', None)
    """
    patterns = dict.fromkeys(_NUMBER.sub("*", name) for name in names if _NUMBER.search(name))
    sides = {pattern: math.isqrt(len(matching(pattern, names))) for pattern in patterns}
    found = [
        (pattern, side) for pattern, side in sides.items()
        if side >= LEAST_SIDE and side * side == len(matching(pattern, names))
    ]  # fmt: skip
    if len(found) != 1:
        return None
    pattern, side = found[0]
    return GridSpec(kind="image", patterns=(pattern,), sizes=(side, side), channels=1)


def _unravel(cell: int, sizes: Sequence[int]) -> tuple[int, ...]:
    """
    >>> _unravel(5, (2, 3))
    (1, 2)
    """
    place: list[int] = []
    for size in reversed(sizes):
        cell, last = divmod(cell, size)
        place.insert(0, last)
    return tuple(place)
