"""From a dataset to model-ready rows on disk: profile, target, split, leak tests, recipe, encode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shardwise.core.errors import AnswerIsNo, SchemaError, TargetError
from shardwise.core.events import Advanced
from shardwise.core.findings import Finding
from shardwise.core.names import nearest, nearest_column
from shardwise.core.state import load_state
from shardwise.core.target import Target, canonical_label
from shardwise.data.dataset import Dataset, TypeConflict
from shardwise.data.joined import joins_of
from shardwise.data.profile import Profile
from shardwise.data.rows import DiskRows
from shardwise.data.source import Losses, estimate_rows
from shardwise.features.aggregate_plan import check_columns as check_aggregate
from shardwise.features.columns import text_kind
from shardwise.features.recipe import Recipe, RecipeConfig
from shardwise.split.base import TEST, Splitter
from shardwise.split.grouped import GroupSplitter
from shardwise.split.leaks import find_leaks
from shardwise.split.plan import check_folds, check_training, choose_splitter, replanned
from shardwise.stats.metrics import metric_to_compare_by
from shardwise.train.aggregates import aggregate_findings
from shardwise.train.encode import Encoding, encode
from shardwise.train.engineering import engineer_features
from shardwise.train.few import check_classes, spare_classes, split_few
from shardwise.train.findings import NO_TEST, reading_findings
from shardwise.train.grids import asked_grids
from shardwise.train.inherit import Encoded
from shardwise.train.keeping import Judge, Seen, Wanted, keep
from shardwise.train.ladder import check_floor
from shardwise.train.passes import FLOATS, LabelledPass, ProfilePass, SummariesPass, keep_state
from shardwise.train.probing import MOST_TEST_ROWS, probe
from shardwise.train.run import Run
from shardwise.train.selection import select_features
from shardwise.train.splitting import MANY_ROWS, goes_by_content, is_uneven, split_plan
from shardwise.train.targets import infer_target
from shardwise.train.units import run_pass, split_key
from shardwise.train.weights import check_weights

COUNTED_ROWS = 1_000_000  # up to which the classes of each fold are counted
MAX_WIDENED = 1000  # columns whose type turns out wider than the samples said, before we give up
BY_POSITION = "folds go by the rows' position, not by their content."


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What trials need, and what the package and the report tell."""

    dataset: Dataset
    splitter: Splitter
    target: Target
    profile: Profile  # of all rows
    opened: Profile  # of the rows outside the test fold
    fold_rows: Mapping[int, int]
    findings: tuple[Finding, ...]
    recipe: Recipe
    rows: Path  # folder of the encoded rows, as they are predicted
    fold_rows_folders: tuple[Path, ...]  # for each evaluation the folder of its rows; often all are `rows`
    class_weight: Mapping[str, float] | None

    @property
    def train_rows(self) -> int:
        return sum(rows for fold, rows in self.fold_rows.items() if fold != TEST)


@dataclass(frozen=True, kw_only=True)
class _Profiled:
    dataset: Dataset
    splitter: Splitter
    profile: Profile
    opened: Profile
    sealed: pa.Table  # some rows of the test
    fold_rows: dict[int, int]
    folds: Mapping[int, str]  # partition -> blob of its rows' fold numbers
    losses: Losses
    seen: Seen | None = None  # by the run's parent, if it goes on from one


def prepare(run: Run, dataset: Dataset, judge: Judge = lambda _known, _fresh: ()) -> Prepared:
    """All stages before the trials; `judge` says what has changed since the run's parent, if there is one.

    Raises `AnswerIsNo` when --strict is asked for and a leak is found.
    """
    check_columns(run, dataset)
    check_floor(run.memory_bytes, len(dataset.schema))
    profiled = _profile_until_types_hold(run, dataset)
    config = run.config
    check_training(profiled.fold_rows, profiled.splitter)
    check_weights(config.weight, profiled.profile, profiled.opened)
    target = infer_target(
        config.target, profiled.profile.columns[config.target], task=config.task, quantile=config.quantile
    )
    check_classes(target, profiled.profile, profiled.opened)
    metric_to_compare_by(config.metric, target.task)  # refused before the longer passes
    findings = _findings(run, profiled, target)
    weights = class_weights(target, profiled.opened, config.class_weight)
    wanted = Wanted(splitter=profiled.splitter, target=target, weights=weights)
    keeping = keep(run, profiled.seen, wanted, judge)
    recipe, labelled, about = _features(run, profiled, target, weights, keeping.kept)
    probed = probe(
        run, target, profiled.splitter, opened=profiled.opened.sample(), sealed=profiled.sealed,
        plan=partial(_plan_recipe, run, profiled, target), ignore=_no_features(run),
    )  # fmt: skip
    findings = (*findings, *tell(run, [*keeping.findings, *about, *probed]))
    encoding = Encoding(
        dataset=profiled.dataset, splitter=profiled.splitter, profile=profiled.opened, recipe=recipe,
        fold_rows=profiled.fold_rows, labelled=labelled, kept=keeping.kept,
    )  # fmt: skip
    rows, folders = encode(run, encoding)
    findings = (*findings, *tell(run, _absent_classes(rows, recipe, target, profiled)))
    return Prepared(
        dataset=profiled.dataset, splitter=profiled.splitter, target=target, profile=profiled.profile,
        opened=profiled.opened, fold_rows=profiled.fold_rows, findings=findings, recipe=recipe, rows=rows,
        fold_rows_folders=folders, class_weight=weights,
    )  # fmt: skip


