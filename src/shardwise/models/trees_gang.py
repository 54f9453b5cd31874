"""One LightGBM model from several members: each has its window of the rows, histograms are summed over all.

LightGBM's own distributed learner (`tree_learner=data`, https://lightgbm.readthedocs.io/en/latest/Parallel-Learning-Guide.html,
Ke et al. 2017) runs inside our gang: members tell each other free ports, and the gang ends all when one is lost.
All members have the same bins, since the rows are binned already.

What is promised: nearly always the trees that one alone would grow (measured in decision 0016), always a loss within
1e-4. Bags and columns are the same: windows begin where LightGBM begins a block of its bags, and bags are seeded by
block. What differs: histograms are added up in another order, and LightGBM guesses the rows of a leaf from its hessian
where it counts them if it is alone, which moves `min_child_samples` a little; with a few thousand rows that shows, so
that a member has `LEAST_ROWS` at least. Left to one member: objectives whose leaves hold percentiles (`l1`, quantiles),
which LightGBM would average over the members, and boosted `extra_trees`, whose thresholds would be other draws.

On losses of our own (forests, extra trees, AdaBoost) the trees are the same to the bit for any number of members: sums
of their gradients are exact (`trees_loss.exact`), and one alone is two (`trees_pair`).
"""

import json
import math
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import lightgbm as lgb
import numpy as np

from shardwise.compute.gang.base import GangBroken, Member
from shardwise.data.rows import BinnedRows
from shardwise.data.rows_window import ALIGNED_ROWS, RowsWindow, window_of
from shardwise.models.base import FitRun
from shardwise.models.boosting import OWN_ROOT, Joint, alone
from shardwise.models.trees_row import be_silent, call
from shardwise.models.trees_soft import Update

LEAST_ROWS = 16 * ALIGNED_ROWS  # for a member
HISTOGRAMS_MB = 256  # of a tree's leaves: the distributed learner keeps all of them
_HISTOGRAM_BYTES = 16 * 255  # of a column
_LISTEN_MINUTES = 1  # for the members to find each other
_UNREACHED = ("socket", "binding port")  # in LightGBM's errors; a port may be taken between our look and its own
_ROOTS = ("rmse", OWN_ROOT)  # means under a root


def most_members(rows: int) -> int:
    """How many members have enough rows to learn from."""
    return max(1, rows // LEAST_ROWS)


def first_bag(rows: BinnedRows) -> int:
    """Which block of LightGBM's bags the first row begins."""
    return -(-rows.start // ALIGNED_ROWS) if isinstance(rows, RowsWindow) else 0


def most_leaves(leaves: int, columns: int) -> int:
    """How many of the leaves a tree may have whose histograms are all kept: a function of the columns alone.

    >>> most_leaves(1024, 60), most_leaves(1024, 200)
    (1024, 328)
    """
    return max(2, min(leaves, HISTOGRAMS_MB * 2**20 // (_HISTOGRAM_BYTES * max(1, columns))))


class Growers:
    """This process alone, which has all rows."""

    several = False

    def place(self, rows: BinnedRows) -> slice:
        """Which of the rows it learns from."""
        return slice(0, rows.n_rows)

    def own(self, rows: BinnedRows) -> BinnedRows:
        """The rows that it learns from."""
        return rows

    def judged(self, valid: BinnedRows, stop_metric: str | None) -> tuple[BinnedRows, Joint]:  # noqa: ARG002
        """The validation rows that it scores, and how means over these become means over all."""
        return valid, alone

    def network(self, threads: int) -> AbstractContextManager[dict[str, Any]]:  # noqa: ARG002
        """Connections for as long as a booster needs them; the params that go with them."""
        return nullcontext({})

    def counted(self, update: Update, run: FitRun, rows: int) -> Update:
        """A round that tells those who watch by how many rows it has gone, and what it took of waiting for others."""

        def one(booster: lgb.Booster) -> bool:
            with self._waiting():
                ended = update(booster)
            run.saw(rows)
            return ended

        return one

    def _waiting(self) -> AbstractContextManager[None]:
        return nullcontext()

    def joined(self, values: np.ndarray) -> np.ndarray:
        """What all have found for their rows, `(..., outputs)`, one after the other."""
        return values


class Together(Growers):
    """A member of a gang, which has a window of the rows. All of them do the same in the same order."""

    several = True

    def __init__(self, member: Member) -> None:
        self._member = member

    def place(self, rows: BinnedRows) -> slice:
        window = self._window(rows)
        return slice(window.start, window.stop)

    def own(self, rows: BinnedRows) -> BinnedRows:
        return self._window(rows)

    def _window(self, rows: BinnedRows) -> RowsWindow:
        return window_of(rows, self._member.rank, self._member.size)

    def judged(self, valid: BinnedRows, stop_metric: str | None) -> tuple[BinnedRows, Joint]:
        """All rows where a share does not tell, or is nothing."""
        if stop_metric == "roc_auc" or valid.n_rows < ALIGNED_ROWS * self._member.size:
            return valid, alone
        return self._window(valid), self._mean

    @contextmanager
    def network(self, threads: int) -> Iterator[dict[str, Any]]:
        be_silent()
        member = self._member
        with socket.create_server((member.address(), 0)) as door:
            port = door.getsockname()[1]
        places = [json.loads(place) for place in member.gather(json.dumps([member.address(), port]).encode())]
        machines = ",".join(f"{host}:{port}" for host, port in places)
        params = {"tree_learner": "data", "num_machines": member.size, "num_threads": threads}
        try:
            with _unheard():
                call("LGBM_NetworkInit", machines.encode(), port, _LISTEN_MINUTES, member.size)
            yield params
        except lgb.basic.LightGBMError as error:
            if any(sign in str(error).lower() for sign in _UNREACHED):  # it notices before the gang does who is lost
                raise GangBroken(f"LightGBM does not reach the other members: {error}") from error
            raise
        finally:
            call("LGBM_NetworkFree")

    def _waiting(self) -> AbstractContextManager[None]:
        return self._member.elsewhere()

    def joined(self, values: np.ndarray) -> np.ndarray:
        parts = self._member.gather(np.ascontiguousarray(values).tobytes())
        return np.concatenate([np.frombuffer(part, values.dtype).reshape(-1, *values.shape[1:]) for part in parts])

    def _mean(self, values: Mapping[str, float], weight: float) -> dict[str, float]:
        """From the means over the own rows, of whose weight `weight` is the sum."""
        parts = [json.loads(part) for part in self._member.gather(json.dumps([weight, dict(values)]).encode())]
        total = math.fsum(part for part, _ in parts)
        return {name: _mean(name, [(part, found[name]) for part, found in parts if part], total) for name in values}


@contextmanager
def _unheard() -> Iterator[None]:
    """LightGBM's thread that listens prints that it does, whatever level is set, as each of its threads has its own."""
    kept, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nothing)


def _mean(name: str, parts: list[tuple[float, float]], total: float) -> float:
    if name in _ROOTS:
        return math.sqrt(math.fsum(weight * value**2 for weight, value in parts) / total)
    return math.fsum(weight * value for weight, value in parts) / total
