"""What is told of a run's data beside leaks: how the files were read, what is not sealed, what is sampled."""

from collections.abc import Iterator, Mapping
from typing import Any

from shardwise.core.findings import Finding
from shardwise.core.target import Target
from shardwise.data.dataset import Dataset
from shardwise.data.profile import Profile
from shardwise.data.source import Losses, tell_losses

NO_TEST = Finding(
    code="no_test",
    severity="warning",
    text="No row is sealed as a test: the score is the one by which candidates were compared, and a little too good.",
    hint="Evaluate the package on rows of your own.",
)


def reading_findings(dataset: Dataset, losses: Losses, profile: Profile, target: Target) -> list[Finding]:
    """What could not be read, what happened to the columns, and the rows without a label."""
    columns: Mapping[str, Mapping[str, Any]] = dataset.report.get("columns", {})
    found = [
        Finding(code="read_as", severity="info", columns=(name,), text=f"Column {name!r}: {facts['note']}.")
        for name, facts in columns.items()
        if "note" in facts
    ]
    for name, facts in columns.items():
        if "missing" in facts:
            text = (
                f"Column {name!r} is not in {facts['missing']['files']} file(s), such as {facts['missing']['example']}."
            )
            found.append(Finding(code="missing_column", severity="warning", columns=(name,), text=text))
    found += _lost(dataset, losses)
    unlabelled = profile.columns[target.column].nulls
    if unlabelled:
        text = f"{unlabelled:,} of {profile.rows:,} rows have no {target.column!r} and are left out."
        found.append(Finding(code="unlabelled", severity="info", columns=(target.column,), text=text))
    return found


def _lost(dataset: Dataset, losses: Losses) -> Iterator[Finding]:
    """Files and partitions that could not be read, and rows of text that are none."""
    for text, evidence in tell_losses(dataset, losses):
        yield Finding(code="corrupt", severity="warning", text=text, evidence=evidence, hint="Restore what is lost.")
    if losses.skipped_rows:
        text = f"{losses.skipped_rows:,} bad rows of text files were skipped."
        yield Finding(code="bad_rows", severity="warning", text=text, evidence={"rows": losses.skipped_rows})