def _features(
    run: Run, profiled: _Profiled, target: Target, weights: Mapping[str, float] | None, kept: Encoded | None
) -> tuple[Recipe, LabelledPass, list[Finding]]:
    """The recipe, what passes need that use it, and what is told of it; with `kept` all that is the parent's."""
    if kept is not None:
        labelled = LabelledPass(
            dataset=profiled.dataset, folds=profiled.folds, target=target, blobs=run.blobs, weight=run.config.weight,
            class_weight=weights, recipe=kept.recipe,
        )  # fmt: skip
        return labelled.loaded_recipe, labelled, []
    sample = profiled.opened.sample()
    recipe, labelled = _fit_recipe(run, profiled, target, weights)
    found = aggregate_findings(recipe, sample, target, profiled.splitter)
    recipe, dropped = select_features(run, recipe, sample, target, profiled.splitter)
    recipe, added = engineer_features(run, recipe, sample, target, profiled.splitter)
    if dropped or added:
        labelled = replace(labelled, recipe=keep_state(run.blobs, recipe.state()))
    return recipe, labelled, [*found, *dropped, *added]


def check_columns(run: Run, dataset: Dataset) -> None:
    """Every column that the config names must be there; raises `TargetError` or `SchemaError` with the nearest name."""
    names, config = dataset.schema.names, run.config
    if config.target not in names:
        raise TargetError(f"the data has no column {config.target!r}", hint=nearest_column(config.target, names))
    left_out = dataset.reader.options.drop
    for name in (*_services(run), config.time_column, *config.drop, *config.kinds):
        if name is not None and name not in names and name not in left_out:
            raise SchemaError(f"the data has no column {name!r}", hint=nearest_column(name, names))
    for spec in config.aggregates:
        check_aggregate(spec, names, config.target)
    if config.target in (*_services(run), config.time_column, *config.drop):
        raise TargetError(f"column {config.target!r} is the target and something else at the same time")


def _profile_until_types_hold(run: Run, dataset: Dataset) -> _Profiled:
    """Profile; when a text file holds a value that its column's type does not fit, widen the type and start again."""
    for _ in range(MAX_WIDENED):
        try:
            return _profile(run, dataset)
        except TypeConflict as conflict:
            run.say(f"{conflict} The column is read with a wider type.", level="warning")
            dataset = dataset.widened(conflict.column)
    raise SchemaError("the types of the columns cannot be settled", hint="Fix them with `types` in a --config file.")


def _profile(run: Run, dataset: Dataset) -> _Profiled:
    rows = estimate_rows(dataset)
    kept = None if run.parent is None else run.parent.splitter(rows)
    if kept is not None and set(kept.columns) <= set(dataset.schema.names):
        return _profile_split(run, dataset, kept)
    planned = split_plan(run, dataset, rows)
    splitter = choose_splitter(planned)
    profiled = _profile_split(run, dataset, splitter)
    plan = replanned(planned, profiled.profile.rows)
    splitter = choose_splitter(plan)
    if (few := split_few(splitter, dataset, profiled.profile, run.config)) is not None:
        if not few.columns:
            run.say(f"A fold would be empty: {BY_POSITION}", level="warning")
        return _profile_split(run, dataset, few)
    if plan is not planned:
        run.say(f"{profiled.profile.rows:,} rows were counted where {planned.rows:,} were expected: split anew.")
        profiled = _profile_split(run, dataset, splitter)
    if goes_by_content(run.config) and is_uneven(profiled.fold_rows, splitter, tests=run.config.test_share != 0):
        what = "Many rows are the same" if profiled.profile.rows >= MANY_ROWS else "A fold would be empty"
        run.say(f"{what}: {BY_POSITION}", level="warning")
        splitter = choose_splitter(replace(plan, copies=1.0))
        profiled = _profile_split(run, dataset, splitter)
    if (spared := spare_classes(splitter, dataset, profiled.profile, run.config)) is not None:
        run.say("A class of few rows would be left out of training or validation: folds go by another seed.")
        return _profile_split(run, dataset, spared)
    return profiled


