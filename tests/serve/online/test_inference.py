"""What is refused of an `infer` request before any of it is read."""

import pytest
from tests.serve.online.servers import PATIENCE_S  # noqa: F401 - skips where the extra is missing

from shardwise.core.target import Task
from shardwise.serve.online.front import DEADLINE_HEADER, Front
from shardwise.serve.online.inference import LENGTH_HEADER, Infer, head_length
from shardwise.serve.online.live import Served
from shardwise.serve.online.problems import Problem
from shardwise.serve.online.rows import confidence_level
from shardwise.serve.online.settings import ServeConfig


def test_more_inputs_than_the_model_has_columns_are_refused_before_they_are_read(predictors):
    served = Served("m", "1", "1", predictors[Task.BINARY])
    unread = [{"name": name, "shape": "none"} for name in served.predictor.columns] * 3
    other = [{"name": f"x{number}"} for number in range(len(unread))]
    for inputs, code in ((unread, "too_many_inputs"), (other, "unknown_column")):
        with pytest.raises(Problem) as told:
            Infer({"inputs": inputs}, b"", ServeConfig(), served)
        assert (told.value.status, told.value.code) == (422, code)
    with pytest.raises(Problem) as told:
        Infer({"inputs": unread}, b"", ServeConfig(extra="ignore"), served)
    assert told.value.code == "bad_tensor"


@pytest.mark.parametrize("told", [b"9" * 5000, b"-1", b"1.5", b"", b"\xb2"])
def test_headers_that_are_no_number_are_refused(told):
    class Routes:
        config = ServeConfig()

    front = Front(Routes(), None)
    for read, name in ((head_length, LENGTH_HEADER), (front.deadline_s, DEADLINE_HEADER)):
        with pytest.raises(Problem) as problem:
            read({name: told})
        assert (problem.value.status, problem.value.code) == (400, "bad_header")
        assert name.decode() in problem.value.message
        assert len(problem.value.message) < 200
    assert head_length({LENGTH_HEADER: b"12"}) == 12
    assert front.deadline_s({DEADLINE_HEADER: b"250"}) == 0.25
    assert front.deadline_s({DEADLINE_HEADER: b"9" * 18}) == ServeConfig().deadline_s


@pytest.mark.parametrize("told", ["much", "", "nan", "0", "1", "-0.5", "2", "0.9"])
def test_a_level_that_cannot_be_promised_has_a_code_of_its_own(told, predictors):
    served = Served("m", "1", "1", predictors[Task.BINARY])  # was trained without conformal scores
    with pytest.raises(Problem) as problem:
        confidence_level(told, served)
    assert (problem.value.status, problem.value.code) == (400, "bad_level")
    assert problem.value.hint
    assert confidence_level(None, served) is None
