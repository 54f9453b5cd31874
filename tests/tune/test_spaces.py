import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.core.errors import ConfigError
from shardwise.core.space import Choice, Dimension, Float, Int, Space
from shardwise.models.spaces import SPACES
from shardwise.tune.spaces import Cube, narrowed

SPACE: Space = {
    "rate": Float(0.01, 1.0, log=True, default=0.1, cost=-1.0), "leaves": Int(2, 64, log=True, default=31, cost=0.5),
    "kind": Choice(("a", "b"), default="a"), "smooth": Float(1.0, 9.0, default=3.0, when=("kind", ("a",))),
}  # fmt: skip
DIMENSIONS: list[Dimension] = [*SPACE.values(), Int(0, 5), Float(-1.0, 1.0), Int(3, 3), Choice(("x",))]


@pytest.mark.parametrize("dimension", DIMENSIONS, ids=str)
@given(place=st.floats(0.0, 1.0))
def test_a_place_gives_a_value_and_the_value_its_place(dimension: Dimension, place: float) -> None:
    value = dimension.at(place)
    again = dimension.at(dimension.place(value))
    assert again == (pytest.approx(value, rel=1e-5, abs=1e-5) if isinstance(dimension, Float) else value)
    assert 0.0 <= dimension.place(value) <= 1.0


@pytest.mark.parametrize("dimension", [Int(1, 6), Int(2, 64, log=True), Choice(("a", "b", "c"))], ids=str)
def test_the_unit_interval_reaches_every_value_as_often_as_drawing_does(dimension: Dimension) -> None:
    places = (np.arange(60_000) + 0.5) / 60_000
    even = [dimension.at(float(place)) for place in places]
    rng = np.random.default_rng(0)
    drawn = [dimension.draw(rng) for _ in range(60_000)]
    for value in set(even) | set(drawn):
        assert even.count(value) == pytest.approx(drawn.count(value), abs=0.01 * 60_000)


def test_params_whose_condition_does_not_hold_are_left_out() -> None:
    cube = Cube(SPACE)
    assert set(cube.params([0.0, 0.0, 0.0, 0.0])) == {"kind", "leaves", "rate", "smooth"}
    assert set(cube.params([0.9, 0.0, 0.0, 0.0])) == {"kind", "leaves", "rate"}
    assert cube.default() == {"kind": "a", "leaves": 31, "rate": 0.1, "smooth": 3.0}


def test_what_depends_on_a_param_that_does_not_count_does_not_count() -> None:
    cube = Cube({
        "a": Choice(("p", "q")), "b": Choice(("s", "t"), when=("a", ("q",))), "c": Float(0.0, 1.0, when=("b", ("s",))),
        "d": Int(1, 3, when=("c", (0.5,))),
    })  # fmt: skip
    whole = {"a": "q", "b": "s", "c": 0.5, "d": 1}
    assert cube.active(whole) == whole
    assert cube.active({**whole, "a": "p"}) == {"a": "p"}
    assert cube.active({**whole, "b": "t"}) == {"a": "q", "b": "t"}
    assert cube.active({"a": "p", "c": 0.5}) == {"a": "p"}
    assert cube.active({"a": "q", "c": 0.5}) == {"a": "q", "c": 0.5}  # what is not given may be anything
    for place in np.linspace(0.0, 1.0, 9).tolist():
        params = cube.params([place] * 4)
        assert cube.active(params) == params


def test_conditions_in_a_circle_have_an_end() -> None:
    cube = Cube({"a": Choice((1, 2), when=("b", (1,))), "b": Choice((1, 2), when=("a", (1,)))})
    assert cube.active({"a": 1, "b": 1}) == {"a": 1, "b": 1}
    assert cube.active({"a": 2, "b": 2}) == {}


def test_a_slower_candidate_costs_more() -> None:
    cube = Cube(SPACE)
    dear, cheap = ({"rate": 0.01, "leaves": 64}, {"rate": 1.0, "leaves": 2})
    assert cube.log_cost(cube.point(dear)) > cube.log_cost(cube.point(cheap))


def test_the_defaults_of_the_families_lie_in_their_spaces() -> None:
    for family, space in SPACES.items():
        for name, dimension in space.items():
            assert dimension.default is not None, f"{family}.{name}"


def test_users_narrow_hold_leave_out_and_extend() -> None:
    found = narrowed({"trees": SPACE}, {"trees": {
        "leaves": [4, 8], "kind": ["b"], "rate": 0.2, "smooth": None, "depth": {"low": 2, "high": 9},
        "shape": {"values": ["x", "y"], "when": {"kind": ["b"]}}, "new": ["p", "q"], "flag": [False, True],
        "three": [1, 2, 3], "two": {"values": [3, 12]}, "mixed": [None, 4],
    }})["trees"]  # fmt: skip
    assert found["leaves"] == Int(4, 8, log=True, default=31, cost=0.5)
    assert Cube(found).default()["leaves"] == 8  # the end that is next to the default
    assert found["kind"] == Choice(("b",), default="b")
    assert found["rate"] == Choice((0.2,), default=0.2)
    assert "smooth" not in found
    assert found["depth"] == Int(2, 9)
    assert found["shape"] == Choice(("x", "y"), when=("kind", ("b",)))
    assert found["new"] == Choice(("p", "q"), default="p")
    assert found["flag"] == Choice((False, True), default=False)
    assert [found[name].values for name in ("three", "two", "mixed")] == [(1, 2, 3), (3, 12), (None, 4)]  # type: ignore[union-attr]
    assert narrowed({"trees": SPACE}, {}) == {"trees": dict(SPACE)}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tress": {}}, r"'tress'.*'trees'"),
        ({"trees": [1]}, "num_leaves"),
        ({"trees": {"leaves": [64, 2]}}, r"leaves has no point.*lower"),
        ({"trees": {"kind": []}}, "no point"),
        ({"trees": {"shape": {"values": []}}}, "no point"),
        ({"trees": {"kind": {"values": "a"}}}, "Give a list"),
        ({"trees": {"kind": {"values": 5}}}, "Give a list"),
        ({"trees": {"leaves": {"low": 2.5, "high": 9.5}}}, "whole numbers"),
        ({"trees": {"rate": {"low": 0.1, "log": "maybe"}}}, "true or false"),
        ({"trees": {"rate": {"low": 0.1, "cost": "a"}}}, "cost 'a'"),
        ({"trees": {"rate": {"low": 0.1, "default": "x"}}}, "default 'x'"),
        ({"trees": {"rate": {"low": 0, "high": 1}}}, "log: false"),
        ({"trees": {"leaves": [1, 2, 3]}}, "two numbers"),
        ({"trees": {"leaves": [1.5, 3]}}, "whole numbers"),
        ({"trees": {"rate": [0, 1]}}, "logarithm"),
        ({"trees": {"rate": ["a", 1]}}, "'a'"),
        ({"trees": {"rate": {"lo": 1}}}, "'low'"),
        ({"trees": {"depth": {"low": 1}}}, "low and high"),
        ({"trees": {"depth": [12, 3]}}, r"\[12, 3\].*\{low: 3, high: 12\}, or \{values: \[12, 3\]\}"),
        ({"trees": {"share": [0.5, 1]}}, r"\{low: 0.5, high: 1\}, or \{values: \[0.5, 1\]\}"),
        ({"trees": {"depth": {"low": 1, "high": 2, "when": "x"}}}, "when"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        narrowed({"trees": SPACE}, given)  # type: ignore[arg-type]
