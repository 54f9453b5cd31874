"""The gate: may the challenger take the place of the champion?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from shardwise.core.events import Events
from shardwise.core.target import canonical_label
from shardwise.data.dataset import Dataset
from shardwise.data.profile import Profile
from shardwise.deploy.behaviour import behaviour_checks
from shardwise.deploy.costs import cost_checks
from shardwise.deploy.declared import BehaviourTest, read_tests
from shardwise.deploy.pairs import gather_pairs
from shardwise.deploy.quality import calibration_check, quality_check, slice_checks
from shardwise.deploy.settings import GateConfig
from shardwise.deploy.verdict import Check, Status, Verdict
from shardwise.monitor.drift import ColumnDrift, compare_profiles
from shardwise.serve.predictor import Predictor
from shardwise.stats.metrics import metric_to_compare_by

LARGE_PSI = 0.25
_SHOWN = 3


@dataclass(frozen=True)
class Named:
    """A model of a gate, and how it is called in the verdict."""

    name: str
    predictor: Predictor


def read_gate(content: Mapping[str, Any]) -> tuple[GateConfig, tuple[BehaviourTest, ...]]:
    """Config and behavioural tests of a YAML mapping: the keys of `GateConfig`, and `tests`."""
    given = dict(content)
    tests = read_tests(given.pop("tests")) if "tests" in given else ()
    return GateConfig.from_mapping(given), tests


def gate(
    challenger: Named, champion: Named, dataset: Dataset, config: GateConfig | None = None, *,
    tests: Sequence[BehaviourTest] = (), events: Events | None = None,
) -> Verdict:  # fmt: skip
    """Compare two models on new labelled data, in one pass and bounded memory.

    Models with different targets are told apart by the schema check alone. Raises `SchemaError`, `TargetError` and
    `DataError` for data that cannot be used, `ConfigError` for a metric that does not fit.
    """
    config = config or GateConfig()
    target = champion.predictor.target
    metric = metric_to_compare_by(config.metric, target.task)
    schema = list(schema_checks(champion.predictor, challenger.predictor, config))
    if not target.asks_the_same(challenger.predictor.target):
        return Verdict(champion=champion.name, challenger=challenger.name, checks=tuple(schema), strict=config.strict)
    pair = champion.predictor, challenger.predictor
    rows = gather_pairs(*pair, dataset, slices=config.slices, group=config.group, weight=config.weight, events=events)
    sample = rows.profile.sample()
    checks = (
        quality_check(rows, metric, config), *slice_checks(rows, metric, config), calibration_check(rows, config),
        *behaviour_checks(tests, challenger.predictor, sample), *schema,
        *(cost_checks(pair, _inputs(sample, pair), config) if config.costs else ()),
        *drift_checks(pair, rows.profile),
    )  # fmt: skip
    return Verdict(
        champion=champion.name, challenger=challenger.name, checks=checks, rows=rows.rows, strict=config.strict
    )


def _inputs(sample: pa.Table, pair: tuple[Predictor, Predictor]) -> pa.Table:
    wanted = {name for each in pair for name in each.columns}
    return sample.select([name for name in sample.column_names if name in wanted])


# -- schema ------------------------------------------------------------------------------------------------------------


def schema_checks(champion: Predictor, challenger: Predictor, config: GateConfig) -> Iterator[Check]:
    """Whoever asks the champion must be able to ask the challenger, and understand the answer."""
    yield _target_check(champion, challenger)
    before, after = ({field.name: str(field.type) for field in each.package.inputs} for each in (champion, challenger))
    added, removed = sorted(after.keys() - before.keys()), sorted(before.keys() - after.keys())
    fail = added and not config.new_columns
    text = "the challenger reads no column that the champion does not"
    if added:
        text = f"the challenger reads columns that the champion does not: {', '.join(added)}"
    yield Check(group="schema", name="columns", text=text, evidence={"added": added, "removed": removed},
                status=Status.FAIL if fail else Status.WARN if added else Status.PASS)  # fmt: skip
    changed = {
        name: [before[name], after[name]] for name in before.keys() & after.keys() if before[name] != after[name]
    }
    told = ", ".join(f"{name} {old} is now {new}" for name, (old, new) in sorted(changed.items()))
    text = f"types of columns: {told or 'unchanged'}"
    yield Check(group="schema", name="types", text=text, evidence={"changed": changed},
                status=Status.WARN if changed else Status.PASS)  # fmt: skip


def _target_check(champion: Predictor, challenger: Predictor) -> Check:
    before, after = champion.target, challenger.target
    differences = [f"{what} {old!r} and {new!r}" for what, old, new in (
        ("columns", before.column, after.column), ("tasks", before.task.value, after.task.value),
        ("classes", [*map(canonical_label, before.classes)], [*map(canonical_label, after.classes)]),
        ("quantiles", before.quantile, after.quantile)) if old != new]  # fmt: skip
    text, same = "the targets are the same", before.asks_the_same(after)
    if not same:
        text = f"the targets differ, champion and challenger: {'; '.join(differences) or 'types of the classes'}"
    return Check(group="schema", name="target", text=text, status=Status.PASS if same else Status.FAIL)


# -- drift -------------------------------------------------------------------------------------------------------------


def drift_checks(pair: tuple[Predictor, Predictor], current: Profile) -> Iterator[Check]:
    """Is the data that the challenger learned from like the champion's, and like the new data? Warnings alone."""
    before, after = (_training_profile(each) for each in pair)
    if after is None:
        yield Check(group="drift", name="training data", status=Status.SKIP,
                    text="the challenger has no profile of the data that it was trained on")  # fmt: skip
        return
    inputs = frozenset(pair[1].columns)
    yield _drift("new data", "from the challenger's training data to the new data", after, current, inputs)
    if before is not None:
        yield _drift("training data", "from the champion's training data to the challenger's", before, after, inputs)


def _training_profile(predictor: Predictor) -> Profile | None:
    state = predictor.package.profile_state()
    return Profile.from_state(state) if "columns" in state else None


def _drift(name: str, what: str, before: Profile, after: Profile, inputs: frozenset[str]) -> Check:
    found = [drift for drift in compare_profiles(before, after) if drift.column in inputs]
    large = sorted((drift for drift in found if (drift.psi or 0.0) > LARGE_PSI), key=lambda drift: -(drift.psi or 0.0))
    told = ", ".join(f"{drift.column} (PSI {drift.psi:.2f})" for drift in large[:_SHOWN])
    more = f" and {len(large) - _SHOWN} more" if len(large) > _SHOWN else ""
    text = f"{what}: {told}{more} drifted" if large else f"{what}: no column drifted (PSI up to {_largest(found):.2f})"
    return Check(group="drift", name=name, status=Status.WARN if large else Status.PASS, text=text,
                 evidence={drift.column: drift.psi for drift in found})  # fmt: skip


def _largest(found: Sequence[ColumnDrift]) -> float:
    return max((drift.psi for drift in found if drift.psi is not None), default=0.0)
