import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.core.errors import OverBudget
from shardwise.core.units import parse_size
from shardwise.plan.memory import MAIN_BYTES, PROCESS_BYTES, growing_bytes, trees_bytes
from shardwise.train.ladder import LEAST_ROWS, SAFETY, make_ladder

sizes = st.integers(1, 10**9)


@given(sizes, st.integers(1, 1000), st.integers(1, 50), st.integers(1, 8), st.integers(10**7, 10**11))
def test_what_the_first_rung_takes_fits_under_the_ceiling(
    rows: int, features: int, outputs: int, processes: int, memory: int
) -> None:
    try:
        ladder = make_ladder(memory, rows, features, outputs, workers=processes)
    except OverBudget as error:
        least = parse_size(error.hint.removeprefix("Give at least ").removesuffix("."))
        assert least > 0.99 * memory
        assert make_ladder(int(1.01 * least), rows, features, outputs, workers=processes).share > 0
        return
    used = trees_bytes(int(ladder.share * rows), features, outputs) + MAIN_BYTES + processes * PROCESS_BYTES
    grown = growing_bytes(SAFETY * memory - MAIN_BYTES - processes * PROCESS_BYTES, outputs)
    assert used + grown <= SAFETY * memory + 1
    assert ladder.rungs[0].model_bytes >= grown - 1
    assert 0 < ladder.share <= 1
    assert ladder.share * rows >= min(rows, LEAST_ROWS) - 1


def test_all_rows_where_they_fit() -> None:
    assert make_ladder(2**34, 1_000_000, 40, 1).share == 1.0


def test_every_rung_takes_less_than_the_one_before() -> None:
    rungs = make_ladder(10**9, 20_000_000, 40, 1).rungs
    assert [rung.number for rung in rungs] == list(range(len(rungs)))
    shares = [rung.share for rung in rungs]
    assert shares == sorted(shares, reverse=True)
    assert rungs[-1].held_down({"num_leaves": 255}) == {"num_leaves": 31, "max_bin": 15}
    assert rungs[-1].held_down({"num_leaves": 7, "max_bin": 3}) == {"num_leaves": 7, "max_bin": 3}
    assert rungs[0].held_down({"num_leaves": 255}) == {"num_leaves": 255}


def test_models_side_by_side_share_the_room() -> None:
    alone, two = (make_ladder(2 * 10**9, 20_000_000, 40, 1, at_once=n, rounds=100).share for n in (1, 2))
    assert two == pytest.approx(alone / 2, rel=0.05)


def test_what_rows_leave_is_for_the_trees_and_few_rounds_leave_more_to_the_rows() -> None:
    ladder = make_ladder(10**9, 20_000_000, 40, 1)
    rungs = ladder.rungs
    rows = trees_bytes(int(rungs[2].share * 20_000_000), 40, 1)
    assert rows + rungs[2].model_bytes + MAIN_BYTES + PROCESS_BYTES <= SAFETY * 10**9 + 1
    assert rungs[0].model_bytes < rungs[2].model_bytes < rungs[4].model_bytes
    assert make_ladder(10**9, 20_000_000, 40, 1, rounds=100).share > 1.1 * ladder.share
