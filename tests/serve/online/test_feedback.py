"""Labels find their answers by id, or bring their row; what is no feedback is said."""

import asyncio
import dataclasses
import json
import threading
import time

import numpy as np
import pytest
from tests.registry.parts import make_package

from shardwise.serve.online.feedback import MOST_ROWS, Memory, read_feedback
from shardwise.serve.online.http import Request
from shardwise.serve.online.live import FolderSource, Models, Slot
from shardwise.serve.online.metrics import Metrics
from shardwise.serve.online.problems import Problem
from shardwise.serve.online.routes import Routes
from shardwise.serve.online.settings import ServeConfig
from shardwise.serve.predictor import Predictor

ROW = {"x": 0.25, "z": 0.5, "town": "Ulm", "day": None}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_package(tmp_path_factory.mktemp("served"))


@pytest.fixture
def models(place):
    return Models([Slot(FolderSource("m", place), Predictor)])


@pytest.fixture
def memory(models):
    made = Memory(most=3)
    served = models.find("m")
    for number in range(4):
        made.remember(f"r{number}", served, [ROW, ROW], np.full((2, 2), number / 10))
    return made


def test_labels_are_joined_by_id_once_and_the_oldest_are_forgotten(memory, models):
    content = [{"id": "r3", "labels": [True, False]}, {"id": "r0", "labels": [True, True]}]
    labelled, unknown = read_feedback(content, memory, models, ServeConfig())
    assert unknown == ["r0"]
    assert (labelled[0].y.tolist(), labelled[0].scores.tolist()) == ([1.0, 0.0], [[0.3, 0.3]] * 2)
    assert [each.id for each in labelled] == ["r3"]
    assert (memory.take("r3"), memory.take("r3")) == (True, False)
    assert read_feedback({"id": "r3", "labels": [True, False]}, memory, models, ServeConfig()) == ([], ["r3"])


def test_a_row_is_answered_again(memory, models):
    labelled, unknown = read_feedback({"row": ROW, "label": "true"}, memory, models, ServeConfig())
    assert unknown == []
    assert labelled[0].scores.tolist() == [models.find("m").predictor.row_scores(ROW).tolist()]
    assert labelled[0].y.tolist() == [1.0]


def test_large_requests_are_not_remembered(models):
    memory = Memory()
    memory.remember("big", models.find("m"), [ROW] * (MOST_ROWS + 1), np.zeros((MOST_ROWS + 1, 2)))
    assert memory.find("big") is None


def test_what_is_remembered_is_bounded_in_bytes(models):
    memory, served, scores = Memory(most_bytes=5_000_000), models.find("m"), np.zeros((1, 2))
    for number in range(20):
        memory.remember(f"r{number}", served, [{**ROW, "town": str(number) * 500_000, "other": [1]}], scores)
        assert memory.bytes <= 5_000_000
    kept = [number for number in range(20) if memory.find(f"r{number}") is not None]
    assert kept == [number for number in range(20) if number >= 20 - len(kept)]
    assert 4 <= len(kept) < 12
    memory.remember("r19", served, [{**ROW, "town": "y" * 6_000_000}], scores)  # alone too large
    assert [memory.take(f"r{number}") for number in kept] == [False] * len(kept)
    assert memory.bytes == 0


def test_answers_of_versions_that_are_no_more_are_forgotten(models):
    memory, live = Memory(), models.find("m")
    others = {name: dataclasses.replace(live, version=name, identity=name) for name in ("old", "candidate")}
    for name, served in {"live": live, **others}.items():
        memory.remember(name, served, [ROW], np.zeros((1, 2)))
    memory.keep([live, others["candidate"]])
    assert [memory.find(name) is None for name in ("live", "old", "candidate")] == [False, True, False]
    champion = dataclasses.replace(others["candidate"])  # the same version, loaded anew
    memory.keep([champion])
    assert memory.find("live") is None
    assert memory.find("candidate")[0] is champion
    assert memory.take("candidate")
    assert memory.bytes == 0


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (3, "not_feedback"),
        ({"id": "r3"}, "not_feedback"),
        ({"label": True}, "not_feedback"),
        ({"id": "r3", "row": ROW, "label": True}, "not_feedback"),
        ({"row": [1], "label": True}, "not_feedback"),
        ({"row": {"x": 1}, "label": True}, "missing_column"),
        ({"row": {**ROW, "x": [1]}, "label": True}, "wrong_type"),
        ({"row": {**ROW, "day": "soon"}, "label": True}, "invalid_row"),
        ({"row": ROW, "label": True, "model": ["m"]}, "not_feedback"),
        ({"row": ROW, "label": True, "modle": "m"}, "not_feedback"),
        ({"id": 3, "label": True}, "not_feedback"),
        ({"id": "unknown", "labels": [{}]}, "wrong_labels"),
        ({"row": ROW, "label": True, "version": "9"}, "version_not_found"),
        ({"id": "r3", "label": True}, "wrong_labels"),
        ({"row": ROW, "label": "perhaps"}, "wrong_labels"),
        ({"row": ROW, "label": [1]}, "wrong_labels"),
    ],
)
def test_what_is_no_feedback_is_said(content, code, memory, models):
    with pytest.raises(Problem) as told:
        read_feedback(content, memory, models, ServeConfig())
    assert told.value.code == code


