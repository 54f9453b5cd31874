"""Gradient-boosted trees: LightGBM, trained from binned rows, with early stopping.

The same rows, params and seed give the same bytes, whatever the number of threads. LightGBM sums histograms row-wise
(about a fifth faster, but the last digits depend on the number of threads) or column-wise (one thread sums one
feature): small data are learned row-wise on one thread, large data column-wise on all. LightGBM's section of run-time
parameters is left out of the saved text. Regression targets are
standardised in float64 before LightGBM sees them as float32, so that huge or tiny numbers lose nothing.
"""

import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import lightgbm as lgb
import numpy as np

from shardwise.core.errors import ConfigError, TargetError, context
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.target import Target, Task
from shardwise.data.rows import BinnedRows
from shardwise.data.rows_window import has_teacher
from shardwise.models import monotone
from shardwise.models.base import FitRun, Traits
from shardwise.models.baseline import best_constant, repeated
from shardwise.models.boosting import Boosting, Curve, Joint, Look, Metrics, Plateau, Stop, alone
from shardwise.models.checks import check_counts, check_matrix, labels, not_fitted
from shardwise.models.guard import Beginning, Guard
from shardwise.models.links import LINKS, constant_terms, link
from shardwise.models.params import check_choice, parse_params
from shardwise.models.saved import Header, params_to_json
from shardwise.models.scaling import TargetScale
from shardwise.models.screening import left_out
from shardwise.models.trees_data import DATASETS, lightgbm_errors, most_rounds
from shardwise.models.trees_gang import Growers, first_bag, most_leaves
from shardwise.models.trees_loss import OwnLoss, OwnMetrics, on_its_scale, own_update
from shardwise.models.trees_pair import growers
from shardwise.models.trees_params import TreesParams, unused
from shardwise.models.trees_resume import SEGMENT_ROUNDS, Keeper, Progress, Sampling, make_booster, reseed, started
from shardwise.models.trees_scores import TreeScores
from shardwise.models.trees_soft import OBJECTIVES, Update, is_own, mean_answer, soft_labels, update_for
from shardwise.models.trees_terms import TreeTerms
from shardwise.models.trees_text import PackedText, on_raw_values

PREDICT_ROWS = 262_144  # rows that LightGBM predicts at once: it copies what is not contiguous
ONE_THREAD_CELLS = 2**23  # up to here a second thread brings less than models side by side
_SOME = 1e-30  # a count that is as good as none
_OBJECTIVES: dict[Task, dict[str | None, str]] = {
    Task.BINARY: {None: "binary"},
    Task.MULTICLASS: {None: "multiclass"},
    Task.REGRESSION: {None: "regression", "l2": "regression", "l1": "regression_l1", "huber": "huber"},
    Task.COUNT: {None: "poisson"},
    Task.QUANTILE: {None: "quantile"},
}


