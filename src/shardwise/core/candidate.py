"""A candidate: a model family and its params."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What a trial evaluates; `params` are those that differ from the family's defaults."""

    family: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = ", ".join(f"{key}={value}" for key, value in self.params.items())
        return f"{self.family}({shown})"

    def to_json(self) -> dict[str, Any]:
        return {"family": self.family, "params": dict(self.params)}
