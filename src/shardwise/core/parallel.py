"""How several workers may share one model: the words of `--parallel`."""

from dataclasses import dataclass
from typing import Self

from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest

SPLITS = ("tensor", "pipeline", "embedding")  # the model itself lies in parts
KINDS = ("auto", "none", "data", *SPLITS)


@dataclass(frozen=True, kw_only=True)
class Split:
    """A network in `parts`, each on a worker of its own; more workers than parts share the rows as well.

    tensor     each layer's matrix is cut by columns or rows
    pipeline   a worker has some layers, small batches follow each other through them
    embedding  the table of categories is cut by rows, the dense layers see a share of the rows
    """

    kind: str
    parts: int

    def on(self, workers: int) -> Self:
        """On another number of workers, after some were lost. Raises `ConfigError` where the parts find no place."""
        if self.kind == "embedding":
            return type(self)(kind=self.kind, parts=workers)
        Parallel(self.kind, self.parts).split(workers)
        return self

    def fitting(self, most: int) -> int:
        """On how many of at most so many workers the parts find a place; 1, with the whole, where there are too few.

        >>> [Split(kind="tensor", parts=2).fitting(most) for most in range(1, 6)]
        [1, 2, 2, 4, 4]
        """
        return most if self.kind == "embedding" else max(1, most - most % self.parts)


@dataclass(frozen=True)
class Parallel:
    """What was asked for; `parts` None: as many as there are workers."""

    kind: str
    parts: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises `ConfigError` for a kind that there is not, and for parts that cannot be.

        >>> Parallel.parse("tensor:2")
        Parallel(kind='tensor', parts=2)
        """
        kind, _, number = str(text).partition(":")
        if kind not in KINDS:
            raise ConfigError(f"parallel is {text!r}", hint=nearest(kind, KINDS))
        if not number:
            return cls(kind)
        if kind not in ("tensor", "pipeline") or not number.isdigit() or int(number) < 2:
            hint = "Give a number of parts from 2 on after tensor or pipeline: tensor:2."
            raise ConfigError(f"parallel is {text!r}", hint=hint)
        return cls(kind, int(number))

    @property
    def splits(self) -> bool:
        """Whether the model itself lies in parts."""
        return self.kind in SPLITS

    def split(self, workers: int) -> Split:
        """Of a kind that splits, on so many workers. Raises `ConfigError` where there are too few, or some are left."""
        parts = self.parts or workers
        if workers < 2 or workers % parts:
            raise ConfigError(
                f"--parallel {self.kind} in {max(2, parts)} parts was asked for, of {workers} worker(s): "
                f"each part needs a worker of its own, and all parts equally many",
                hint=f"Give --workers {max(2, parts)} or a multiple of it, fewer parts ({self.kind}:2), "
                f"or --parallel auto.",
            )
        return Split(kind=self.kind, parts=parts)
