"""A window of live traffic as mergeable sketches of inputs and answers; and what it is compared with."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from shardwise.core.state import State
from shardwise.core.target import Target
from shardwise.data.profile import Profile
from shardwise.monitor.drift import ColumnDrift, compare_profiles
from shardwise.registry.answers import PREDICTION, answer_batch
from shardwise.registry.package import Package

ANSWERS = "answers"  # in the profile of a package: answers to rows that it was not trained on
_SAMPLE_ROWS = 1  # windows are not looked into row by row


def shown_answers(target: Target, answers: pa.RecordBatch) -> pa.RecordBatch:
    """The columns of answers that say something of their own: of two probabilities the second."""
    if len(target.classes) == 2:
        return answers.select([answers.schema.names[0], answers.schema.names[-1]])
    return answers


def answers_profile(target: Target, scores: np.ndarray) -> Profile:
    """Of answers with these scores, `(rows, classes)` or `(rows,)`, as a package keeps it."""
    answers = shown_answers(target, answer_batch(target, scores))
    profile = Profile(answers.schema, sample_rows=_SAMPLE_ROWS)
    profile.update(answers)
    return profile


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What windows are compared with: profiles of training, the answers' None where the package has none."""

    inputs: Profile
    answers: Profile | None

    @classmethod
    def of(cls, package: Package) -> "Reference | None":
        """From the profile in a package; None where it holds no columns."""
        state = package.profile_state()
        if "columns" not in state:
            return None
        inputs, answers = Profile.from_state(state), state.get(ANSWERS)
        inputs.columns = {name: inputs.columns[name] for name in package.inputs.names if name in inputs.columns}
        return cls(inputs=inputs, answers=None if answers is None else Profile.from_state(answers))

    def compared(self, window: "Window") -> Iterator[tuple[str, ColumnDrift]]:
        """The drift of each `column`, and of each column of the `answer`."""
        for drift in compare_profiles(self.inputs, window.inputs):
            yield "column", drift
        if self.answers is not None:
            for drift in compare_profiles(self.answers, window.answers):
                yield "answer", drift

    @property
    def spread(self) -> float:
        """Standard deviation of numbers that are predicted; 1 where that is not known."""
        column = None if self.answers is None else self.answers.columns.get(PREDICTION)
        known = column is not None and column.moments.count > 1 and column.std > 0
        return float(column.std) if known and column is not None else 1.0


@dataclass
class Window:
    """Sketches of some traffic. Windows of replicas, or of several times, are merged into one."""

    inputs: Profile
    answers: Profile

    @classmethod
    def empty(cls, inputs: pa.Schema, answers: pa.Schema) -> Self:
        """Without rows; columns as they come to `add`."""
        first, second = (Profile(schema, sample_rows=_SAMPLE_ROWS) for schema in (inputs, answers))
        return cls(first, second)

    @property
    def rows(self) -> int:
        return self.inputs.rows

    def add(self, inputs: pa.RecordBatch, answers: pa.RecordBatch) -> None:
        """Rows with the columns that the window was begun with, and their answers."""
        self.inputs.update(inputs)
        self.answers.update(answers)

    def merge(self, other: Self) -> None:
        self.inputs.merge(other.inputs)
        self.answers.merge(other.answers)

    def copy(self) -> Self:
        return type(self).from_state(self.state())

    def state(self) -> State:
        return {"inputs": self.inputs.state(), "answers": self.answers.state()}

    @classmethod
    def from_state(cls, state: State) -> Self:
        return cls(*(Profile.from_state(state[name]) for name in ("inputs", "answers")))