def _profile_split(run: Run, dataset: Dataset, splitter: Splitter) -> _Profiled:
    work = ProfilePass(dataset=dataset, splitter=splitter, blobs=run.blobs)
    opened, sealed = Profile(dataset.schema), Profile(dataset.schema)
    fold_rows: dict[int, int] = {}
    folds: dict[int, str] = {}
    losses = Losses()
    seen = None if run.parent is None else Seen(Profile(dataset.schema), Profile(dataset.schema))
    with run.stage("profile", len(dataset.partitions)) as stage:
        for partition, record in run_pass(run, work, dataset, "profile", splitter.to_json()):
            folds[partition.index] = record["folds_blob"]
            losses.skipped_rows += record.get("skipped_rows", 0)
            if "corrupt" in record:
                losses.add(partition, 0, record["corrupt"])
            own, own_sealed = work.profiles(record)
            if seen is not None:
                seen.add(own, record["rows"], known=partition.index in run.taken_over.get("profile", ()))
            if len(dataset.partitions) == 1:
                opened, sealed = own, own_sealed
            else:
                opened.merge(own)
                sealed.merge(own_sealed)
            for fold, rows in record["folds"].items():
                fold_rows[int(fold)] = fold_rows.get(int(fold), 0) + rows
            stage["rows"] += record["rows"]
            run.events.emit(Advanced(stage="profile", rows=record["rows"]))
        whole = opened.copy() if len(dataset.partitions) == 1 else Profile.from_state(opened.state())
        whole.merge(sealed)
    tests = sealed.sample()
    return _Profiled(
        dataset=dataset, splitter=splitter, profile=whole, opened=opened,
        sealed=tests.take(np.arange(min(MOST_TEST_ROWS, tests.num_rows))), fold_rows=fold_rows, folds=folds,
        losses=losses, seen=seen,
    )  # fmt: skip


def _findings(run: Run, profiled: _Profiled, target: Target) -> tuple[Finding, ...]:
    folds = dict.fromkeys([number for fold in profiled.splitter.folds() for number in fold.valid], 0)
    with run.stage("leaks"):
        found = [
            *reading_findings(profiled.dataset, profiled.losses, profiled.profile, target),
            *find_leaks(
                profiled.opened.sample(), target, time_column=run.config.time_column, group=run.config.group,
                splitter=profiled.splitter, profile=profiled.opened, ignore=_no_features(run),
            ),
            *check_folds(folds | profiled.fold_rows, expected=_shares_of_groups(profiled.splitter)),
            *([] if profiled.fold_rows.get(TEST) else [NO_TEST]),
        ]  # fmt: skip
    return tell(run, found)


def _shares_of_groups(splitter: Splitter) -> Mapping[int, float] | None:
    """What each fold should have where groups are held together, which may be of very different sizes."""
    return splitter.expected() if isinstance(splitter, GroupSplitter) else None


def _absent_classes(rows: Path, recipe: Recipe, target: Target, profiled: _Profiled) -> list[Finding]:
    """Folds that are scored and lack a class. Not looked for in many rows, whose labels would be read for it alone."""
    if not target.task.is_classification or profiled.profile.rows > COUNTED_ROWS:
        return []
    scored = sorted({TEST, *(number for fold in profiled.splitter.folds() for number in fold.valid)})
    labels = {fold: DiskRows(rows / FLOATS, recipe.features, (fold,)).target() for fold in scored}
    counts = {fold: np.bincount(y.astype(np.int64), minlength=len(target.classes)) for fold, y in labels.items()}
    return check_folds({fold: count for fold, count in counts.items() if count.sum()}, target=target)


def tell(run: Run, found: Sequence[Finding]) -> tuple[Finding, ...]:
    """Say and journal findings; raises `AnswerIsNo` when --strict is asked for and one is a leak."""
    for finding in found:
        run.say(f"{finding.text} {finding.hint}".strip(), level="info" if finding.severity == "info" else "warning")
    if found:
        run.note("findings", findings=[finding.to_json() for finding in found])
    leaks = [finding for finding in found if finding.severity == "leak"]
    if leaks and run.config.strict:
        columns = sorted({column for finding in leaks for column in finding.columns})
        hint = f"Leave out with --drop {','.join(columns)}, or run without --strict." if columns else ""
        raise AnswerIsNo(f"--strict: {len(leaks)} leak(s): " + " ".join(f.text for f in leaks), hint=hint)
    return tuple(found)


