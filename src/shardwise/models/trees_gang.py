"""One LightGBM model from several members: each has its window of the rows, histograms are summed over all.

LightGBM's own distributed learner (`tree_learner=data`, https://lightgbm.readthedocs.io/en/latest/Parallel-Learning-Guide.html,
Ke et al. 2017) runs inside our gang: members tell each other free ports, and the gang ends all when one is lost.
All members have the same bins, since the rows are binned already.

What is promised: nearly always the trees that one alone would grow (measured in decision 0016), always a loss within
1e-4. Bags and columns are the same: windows begin where LightGBM begins a block of its bags, and bags are seeded by
block. What differs: histograms are added up in another order, and LightGBM guesses the rows of a leaf from its hessian
where it counts them if it is alone, which moves `min_child_samples` a little; with a few thousand rows that shows, so
that a member has `LEAST_ROWS` at least. Left to one member: objectives whose leaves hold percentiles (`l1`, quantiles),
which LightGBM would average over the members, and `extra_trees`, whose thresholds would be other draws.
"""

import json
import math
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import lightgbm as lgb

from shardwise.compute.gang.base import GangBroken, Member
from shardwise.data.rows import BinnedRows
from shardwise.data.rows_window import ALIGNED_ROWS, RowsWindow, window_of
from shardwise.models.base import FitRun
from shardwise.models.trees_row import call
from shardwise.models.trees_soft import Update

LEAST_ROWS = 16 * ALIGNED_ROWS  # for a member
_LISTEN_MINUTES = 1  # for the members to find each other
_UNREACHED = ("socket", "binding port")  # in LightGBM's errors; a port may be taken between our look and its own
_ROOTS = ("rmse", "raw_rmse")  # means under a root


def own_rows(rows: BinnedRows, member: Member | None) -> BinnedRows:
    """The rows that this member learns from."""
    return rows if member is None else window_of(rows, member.rank, member.size)


def most_members(rows: int) -> int:
    """How many members have enough rows to learn from."""
    return max(1, rows // LEAST_ROWS)


def first_bag(rows: BinnedRows) -> int:
    """Which block of LightGBM's bags the first row begins."""
    return rows.start // ALIGNED_ROWS if isinstance(rows, RowsWindow) else 0


@contextmanager
def network(member: Member | None, threads: int) -> Iterator[dict[str, Any]]:
    """LightGBM's connections between all members, for as long as a booster needs them; the params that go with them."""
    if member is None or member.size == 1:
        yield {}
        return
    with socket.create_server((member.address(), 0)) as door:
        port = door.getsockname()[1]
    places = [json.loads(place) for place in member.gather(json.dumps([member.address(), port]).encode())]
    machines = ",".join(f"{host}:{port}" for host, port in places)
    params = {"tree_learner": "data", "num_machines": member.size, "num_threads": threads}
    try:
        call("LGBM_NetworkInit", machines.encode(), port, _LISTEN_MINUTES, member.size)
        yield params
    except lgb.basic.LightGBMError as error:
        if any(sign in str(error).lower() for sign in _UNREACHED):  # it notices before the gang does who is lost
            raise GangBroken(f"LightGBM does not reach the other members: {error}") from error
        raise
    finally:
        call("LGBM_NetworkFree")


def counted(update: Update, run: FitRun, rows: int) -> Update:
    """A round that tells those who watch by how many rows it has gone, and what it took of waiting for others."""
    member = run.member

    def one(booster: lgb.Booster) -> bool:
        with nullcontext() if member is None or member.size == 1 else member.elsewhere():
            ended = update(booster)
        run.saw(rows)
        return ended

    return one


def joined(member: Member | None, values: Mapping[str, float], weight: float) -> dict[str, float]:
    """Means over all members' validation rows, from the mean over this one's, of which `weight` tells how many."""
    if member is None or member.size == 1:
        return dict(values)
    parts = [json.loads(part) for part in member.gather(json.dumps([weight, dict(values)]).encode())]
    total = math.fsum(part for part, _ in parts)
    return {name: _mean(name, [(part, found[name]) for part, found in parts if part], total) for name in values}


def _mean(name: str, parts: list[tuple[float, float]], total: float) -> float:
    if name in _ROOTS:
        return math.sqrt(math.fsum(weight * value**2 for weight, value in parts) / total)
    return math.fsum(weight * value for weight, value in parts) / total
