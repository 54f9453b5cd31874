"""A finding: something about the data or the scores that a person should know, in plain words, with the evidence."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`code` names the kind of finding, `severity` is `info`, `warning` or `leak`; `evidence` holds the numbers."""

    code: str
    severity: str
    text: str
    columns: tuple[str, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)
    hint: str = ""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "columns": list(self.columns), "evidence": dict(self.evidence)}
