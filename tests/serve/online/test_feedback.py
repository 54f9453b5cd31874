"""Labels find their answers by id, or bring their row; what is no feedback is said."""

import numpy as np
import pytest
from tests.registry.parts import make_package

from shardwise.serve.online.feedback import MOST_ROWS, Memory, read_feedback
from shardwise.serve.online.live import FolderSource, Models, Slot
from shardwise.serve.online.problems import Problem
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
    assert read_feedback({"id": "r3", "labels": [True, False]}, memory, models, ServeConfig()) == ([], ["r3"])


def test_a_row_is_answered_again(memory, models):
    labelled, unknown = read_feedback({"row": ROW, "label": "true"}, memory, models, ServeConfig())
    assert unknown == []
    assert labelled[0].scores.tolist() == [models.find("m").predictor.row_scores(ROW).tolist()]
    assert labelled[0].y.tolist() == [1.0]


def test_large_requests_are_not_remembered(models):
    memory = Memory()
    memory.remember("big", models.find("m"), [ROW] * (MOST_ROWS + 1), np.zeros((MOST_ROWS + 1, 2)))
    assert memory.take("big") is None


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
