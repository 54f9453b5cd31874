"""Several pieces at a time: who gets the cores."""

from contextlib import contextmanager

import pytest

from shardwise.serve.pieces import working_on


class Shared:
    """Notes among how many threads its cores are shared."""

    def __init__(self):
        self.told = []

    @contextmanager
    def sharing_cores(self, threads, cores=None):
        self.told.append((threads, cores))
        try:
            yield
        finally:
            self.told.append("back")


@pytest.mark.parametrize(("pieces", "threads"), [(0, 1), (1, 1), (2, 2), (3, 3), (7, 3)])
def test_no_more_threads_than_pieces_share_the_cores(pieces, threads):
    one, other = Shared(), Shared()
    with working_on(iter(range(pieces)), lambda number: number + 1, 3, [one, other], 8) as results:
        assert list(results) == list(range(1, pieces + 1))
    assert one.told == other.told == [(threads, 8), "back"]


def test_what_a_piece_raises_ends_the_work_and_gives_the_cores_back():
    drawn, shared = [], Shared()

    def pieces():
        for number in range(100):
            drawn.append(number)
            yield number

    with pytest.raises(ZeroDivisionError), working_on(pieces(), lambda number: 1 // number, 2, [shared]) as results:
        next(iter(results))
    assert len(drawn) <= 4
    assert shared.told[-1] == "back"