class Noted(Predictor):
    """Notes where it computes, how many rows at a time; waits until it may."""

    def __init__(self, package):
        super().__init__(package)
        self.asked, self.gate = [], threading.Event()

    def computed(self, rows):
        self.asked.append((threading.current_thread().name.partition("_")[0], len(rows)))
        assert self.gate.wait(60)
        return super().computed(rows)


@pytest.fixture
def routes(place):
    slot = Slot(FolderSource("m", place), Predictor)
    noted = Noted(slot.live.predictor.package)
    slot.live = dataclasses.replace(slot.live, predictor=noted)
    made = Routes(Models([slot]), ServeConfig(), Metrics())
    yield made
    noted.gate.set()
    made.close()


def told(routes, content, deadline_s=60.0, headers=None):
    """What `POST /feedback` answers."""

    async def receive():
        return {"type": "http.request", "body": json.dumps(content).encode(), "more_body": False}

    headers = {b"content-type": b"application/json"} if headers is None else headers
    request = Request(method="POST", path="/feedback", query=b"", headers=headers, receive=receive, id="f",
                      came_s=time.perf_counter(), deadline_s=deadline_s)  # fmt: skip
    return json.loads(asyncio.run(routes.feedback(request)).body)


def noted_of(routes):
    return routes.models.find("m").predictor


def test_rows_are_answered_together_and_not_in_the_loop(routes, models):
    noted_of(routes).gate.set()
    rows = [{**ROW, "x": number / 100} for number in range(200)]
    assert told(routes, [{"row": row, "label": True} for row in rows]) == {"accepted": 200, "unknown": []}
    assert noted_of(routes).asked == [("bulk", 200)]
    labelled, _ = read_feedback([{"row": row, "label": True} for row in rows], Memory(), models, ServeConfig())
    one_by_one = [models.find("m").predictor.row_scores(row).tolist() for row in rows]
    assert [each.scores.tolist() for each in labelled] == [[scores] for scores in one_by_one]


def test_a_wrong_label_in_a_list_takes_none(memory, models):
    content = [{"id": "r2", "labels": [True, False]}, {"id": "r3", "labels": [True, "perhaps"]}]
    with pytest.raises(Problem) as problem:
        read_feedback(content, memory, models, ServeConfig())
    assert (problem.value.code, problem.value.where) == ("wrong_labels", {"item": 1})
    content[1]["labels"][1] = False
    assert [each.id for each in read_feedback(content, memory, models, ServeConfig())[0]] == ["r2", "r3"]


def test_a_row_that_cannot_be_read_is_named_among_many(models):
    content = [{"row": ROW, "label": True}, {"row": {**ROW, "day": "soon"}, "label": True}]
    with pytest.raises(Problem) as problem:
        read_feedback(content, Memory(), models, ServeConfig())
    assert (problem.value.code, problem.value.where["item"]) == ("invalid_row", 1)


def test_when_the_time_is_up_no_label_has_counted(routes):
    for name in ("a", "b"):
        routes.memory.remember(name, routes.models.find("m"), [ROW], np.array([[0.5, 0.5]]))
    labels = [{"id": "a", "label": True}, {"row": ROW, "label": True}, {"id": "b", "label": False}]
    with pytest.raises(Problem) as problem:
        told(routes, labels, deadline_s=0.05)
    assert problem.value.code == "deadline_exceeded"
    noted_of(routes).gate.set()
    assert told(routes, labels) == {"accepted": 3, "unknown": []}
    assert told(routes, labels) == {"accepted": 1, "unknown": ["a", "b"]}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "unsupported_type"),
        ({b"content-type": b"text/plain"}, "unsupported_type"),
        ({b"content-type": b"application/x-www-form-urlencoded"}, "unsupported_type"),
        ({b"content-type": b"application/json", b"sec-fetch-site": b"cross-site"}, "other_origin"),
        ({b"content-type": b"application/json", b"sec-fetch-site": b"same-site"}, "other_origin"),
    ],
)
def test_labels_of_a_strangers_page_are_refused(routes, headers, code):
    routes.memory.remember("a", routes.models.find("m"), [ROW], np.array([[0.5, 0.5]]))
    with pytest.raises(Problem) as problem:
        told(routes, {"id": "a", "label": True}, headers=headers)
    assert problem.value.code == code
    own = {b"content-type": b"application/json; charset=utf-8", b"sec-fetch-site": b"same-origin"}
    assert told(routes, {"id": "a", "label": True}, headers=own) == {"accepted": 1, "unknown": []}
