"""Trees of LightGBM as a `TreeEnsemble` in double precision: each comparison is the one that LightGBM makes.

Features are float32, and a float32 is a double: a row takes the same branches as in `models.trees`, and leaves, which
are doubles, are added in double. Numbers up to 1e-35 are 0 to LightGBM, and here. What differs is the order of the sum,
some 1e-16 of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import TensorProto

from shardwise.deploy.onnx_export.graph import ML, Graph, refused, tensor
from shardwise.models.trees_parsed import CATEGORICAL, DEFAULT_LEFT, NAN, TINY, ZERO, ParsedTree, parse_trees

_LEQ, _MEMBER = 0, 6  # modes of a node
_NO_CODE = -1.0


def ensemble(graph: Graph, X: str, trees: Iterable[str], outputs: int) -> str:
    """Raw scores, double `[rows, outputs]`, of X float32 `[rows, features]` by LightGBM's texts of trees."""
    parts = _Parts()
    for number, tree in enumerate(parse_trees(trees)):
        parts.add(tree, number % outputs)
    is_zero = graph.op("LessOrEqual", graph.op("Abs", X), np.float32(TINY))
    read = graph.op("Where", is_zero, np.float32(0), X)
    return graph.op(
        "TreeEnsemble", graph.cast(read, TensorProto.DOUBLE), domain=ML, n_targets=outputs, aggregate_function=1,
        post_transform=0, tree_roots=parts.roots, nodes_featureids=parts.features, nodes_modes=parts.bytes_("modes"),
        nodes_splits=parts.doubles("splits"), nodes_truenodeids=parts.children[0], nodes_trueleafs=parts.is_leaf[0],
        nodes_falsenodeids=parts.children[1], nodes_falseleafs=parts.is_leaf[1],
        nodes_missing_value_tracks_true=parts.missing, membership_values=parts.doubles("members"),
        leaf_targetids=parts.targets, leaf_weights=parts.doubles("weights"),
    )  # fmt: skip


@dataclass
class _Parts:
    """The attributes of the operator, tree after tree. Of `children` and `is_leaf` the first is the left one."""

    roots: list[int] = field(default_factory=list)
    features: list[int] = field(default_factory=list)
    modes: list[int] = field(default_factory=list)
    splits: list[float] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    members: list[float] = field(default_factory=list)  # sets that end with NaN, of the nodes that ask for a member
    children: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    is_leaf: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    targets: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def add(self, tree: ParsedTree, target: int) -> None:
        node, leaf = len(self.features), len(self.weights)
        self.roots.append(node)
        self.weights += tree.value.tolist()
        self.targets += [target] * len(tree.value)
        if not len(tree.feature):  # a single leaf: a node both of whose branches end there
            self._split(0, _LEQ, 0.0, is_left=False)
            self._branches([-1], [-1], node, leaf)
            return
        for number in range(len(tree.feature)):
            self._condition(tree, number)
        self._branches(tree.left.tolist(), tree.right.tolist(), node, leaf)

    def _condition(self, tree: ParsedTree, number: int) -> None:
        decision, threshold = int(tree.decision[number]), float(tree.threshold[number])
        if decision & CATEGORICAL:
            bits = tree.bitsets[int(threshold)].astype("<u4").view(np.uint8)
            codes = np.flatnonzero(np.unpackbits(bits, bitorder="little")).astype(np.float64)
            self.members += [*(codes.tolist() or [_NO_CODE]), float("nan")]
            self._split(int(tree.feature[number]), _MEMBER, 0.0, is_left=False)
            return
        kind = (decision >> 2) & 3
        if kind == ZERO:
            raise refused("a tree", "it counts zeros as missing")
        is_left = bool(decision & DEFAULT_LEFT) if kind == NAN else threshold >= 0.0  # LightGBM reads NaN as 0
        self._split(int(tree.feature[number]), _LEQ, threshold, is_left=is_left)

    def _split(self, feature: int, mode: int, threshold: float, *, is_left: bool) -> None:
        self.features.append(feature)
        self.modes.append(mode)
        self.splits.append(threshold)
        self.missing.append(int(is_left))

    def _branches(self, left: Sequence[int], right: Sequence[int], node: int, leaf: int) -> None:
        """Children below 0 are leaves, `~child` their numbers."""
        for side, branch in enumerate((left, right)):
            self.children[side].extend(leaf + ~child if child < 0 else node + child for child in branch)
            self.is_leaf[side].extend(int(child < 0) for child in branch)

    def doubles(self, name: str) -> object:
        return tensor(name, np.array(getattr(self, name), np.float64))

    def bytes_(self, name: str) -> object:
        return tensor(name, np.array(getattr(self, name), np.uint8))
