"""What a gate says: checks with their evidence, in words, as JSON and as JUnit XML."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from xml.etree import ElementTree

import numpy as np


class Status(StrEnum):
    """`pass`, `fail` (the gate says no), `warn` (a person should look), `skip` (not asked for, or not possible)."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    WARN = "warn"
    SKIP = "skip"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question with its answer: `group` is quality, slices, calibration, behaviour, schema, cost or drift."""

    group: str
    name: str
    status: Status
    text: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"group": self.group, "name": self.name, "status": self.status.value, "text": self.text,
                "evidence": dict(self.evidence)}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """All checks; the answer is no when one fails, or, `strict`, when one warns."""

    champion: str
    challenger: str
    checks: tuple[Check, ...]
    rows: int = 0
    strict: bool = False

    @property
    def passed(self) -> bool:
        return not self.against

    @property
    def against(self) -> list[Check]:
        """The checks for which the answer is no."""
        stops = (Status.FAIL, Status.WARN) if self.strict else (Status.FAIL,)
        return [check for check in self.checks if check.status in stops]

    def words(self) -> str:
        """The verdict in a sentence."""
        if self.passed:
            doubts = sum(check.status is Status.WARN for check in self.checks)
            looked = f"; {doubts} thing(s) to look at" if doubts else ""
            return f"Yes: {self.challenger} may take the place of {self.champion}{looked}."
        reasons = "; ".join(check.text.rstrip(".") for check in self.against[:3])
        more = f"; and {len(self.against) - 3} more" if len(self.against) > 3 else ""
        return f"No: {self.challenger} may not take the place of {self.champion}: {reasons}{more}."

    def to_json(self) -> dict[str, Any]:
        return {"passed": self.passed, "verdict": self.words(), "champion": self.champion,
                "challenger": self.challenger, "rows": self.rows, "strict": self.strict,
                "checks": [_plain(check.to_json()) for check in self.checks]}  # fmt: skip

    def to_bytes(self) -> bytes:
        """`to_json` as text."""
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False).encode()

    def lines(self) -> list[str]:
        """For a terminal: a line for each check, the verdict last."""
        return [*(f"{check.status.value:<5}{check.group:<13}{check.text}" for check in self.checks), self.words()]

    def junit(self) -> bytes:
        """JUnit XML, as CI systems read it: a suite for each group, a case for each check."""
        root = ElementTree.Element("testsuites", name="shardwise gate")
        for group in dict.fromkeys(check.group for check in self.checks):
            _suite(root, group, [check for check in self.checks if check.group == group], self.against)
        ElementTree.indent(root)
        return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _suite(root: ElementTree.Element, group: str, checks: Sequence[Check], against: Sequence[Check]) -> None:
    failures = sum(check in against for check in checks)
    skipped = sum(check.status is Status.SKIP for check in checks)
    numbers = {"tests": len(checks), "failures": failures, "errors": 0, "skipped": skipped}
    suite = ElementTree.SubElement(root, "testsuite", {"name": group, **{key: str(n) for key, n in numbers.items()}})
    for check in checks:
        case = ElementTree.SubElement(suite, "testcase", classname=f"gate.{group}", name=_printable(check.name))
        text = _printable(check.text)
        if check in against:
            ElementTree.SubElement(case, "failure", message=text, type=check.status.value)
        elif check.status is Status.SKIP:
            ElementTree.SubElement(case, "skipped", message=text)
        else:
            ElementTree.SubElement(case, "system-out").text = f"{check.status.value}: {text}"


def _printable(text: str) -> str:
    """XML allows no control characters."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)


def _plain(value: Any) -> Any:
    """JSON values alone; what is not finite is None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
