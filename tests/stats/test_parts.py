"""Parts of rows: groups stay whole, no part is nearly all, and few groups are no reason to fail."""

import numpy as np
import pytest

from shardwise.stats.parts import group_parts, leave_enough


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 7, 40])
def test_groups_are_dealt_out_whole(groups: int) -> None:
    rng = np.random.default_rng(groups)
    units = rng.integers(0, groups, 5_000)
    part = group_parts(units, 5)
    found = np.unique(part)
    assert len(found) == (5 if groups == 1 else min(5, groups))
    assert part.shape == units.shape
    assert leave_enough(part)
    if groups > 1:
        assert all(len(np.unique(part[units == unit])) == 1 for unit in range(groups))


def test_where_one_part_is_nearly_all_nothing_is_left_to_learn_from() -> None:
    units = np.repeat([0, 1], [9_990, 10])
    assert not leave_enough(group_parts(units, 5))
    assert not leave_enough(np.zeros(10, np.int64))
    assert not leave_enough(np.zeros(0, np.int64))
    assert leave_enough(np.repeat([0, 1], 10))
