"""What a prediction takes, by arithmetic: seconds of one core for a row in a large batch.

The same on every machine, as what is served depends on it; the coefficients are those of the machine on which
`benchmarks/bench_ensemble.py` measured them, rather too high than too low.
"""

import math
from collections.abc import Mapping, Sequence

from shardwise.core.candidate import Candidate
from shardwise.core.schema import Feature, copies
from shardwise.models.adaboost import AdaBoostParams
from shardwise.models.families import NETWORKS
from shardwise.models.forest import ForestParams
from shardwise.models.neural.grids.families import CnnParams, RnnParams
from shardwise.models.neural.grids.trunks import Trunk
from shardwise.models.neural.model import NeuralParams
from shardwise.models.params import parse_params
from shardwise.models.svm import SVMParams
from shardwise.models.trees_bits import MOST_LEAVES
from shardwise.models.trees_params import TreesParams

BITS_S = 3.5e-9, 0.12e-9  # of a tree, and of each of its leaves, in bits
WALKED_S = 20e-9, 0.6e-9  # by LightGBM, where a tree has more leaves
GROWN: Mapping[str, type[TreesParams | ForestParams | AdaBoostParams]] = {
    "trees": TreesParams, "forest": ForestParams, "adaboost": AdaBoostParams,
}  # fmt: skip
CATBOOST_S = 1.5e-9  # of a round of CatBoost, for each score
TERM_S = 5e-9  # of a feature in a linear model, for each score
CELL_S = 1.7e-10  # of a weight of a network
WAVE_S = 3.2e-8  # of a random feature of a Gaussian kernel: its cosine
ENCODED_S = 1.5e-7  # of a feature: to encode it


def batch_s(candidate: Candidate, rounds: float, outputs: int, features: Sequence[Feature]) -> float:
    """Seconds a row of a model that was boosted for `rounds`, or a family that has none."""
    if candidate.family in GROWN:
        leaves = parse_params(GROWN[candidate.family], candidate.family, candidate.params).num_leaves
        tree_s, leaf_s = BITS_S if leaves <= MOST_LEAVES else WALKED_S
        return rounds * outputs * (tree_s + leaf_s * leaves)
    if candidate.family == "catboost":
        return rounds * outputs * CATBOOST_S
    if candidate.family == "linear":
        return TERM_S * len(features) * outputs
    if candidate.family == "svm":
        svm, linear_s = parse_params(SVMParams, "svm", candidate.params), TERM_S * len(features) * outputs
        waves = svm.n_components if svm.kernel == "rbf" else 0
        return linear_s + waves * (WAVE_S + (len(features) + outputs) * CELL_S)
    if candidate.family in NETWORKS:
        return CELL_S * row_products(candidate, len(features), outputs, len(copies(features)))[1]
    return 0.0


def row_products(candidate: Candidate, features: int, outputs: int, copied: int = 0) -> tuple[NeuralParams, int]:
    """Params of a network, and its multiply-adds for a row; it may do without the `copied` of its features.

    A `cnn` or `rnn` as if all features were a square image, or a sequence of one channel.
    """
    trunk: Trunk | None = None
    if candidate.family == "cnn":
        params: NeuralParams = (cnn := parse_params(CnnParams, "cnn", candidate.params))
        side = max(1, math.isqrt(features))
        trunk = cnn.trunk(side, side, 1)
    elif candidate.family == "rnn":
        params = rnn = parse_params(RnnParams, "rnn", candidate.params)
        trunk = rnn.trunk(max(1, features), 1)
    else:
        params = parse_params(NeuralParams, "neural", candidate.params)
    features -= 0 if params.use_copies else copied
    inputs = features * params.usual_embedding(features) if trunk is None else trunk.outputs
    head = params.members * params.width * (inputs + (params.depth - 1) * params.width + outputs)
    return params, head + (0 if trunk is None else trunk.products)


def rounds_within(candidate: Candidate, row_s: float, outputs: int) -> float:
    """Rounds of trees that take so many seconds for a row."""
    return row_s / batch_s(candidate, 1.0, outputs, ())


def encode_s(features: Sequence[Feature]) -> float:
    """Seconds a row to encode its features."""
    return ENCODED_S * len(features)
