"""A verdict says the same in words, JSON and JUnit XML."""

import json
from xml.etree import ElementTree

import numpy as np

from shardwise.deploy.verdict import Check, Status, Verdict


def verdict(strict=False, **statuses):
    checks = [
        Check(group=name.partition("_")[0], name=name, status=Status(status), text=f"{name} says\x00 <{status}>.",
              evidence={"value": np.float64("nan"), "many": (np.int64(1), 2)})
        for name, status in statuses.items()
    ]  # fmt: skip
    return Verdict(champion="a", challenger="b", checks=tuple(checks), rows=3, strict=strict)


def test_one_failure_is_a_no():
    assert verdict(quality="pass", drift="warn", cost="skip").passed
    assert not verdict(quality="pass", drift="fail").passed
    assert not verdict(strict=True, quality="pass", drift="warn").passed


def test_the_words_name_the_reasons():
    assert verdict(quality="pass", drift="warn").words() == "Yes: b may take the place of a; 1 thing(s) to look at."
    words = verdict(a_1="fail", a_2="fail", a_3="fail", a_4="fail").words()
    assert words.startswith("No: b may not take the place of a: a_1 says")
    assert words.endswith("and 1 more.")


def test_json_holds_no_nan():
    told = json.loads(verdict(quality="fail").to_bytes())
    assert told["checks"][0]["evidence"] == {"value": None, "many": [1, 2]}
    assert told["passed"] is False


def test_junit_counts_as_the_verdict_does():
    root = ElementTree.fromstring(verdict(strict=True, a_1="pass", a_2="warn", b_1="skip", b_2="fail").junit())
    suites = {suite.get("name"): suite for suite in root}
    assert [suites["a"].get(key) for key in ("tests", "failures", "skipped")] == ["2", "1", "0"]
    assert [suites["b"].get(key) for key in ("tests", "failures", "skipped")] == ["2", "1", "1"]
    assert suites["b"].find("testcase/failure").get("message") == "b_2 says? <fail>."
