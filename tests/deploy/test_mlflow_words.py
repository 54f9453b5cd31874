"""What MLflow is told of a version: pure."""

import json
import math

from shardwise.deploy.mlflow_words import (
    DELETED,
    PREFIX,
    TAGS,
    facts_of,
    metrics_of,
    params_of,
    stale_aliases,
    stale_tags,
    tags_of,
)
from shardwise.registry.versions import NameState, Version


def version(**changes):
    plain = {"name": "m", "number": 3, "hash": "abc", "folder": "f", "created": "2026", "task": "binary", "target": "y",
             "families": ("linear", "trees"), "lineage": {"data": "d", "rows": 7, "parent": None}}  # fmt: skip
    return Version(**{**plain, **changes})


def test_facts_leave_out_what_is_not_known_and_cannot_be_overridden():
    told = tags_of(version(tags={"team": "x", "shardwise.version": "99"}))
    assert told["shardwise.version"] == "3"
    assert told["team"] == "x"
    assert told["shardwise.families"] == "linear,trees"
    assert PREFIX + "parent" not in told
    assert params_of(version()) == {key.removeprefix(PREFIX): text for key, text in facts_of(version()).items()
                                    if key != TAGS}  # fmt: skip


def test_metrics_have_their_bounds_beside_them_and_nothing_that_is_no_number():
    metrics = {"test": {"roc_auc": {"value": 0.9, "low": 0.8, "high": None}}, "valid": {"rmse": {"value": math.nan}},
               "rows": 5, "note": "text"}  # fmt: skip
    assert metrics_of(version(metrics=metrics)) == {"test.roc_auc": 0.9, "test.roc_auc.low": 0.8, "rows": 5.0}


def test_tags_of_others_stay_and_ours_go():
    before = tags_of(version(tags={"team": "x", "stage": "a"}))
    seen = {**before, "reviewer": "somebody", DELETED: "true"}
    assert stale_tags(seen, tags_of(version(tags={"stage": "a"}))) == [DELETED, "team"]
    assert stale_tags(seen | {TAGS: "spoilt"}, tags_of(version(tags={"stage": "a"}))) == [DELETED]
    assert stale_tags(seen | {TAGS: "3"}, tags_of(version(tags={"team": "x", "stage": "a"}))) == [DELETED]


def test_aliases_of_others_stay_and_ours_follow():
    state = NameState(aliases={"champion": 2})
    seen = {"champion": "1", "previous": "1", "blue": "1", "mine": "1"}
    assert stale_aliases(seen, json.dumps(["blue", "champion"]), state) == ["blue", "previous"]
    assert stale_aliases(seen, None, state) == ["previous"]
