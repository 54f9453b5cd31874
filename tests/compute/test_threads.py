"""Work in order by threads."""

import threading

import pytest

from shardwise.compute.threads import PREFIX, in_order


def test_in_order_draws_no_more_than_it_needs_and_keeps_the_order():
    drawn = []

    def items():
        for number in range(20):
            drawn.append(number)
            yield number

    results = in_order(lambda number: number * 2, items(), 3)
    assert next(results) == 0
    assert len(drawn) <= 4
    assert list(results) == [2 * number for number in range(1, 20)]


def test_in_order_ends_with_the_first_error_and_leaves_no_thread():
    def work(number):
        if number == 3:
            raise ZeroDivisionError
        return number

    seen = []
    with pytest.raises(ZeroDivisionError):
        seen.extend(in_order(work, iter(range(100)), 2))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(PREFIX)]
