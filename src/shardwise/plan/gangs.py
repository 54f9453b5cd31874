"""How many workers fit one model together, what that gains, and what each of them needs. Pure.

Notation: m members, n training rows, f binned features. A tree learner of m members has `n / m` rows of codes and the
histograms of all; a network, a linear model or a support vector machine has all labels, the order of the rows and its
slices of a minibatch. With m members the work of a fit takes `m ** GAIN` times less; beside it members start, and talk
in each step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shardwise.core.parallel import Parallel, Split
from shardwise.core.schema import Feature
from shardwise.core.target import Target
from shardwise.models.families import FAMILIES, NETWORKS
from shardwise.models.forest import ForestParams
from shardwise.models.neural.model import Neural
from shardwise.models.neural.parts.cuts import Cuts
from shardwise.models.neural.shape import Shape
from shardwise.models.sgd import SCORED_ROWS
from shardwise.models.trees_gang import most_leaves, most_members
from shardwise.plan.memory import LARGE_LEAVES, PROCESS_BYTES, trees_bytes
from shardwise.plan.sizes import Sizes
from shardwise.plan.splits import TORCH_BYTES, choose_split, parameters, part_bytes, training_bytes
from shardwise.plan.training import LARGE_ROWS

SLICES = 8  # of a minibatch: at most so many members share a network or a linear model
CUT = "neural"  # the family of networks that can lie in parts
ASKED = frozenset({"linear", "svm", "forest"})  # shared when asked: a step or split takes less than an exchange
CLUSTERS = ("ray", "spark")  # engines with machines of their own that can start members together
GAIN = 0.8  # 2 members are 1.7 times as fast
START_S = {"local": 2.0, "ray": 4.0, "spark": 4.0}  # for the members to start and to find each other
_OWN_OUTPUT = 16  # bytes of a row and output that gradients of our own take
_ORDER_ROW = 16  # bytes of a label and a place in the order, of which each member of a network has all


@dataclass(frozen=True, kw_only=True)
class Choice:
    """`size` members fit one model of these `families` together (1: none does); `text` says why, in a sentence."""

    size: int
    families: frozenset[str] = frozenset()
    text: str
    split: Split | None = None  # where networks lie in parts

    def members(self, family: str, params: Mapping[str, Any], *, quantile: bool, rows: int) -> int:
        """How many fit a model of these params on `rows` rows: some objectives and few rows are left to one."""
        if self.split is not None:
            return self.size if family in self.families else 1
        of_trees = FAMILIES[family].traits.reads == "bins"
        alone = quantile or params.get("objective") == "l1" or params.get("extra_trees")
        if family not in self.families or (family == "trees" and alone):
            return 1
        return min(self.size, most_members(rows) if of_trees else SLICES)


@dataclass(frozen=True, kw_only=True)
class Networks:
    """The shapes of the networks that will be trained, and the memory of a worker."""

    shapes: Sequence[Shape] = ()
    worker_bytes: int | None = None

    def choice(self, asked: Parallel, workers: int) -> Choice | None:
        """In parts, where they are asked for or needed."""
        split, text = choose_split(asked, self.shapes, workers=workers, worker_bytes=self.worker_bytes)
        if split is None:
            return None
        return Choice(size=workers, families=frozenset({CUT}), text=text, split=split)


NO_NETWORKS = Networks()


def network_shapes(
    target: Target, features: Sequence[Feature], families: Sequence[str], held: Mapping[str, Mapping[str, Any]]
) -> tuple[Shape, ...]:
    """Of the network that can lie in parts, as it is tried first, where its family is named."""
    if CUT not in families:
        return ()
    return (Neural(target, features, **held.get(CUT, {})).shape,)


def choose_parallel(
    asked: str, *, engine: str, workers: int, rows: int, families: Sequence[str], networks: Networks = NO_NETWORKS
) -> Choice:
    """What `--parallel` comes to: all but `auto` as asked, `auto` by these numbers.

    A network whose training does not fit into the memory of a worker lies in parts (`plan.splits`).

    Below a million rows many models side by side use the workers better than one on all of them. Above, one model is
    fitted at a time: on this machine LightGBM uses all cores in one process, and a network one core; on a cluster
    either would leave all machines but one idle.

    >>> choose_parallel("auto", engine="local", workers=2, rows=50_000, families=()).size
    1
    """
    able = frozenset(name for name, family in FAMILIES.items() if family.traits.parallel)
    wanted = able & frozenset(families or able)
    together = engine == "local" or engine in CLUSTERS
    parts = networks.choice(Parallel.parse(asked), workers) if together else None
    if parts is not None:
        return parts
    if asked == "none" or workers == 1:
        why = "it was asked for" if asked == "none" else "there is one worker"
        return Choice(size=1, text=f"Each model is fitted by one worker, as {why}.")
    if asked == "data":
        names = ", ".join(sorted(wanted))
        return Choice(
            size=workers, families=wanted, text=f"Each model ({names}) is fitted by {workers} workers, as asked."
        )
    if rows < LARGE_ROWS:
        few = f"with {rows:,} rows (below {LARGE_ROWS:,}) many side by side gain more"
        return Choice(size=1, text=f"Each model is fitted by one worker: {few}.")
    if engine in CLUSTERS:
        text = f"With {rows:,} rows one model is fitted at a time, by {workers} workers of the cluster together."
        return Choice(size=workers, families=wanted - ASKED, text=text)
    neural = frozenset(NETWORKS) & frozenset(families)
    if engine == "local" and neural:
        text = f"With {rows:,} rows one model is fitted at a time; networks, of one thread each, by {workers} workers."
        return Choice(size=workers, families=neural, text=text)
    text = f"With {rows:,} rows one model is fitted at a time, by one worker on all cores."
    return Choice(size=1, text=text)


def shared_terms(terms: Mapping[str, float], members: int, split: Split | None = None) -> dict[str, float]:
    """Terms of the seconds of a fit by one, as several share them: all but what does not depend on the data.

    Members that have parts of a network gain as many times as they share the rows: parts make it fit, not faster.
    """
    sharing = members if split is None or split.kind == "embedding" else max(1, members // split.parts)
    gain = sharing**GAIN
    return {name: value if name == "one" else value / gain for name, value in terms.items()}


def starting_s(engine: str, fits: int) -> float:
    """Seconds until members have found each other: before the first of the fits, on a cluster before each."""
    return START_S.get(engine, 0.0) * (1 if engine == "local" else fits)


def member_bytes(
    sizes: Sizes, members: int, families: frozenset[str], *, shapes: Sequence[Shape] = (), split: Split | None = None
) -> int:
    """Memory of one of the members of a gang, its process included: of the family that needs most.

    `shapes` are those of the networks, which lie in parts where there is a `split`; None: each member has a whole one.

    >>> sizes = Sizes(rows=10**7, columns={"number": 30}, features=30, train_rows=10**7)
    >>> member_bytes(sizes, 2, frozenset({"trees"})) < 0.6 * member_bytes(sizes, 1, frozenset({"trees"}))
    True
    """
    grown = frozenset(name for name in families if FAMILIES[name].traits.reads == "bins")
    needed = max((_grown_bytes(name, sizes, members) for name in grown), default=0)
    read = sizes.train_rows * _ORDER_ROW + min(sizes.valid_rows, SCORED_ROWS) * 4 * sizes.features
    if families - {*grown, *NETWORKS}:
        needed = max(needed, PROCESS_BYTES + read)
    if families & set(NETWORKS):
        learned = max((_network_bytes(shape, members, split) for shape in shapes), default=0)
        needed = max(needed, TORCH_BYTES + read + learned)
    return needed


def _grown_bytes(family: str, sizes: Sizes, members: int) -> int:
    """Of a member that grows trees, its process included."""
    rows, valid_rows = -(-sizes.train_rows // members), -(-sizes.valid_rows // members)
    leaves, own = LARGE_LEAVES, 0 if family == "trees" else rows * sizes.outputs * _OWN_OUTPUT
    if family == "forest":
        leaves = most_leaves(ForestParams().num_leaves, sizes.seen)
    return PROCESS_BYTES + own + trees_bytes(rows, sizes.seen, sizes.outputs, valid_rows=valid_rows, leaves=leaves)


def _network_bytes(shape: Shape, members: int, split: Split | None) -> int:
    """What training takes in a member, beside its process and the rows."""
    if split is None:
        return training_bytes(parameters(shape))
    return part_bytes(Cuts(shape, split.on(members), members))