def _services(run: Run) -> tuple[str, ...]:
    """Columns that serve the run and are no features."""
    config = run.config
    return tuple(name for name in (config.weight, config.group, config.fold_column, *config.key) if name)


def _no_features(run: Run) -> tuple[str, ...]:
    """Columns that no model sees."""
    config = run.config
    return (*config.drop, *_services(run), *(name for name, kind in config.kinds.items() if kind == "ignore"))


def _fit_recipe(
    run: Run, profiled: _Profiled, target: Target, weights: Mapping[str, float] | None
) -> tuple[Recipe, LabelledPass]:
    config, splitter, dataset = run.config, profiled.splitter, profiled.dataset
    folds = sorted({f for fold in splitter.folds() for f in (*fold.train, *fold.valid)})
    with run.stage("recipe", len(dataset.partitions)) as stage:
        visible = {f: splitter.visible(f) for f in (*folds, TEST)}
        recipe = _plan_recipe(run, profiled, target, profiled.opened, visible)
        work = SummariesPass(
            dataset=dataset, folds=profiled.folds, target=target, blobs=run.blobs, weight=config.weight,
            class_weight=weights, recipe=keep_state(run.blobs, recipe.state()),
        )  # fmt: skip
        merged = recipe.summaries()
        if merged:
            for _, record in run_pass(run, work, dataset, "summaries", work.recipe, split_key(splitter, target)):
                state = _state(run, record)
                for name, summary in merged.items():
                    summary.merge(type(summary).from_state(state[name]))
                run.events.emit(Advanced(stage="recipe"))
                stage["rows"] = profiled.profile.rows
        recipe.fit(merged)
    return recipe, replace(work, recipe=keep_state(run.blobs, recipe.state()))


def _plan_recipe(
    run: Run, profiled: _Profiled, target: Target, profile: Profile, visible: Mapping[int, Sequence[int]]
) -> Recipe:
    config, dataset = run.config, profiled.dataset
    return Recipe.plan(
        dataset.schema, profile, target=target, exclude={target.column, *config.drop, *_services(run)},
        config=RecipeConfig(
            kinds={**_kinds_of_text(profiled, profile), **config.kinds}, date_formats=dataset.date_formats,
            aggregates=config.aggregates, grids=asked_grids(config, dataset.schema.names),
            own_fold=not (config.time_column or config.group or config.fold_column or config.key),
        ),
        visible=visible, joins=joins_of(dataset),
    )  # fmt: skip


def _kinds_of_text(profiled: _Profiled, profile: Profile) -> dict[str, str]:
    """What columns of text are that a recipe planned from `profile` would take for something else.

    Where the test holds something else than numbers or dates, all rows decide; of few rows, those outside the test: in
    a sample a category may look like an identifier.
    """
    kinds: dict[str, str] = {}
    for name, facts in profiled.opened.columns.items():
        whole = profiled.profile.columns[name]
        read_as = (facts.is_numeric_text, facts.time_format)
        if any(read_as) and read_as != (whole.is_numeric_text, whole.time_format):
            kinds[name] = text_kind(name, whole)
        elif facts.group == "string" and profile is not profiled.opened:
            kinds[name] = text_kind(name, facts)
    return kinds


def _state(run: Run, record: Mapping[str, Any]) -> dict[str, Any]:
    return load_state(run.ledger.blobs.read(record["blob"]))


def class_weights(
    target: Target, profile: Profile, asked: str | Mapping[str, float] | None
) -> Mapping[str, float] | None:
    """Weight of each class by its label as text; `balanced` as in scikit-learn: rows / (classes * its rows)."""
    if asked is None:
        return None
    if not target.task.is_classification:
        raise TargetError(f"class weights do not fit the {target.task} task", hint="Use a weight column.")
    labels = [str(label) for label in target.classes]
    if not isinstance(asked, str):
        given = {str(label): weight for label, weight in asked.items()}  # keys are no strings in YAML and in Python
        unknown = sorted(set(given) - set(labels))
        if unknown:
            raise TargetError(f"there is no class {unknown[0]!r}", hint=nearest(unknown[0], labels))
        return {label: float(given.get(label, 1.0)) for label in labels}
    codes: Sequence[int] = [count for _, count in sorted(_class_counts(target, profile).items())]
    total = float(np.sum(codes))
    each = zip(labels, codes, strict=True)  # of a class that is not there no weight is known
    return {label: total / (len(labels) * count) if count else 1.0 for label, count in each}


def _class_counts(target: Target, profile: Profile) -> dict[int, int]:
    counts = dict(profile.columns[target.column].top)
    return {i: counts.get(canonical_label(label), 0) for i, label in enumerate(target.classes)}