class Trees:
    """LightGBM behind the `Model` interface. `rounds` is the number of boosting rounds that were kept."""

    traits: ClassVar[Traits] = Traits(tasks=frozenset(Task), reads="bins", importance=True, parallel=True)

    def __init__(self, target: Target, features: Sequence[Feature], **params: Any) -> None:
        self.params = parse_params(TreesParams, "trees", params)
        check_choice(self.params, "objective", tuple(_OBJECTIVES[target.task]))
        check_choice(self.params, "stop_metric", Metrics.allowed(target.task))
        monotone.check(self.params.monotone, self.params.objective, target, features)
        if self.params.target_transform and target.task is not Task.REGRESSION:
            raise ConfigError(f"target_transform does not go with a {target.task} target", hint="Leave it out.")
        self.target = target
        self.features = tuple(features)
        self.threads = 0  # for predictions; 0: as many as there are cores
        self.rounds = 0
        self.loss: OwnLoss | None = None  # in the place of LightGBM's
        self._scale = TargetScale()
        self._text: PackedText | None = None
        self._booster: lgb.Booster | None = None
        self._scores: TreeScores | None = None
        self._terms: TreeTerms | None = None
        self._constant: np.ndarray | None = None  # where there is nothing to split, float64 (outputs,)

    def fit(self, train: BinnedRows, valid: BinnedRows | None, run: FitRun) -> None:
        """Boost until the validation loss stops falling; without validation rows, `n_estimators` rounds.

        Raises `DataError` without rows, `TargetError` for targets that the task cannot have.
        """
        self.threads = run.threads
        y, weight = labels(train)
        self._check_target(y)
        self._text, self._booster, self._scores, self._constant, self.rounds = None, None, None, None, 0
        if not train.features or (self.target.task is Task.COUNT and not y.any()):
            self._constant = best_constant(self.target, y, weight)
            return
        self._scale = TargetScale.of(y, self.params.target_transform) if self._is_scaled else TargetScale()
        start, they = None, growers(run.member)
        constant = mean_answer(train, self._scale, weight)
        constant = best_constant(self.target, self._scale.apply(y), weight) if constant is None else constant
        if self.loss is not None:
            self.loss.begin(self._scale.apply(y), weight, they.place(train), they.joined)
        elif they.several or is_own(train, self.target.task):  # LightGBM starts members from averages of their own
            start = LINKS[self.target.task](self.target, constant).start
        begins = Beginning.of(self.target, y, weight, self._scale.invert(constant))
        del y, weight  # as large as the labels that LightGBM keeps
        keeper = Keeper(run.checkpoint, self._sampling(they.own(train), run), run.member, start)
        valid = valid if valid is not None and valid.n_rows else None
        self._learn(train, valid, run, keeper, they, guard=self._guard(valid, begins))

    def _guard(self, valid: BinnedRows | None, begins: Beginning) -> Guard:
        """By which losses are judged. Of trees of which more are never worse, few may be far worse than a constant."""
        if valid is None or (self.loss is not None and self.loss.keeps_all):
            return Guard(0.0, 0.0, None)
        return Guard.of(self.target, valid.target(), valid.weight(), begins=begins, worse_rounds=None)

    def _learn(
        self, train: BinnedRows, valid: BinnedRows | None, run: FitRun, keeper: Keeper, they: Growers, *, guard: Guard
    ) -> None:  # fmt: skip
        own = they.own(train)
        own_valid, joint = (None, alone) if valid is None else they.judged(valid, self.params.stop_metric)
        shape = self._dataset_params(train, run) | {"left_out": left_out(train, self.target, self.params.screen)}
        kept = DATASETS.open(own, own_valid, shape, run.memory_bytes)
        params = self._booster_params(train, run) | keeper.sampling.params()
        if self.loss is not None and they.several:
            params["num_leaves"] = most_leaves(self.params.num_leaves, len(train.features))
        with lightgbm_errors(), kept as (train_set, valid_set), they.network(params["num_threads"]) as shared:
            self._label(train_set, own)
            if own_valid is not None and valid_set is not None:
                self._label(valid_set, own_valid)
            before = keeper.found()
            pairs = (train_set, own), (valid_set, own_valid)
            with started(before, keeper.start, *pairs, threads=run.threads) as trees:
                booster = make_booster(params | shared, train_set, trees)
                del trees  # it has copies of them
                if valid_set is not None:
                    booster.add_valid(valid_set, "valid")
            metrics = None if own_valid is None else self._metrics(own, own_valid, joint)
            try:
                update = update_for(own, self.target.task) if self.loss is None else own_update(self.loss)
                leaves = self._most_leaves(train.n_rows)
                update = they.counted(update, run, own.n_rows)
                self._boost(booster, metrics, run, keeper, before, update=update, guard=guard, leaves=leaves)
            except BaseException as error:
                traceback.clear_frames(error.__traceback__)  # in which the booster would live on
                raise
            finally:
                if self.rounds and run.leads:
                    text = keeper.text(booster, self.rounds)
                    text = text if self.loss is None else on_its_scale(text, self.loss, self.rounds)
                    packed = on_raw_values(text, train.binner, self.features).packed()
                    del booster, text  # what it learned with makes room for what it learned
                    self._use(packed)

    def _metrics(self, own: BinnedRows, valid: BinnedRows, joint: Joint) -> Look:
        if self.loss is not None:
            return OwnMetrics(self.target, self._scale, valid, self.loss, joint)
        linked = is_own(own, self.target.task)
        return Metrics(self.target, self._scale, valid, self.params.stop_metric, joint, linked=linked)

    def _label(self, dataset: lgb.Dataset, rows: BinnedRows) -> None:
        soft = soft_labels(rows, self.target.task)
        label = self._scale.apply(rows.target() if soft is None else soft).astype(np.float32)
        if self.target.task is Task.COUNT and not label.any():
            label[:1] = _SOME  # LightGBM refuses a member whose counts are all zero
        dataset.set_label(label)
        dataset.label = None  # LightGBM has a copy of its own

    def _boost(
        self, booster: lgb.Booster, metrics: Look | None, run: FitRun, keeper: Keeper, before: Progress | None,
        *, update: Update, guard: Guard, leaves: int,
    ) -> None:  # fmt: skip
        curve: Stop = Curve(self.params.early_stopping_rounds, self.params.patience)
        if self.loss is not None and self.loss.keeps_all:
            curve = Plateau(self.params.early_stopping_rounds)
        stopped = False

        def report(step: int, loss: float) -> bool:
            nonlocal stopped
            stopped = not run.report(step, loss)
            return not stopped

        boosting = Boosting(
            booster, metrics, curve, report, update=update, go_on=run.all_go_on,
            guard=lambda losses: not guard.stops(losses, run.notice),
        )  # fmt: skip
        sampling = keeper.sampling

        def begin(rounds: int) -> None:
            reseed(booster, sampling, rounds)
            keeper.keep(booster, boosting.points)

        try:
            going = before is None or boosting.resume(before.rounds, before.curve.tolist())
            if before is not None:
                reseed(booster, sampling, before.rounds)
            if going:
                most = most_rounds(run.model_bytes, booster.num_model_per_iteration(), leaves)
                boosting.run(min(most, self.params.n_estimators), SEGMENT_ROUNDS, begin)
                if booster.current_iteration() == most < self.params.n_estimators:
                    run.note(f"Boosting ended after {most} rounds: memory has no room for more. Give more --memory.")
        finally:
            self.rounds = boosting.best_round
        if stopped and run.rests_at is not None and booster.current_iteration() >= run.rests_at:
            keeper.rest(booster, boosting.points)
        elif not stopped:  # where the time was up, what is there serves who goes on
            keeper.end()

    def _most_leaves(self, rows: int) -> int:
        """That a tree of so many rows can have."""
        params = self.params
        bounds = [params.num_leaves, rows // max(1, params.min_child_samples)]
        return max(1, min([*bounds, 2**params.max_depth] if params.max_depth > 0 else bounds))

    def _sampling(self, own: BinnedRows, run: FitRun) -> Sampling:
        params = self.params
        columns = params.feature_fraction * (1.0 if self.loss is None else self.loss.columns)
        return Sampling(run.seed, params.subsample, columns, params.extra_trees, first_bag(own))

    def _use(self, text: PackedText) -> None:
        self._text = text
        self._booster, self._terms = (booster := text.booster()), None
        leaves, task = self.params.num_leaves, None if self.loss is not None else self.target.task
        self._scores = TreeScores(booster, task, features=len(self.features), leaves=leaves)

    @property
    def _is_scaled(self) -> bool:
        return self.target.task in (Task.REGRESSION, Task.QUANTILE)

    def _check_target(self, y: np.ndarray) -> None:
        check_counts(self.target, y)
        if self.params.target_transform == "log1p" and y.min() <= -1:
            raise TargetError(
                f"log1p needs targets above -1, {y.min():g} was found in {self.target.column!r}",
                hint="Leave target_transform out.",
            )

    def _dataset_params(self, train: BinnedRows, run: FitRun) -> dict[str, Any]:
        codes = [i for i, feature in enumerate(train.features) if feature.kind is FeatureKind.CODE]
        return {
            "max_bin": self.params.max_bin,
            "feature_pre_filter": False,  # so that bins serve any min_child_samples
            "data_random_seed": 1,  # of the sample from which the bins are made: the same bins for all seeds
            "categorical_feature": codes if self.params.categorical == "native" else [],
            "num_threads": run.threads,
            "verbosity": -1,
        }

    def _booster_params(self, train: BinnedRows, run: FitRun) -> dict[str, Any]:
        params, n_rows = self.params, train.n_rows
        small = n_rows * len(train.features) <= ONE_THREAD_CELLS
        linked = is_own(train, self.target.task)
        content: dict[str, Any] = {
            "objective": self._objective(train),
            "metric": Metrics.native(self.target.task, params.stop_metric, self._scale, linked=linked),
            "learning_rate": params.learning_rate,
            "num_leaves": params.num_leaves,
            "max_depth": params.max_depth,
            "min_data_in_leaf": params.min_child_samples,
            "min_gain_to_split": params.min_split_gain,
            "bagging_fraction": params.subsample,
            "bagging_freq": int(params.subsample < 1 <= params.subsample * n_rows),  # a bag of 0 rows is an error
            "feature_fraction": params.feature_fraction,
            "lambda_l1": params.reg_alpha,
            "lambda_l2": params.reg_lambda,
            "extra_trees": params.extra_trees,
            "cat_smooth": params.cat_smooth,
            "cat_l2": params.cat_l2,
            "seed": run.seed,
            "deterministic": True,
            "force_row_wise" if small else "force_col_wise": True,
            "num_threads": 1 if small else run.threads,
            "verbosity": -1,
        }
        if self.target.task is Task.MULTICLASS:
            content["num_class"] = self.target.outputs
        if self.target.task is Task.QUANTILE:
            content["alpha"] = self.target.quantile
        if params.monotone:
            content["monotone_constraints"] = monotone.constraints(params.monotone, train.features)
        if off := unused(params, train.features):
            content["feature_contri"] = [float(feature.name not in off) for feature in train.features]
        return content if self.loss is None else {**content, **self.loss.settings()}

    def _objective(self, train: BinnedRows) -> str:
        usual = _OBJECTIVES[self.target.task][self.params.objective]
        return OBJECTIVES.get(self.target.task, usual) if has_teacher(train) else usual

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Float64 `(rows, classes)` or `(rows,)` for X float32 `(rows, features)` of either memory order."""
        check_matrix(X, self.features)
        if self._constant is not None:
            return np.array(repeated(self.target, self._constant, len(X)))
        if self._booster is None:
            raise not_fitted("trees" if self.loss is None else self.loss.family)
        parts = [self._raw(X[start : start + PREDICT_ROWS]) for start in range(0, len(X), PREDICT_ROWS)]
        raw = parts[0] if len(parts) == 1 else np.concatenate([np.empty(self._shape(0)), *parts])
        if self.loss is not None:
            return self._scale.invert(self.loss.answer(raw if raw.ndim == 2 else raw[:, None]))
        if self.target.task is Task.BINARY:
            both = np.empty((len(raw), 2))
            both[:, 0], both[:, 1] = 1.0 - raw, raw
            return both
        return self._scale.invert(raw) if self._is_scaled else raw

    def terms(self, X: np.ndarray) -> np.ndarray:
        """See `base.Additive`; by TreeSHAP, as `trees_terms` has it."""
        if self._text is None:
            return constant_terms(self.target.task, self.predict(X), len(self.features))
        check_matrix(X, self.features)
        self._terms = self._terms or TreeTerms(self._text.booster(), len(self.features))
        return self._terms(X, self.threads)

    def answers(self, scores: np.ndarray) -> np.ndarray:
        if self.loss is not None and self._constant is None:
            return self._scale.invert(self.loss.answer(scores))
        linked = link(self.target.task, scores)
        return self._scale.invert(linked) if self._is_scaled and self._constant is None else linked

    def _raw(self, X: np.ndarray) -> np.ndarray:
        assert self._scores is not None
        return self._scores(X, self.threads).reshape(self._shape(len(X)))

    def _shape(self, n_rows: int) -> tuple[int, ...]:
        return (n_rows, self.target.outputs) if self.target.task is Task.MULTICLASS else (n_rows,)

    def importance(self) -> Mapping[str, float]:
        """Share of each feature in the gain of all splits; empty when nothing was split."""
        if self._booster is None:
            return {}
        gain = self._booster.feature_importance("gain")
        if not gain.sum() > 0:
            return {}
        return {feature.name: float(share) for feature, share in zip(self.features, gain / gain.sum(), strict=True)}

    def save(self, folder: Path) -> None:
        """LightGBM's text model, compressed, beside `model.json`."""
        self.write(folder, "trees", params_to_json(self.params))

    def write(self, folder: Path, family: str, params: Mapping[str, Any]) -> None:
        """Save as a model of a family that is made of trees, with its own params."""
        if self._booster is None and self._constant is None:
            raise not_fitted(family)
        if self._text is not None:
            self._text.write(folder)
        extra = {
            "rounds": self.rounds,
            "scale": self._scale.to_json(),
            "constant": None if self._constant is None else self._constant.tolist(),
            "sha256": None if self._text is None else self._text.sha256,
        }
        Header(family, self.target, self.features, params, extra).write(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises `PackageError` when the model is not as it was saved; LightGBM itself does not survive that."""
        header = Header.read(folder, "trees")
        model = cls(header.target, header.features, **header.params)
        model.read(folder, header)
        return model

    def read(self, folder: Path, header: Header) -> None:
        """Take over the trees that `write` left in a folder."""
        self.rounds = header.extra["rounds"]
        self._scale = TargetScale.from_json(header.extra["scale"])
        if header.extra["constant"] is not None:
            self._constant = np.array(header.extra["constant"], dtype=np.float64)
        else:
            with context(path=str(folder)):
                self._use(PackedText.read(folder, header.extra["sha256"]))
