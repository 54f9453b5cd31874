"""LightGBM's text model, from codes to raw values: the same trees, with bounds in the place of codes.

Trees are learned on the codes of `data.bins`. A split `code <= k` is the split `x <= b_k`; a category's code is its
number. So a model that was learned on the codes of some features predicts on float32 rows of all features once its
thresholds, the numbers of its features and its header are written anew. The format is that of LightGBM 3 and 4, "v4":
a header, `Tree=0` ..., `end of trees`, importances, params. Saved texts are compressed, to a third; `zstd -d` gives
what LightGBM reads.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from shardwise.core.errors import PackageError
from shardwise.core.schema import Feature, FeatureKind
from shardwise.data.bins import Binner

_PARAMETERS = re.compile(r"\nparameters:\n.*?\nend of parameters\n", re.DOTALL)
_IMPORTANCES = re.compile(r"\nfeature_importances:\n(?:[^\n]+\n)*")
_TREE = "Tree="
_END = "end of trees"
_CATEGORICAL = 1  # bit of a decision type
_FILE, _PLAIN_FILE = "model.txt.zst", "model.txt"  # the second one was written before texts were compressed
_LEVEL = 3  # of zstd: 3.1 times smaller at 150 MB/s; level 9 makes it 3.3 times at 27 MB/s


def column_names(binner: Binner) -> list[str]:
    """Names under which LightGBM knows the binned features: those of the columns of the whole matrix."""
    return [f"Column_{column}" for column in binner.columns.tolist()]


def without_parameters(text: str) -> str:
    """The model without the section of parameters, which tells of the machine (threads) and of defaults.

    Nor has it that of importances, which LightGBM takes from the trees: of trees that were read from a checkpoint it
    would write other digits.
    """
    return _IMPORTANCES.sub("", _PARAMETERS.sub("\n", text))


def on_raw_values(text: str, binner: Binner, features: Sequence[Feature]) -> str:
    """The text of a model that was learned on codes, for float32 rows `(rows, features)`."""
    head, *pieces = without_parameters(text).split(f"\n{_TREE}")
    last, tail = pieces[-1].split(_END, 1)
    spelled = [[repr(float(bound)) for bound in bounds] for bounds in binner.bounds]
    trees = [_tree(f"{_TREE}{piece}", binner, spelled) for piece in [*pieces[:-1], last.removesuffix("\n")]]
    sizes = " ".join(str(len(tree.encode()) + 1) for tree in trees)
    return "\n".join([_header(head, binner, features, sizes), *trees, _END]) + tail


def shifted(text: str, start: Sequence[float]) -> str:
    """The text of a model whose first trees, one for each score, hold these scores too.

    LightGBM does so with the average from which it starts by itself, and not with scores that it is given.
    """
    return _of_trees(text, lambda place, tree: _moved(tree, 1.0, start[place]) if place < len(start) else tree)


def scaled(text: str, factor: float, start: Sequence[float]) -> str:
    """The text of a model whose scores are those of `text` times a factor, plus `start`, which the first trees hold."""
    own = dict(enumerate(start))
    return _of_trees(text, lambda place, tree: _moved(tree, factor, own.get(place, 0.0)))


def _of_trees(text: str, change: Callable[[int, str], str]) -> str:
    """The text with each tree's own changed, by its place."""
    head, *pieces = text.split(f"\n{_TREE}")
    last, tail = pieces[-1].split(_END, 1)
    trees = [change(i, f"{_TREE}{piece}") for i, piece in enumerate([*pieces[:-1], last.removesuffix("\n")])]
    sizes = " ".join(str(len(tree.encode()) + 1) for tree in trees)
    return "\n".join([_replaced(head, {"tree_sizes": sizes}), *trees, _END]) + tail


def _moved(tree: str, factor: float, score: float) -> str:
    fields = dict(line.split("=", 1) for line in tree.splitlines() if "=" in line)
    moved: dict[str, str] = {
        name: " ".join(repr(float(value) * factor + score) for value in fields[name].split())
        for name in fields
        if name in ("leaf_value", "internal_value")
    }
    return _replaced(tree, moved)


def _header(head: str, binner: Binner, features: Sequence[Feature], sizes: str) -> str:
    return _replaced(
        head,
        {
            "max_feature_idx": str(len(features) - 1),
            "feature_names": " ".join(f"Column_{i}" for i in range(len(features))),
            "feature_infos": " ".join(_infos(binner, features)),
            "tree_sizes": sizes,
        },
    )


def _infos(binner: Binner, features: Sequence[Feature]) -> list[str]:
    """What LightGBM writes of the training values: a range, the categories, or none."""
    infos = ["none"] * len(features)
    for column, bounds in zip(binner.columns.tolist(), binner.bounds, strict=True):
        if features[column].kind is FeatureKind.CODE:
            infos[column] = ":".join(map(str, range(len(bounds) + 1)))
        elif len(bounds):
            infos[column] = f"[{float(bounds[0])!r}:{float(bounds[-1])!r}]"
    return infos


def _tree(text: str, binner: Binner, spelled: Sequence[Sequence[str]]) -> str:
    """A tree whose `code <= k` is `x <= bound k`; a split beyond the last bound parts the missing ones, and stays."""
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if not fields.get("split_feature"):
        return text
    split = np.array(fields["split_feature"].split(), np.int64)
    kinds = np.array(fields["decision_type"].split(), np.int64)
    thresholds, numbers = fields["threshold"].split(), split.tolist()
    for i in np.flatnonzero((kinds & _CATEGORICAL) == 0).tolist():
        bounds, code = spelled[numbers[i]], float(thresholds[i])
        thresholds[i] = bounds[int(code)] if code < len(bounds) else repr(code)
    columns = " ".join(map(str, binner.columns[split].tolist()))
    return _replaced(text, {"split_feature": columns, "threshold": " ".join(thresholds)})


def _replaced(text: str, values: Mapping[str, str]) -> str:
    """The text with new values in some of its `name=value` lines."""
    lines = text.split("\n")
    for i, line in enumerate(lines):
        name = line.partition("=")[0]
        if name in values:
            lines[i] = f"{name}={values[name]}"
    return "\n".join(lines)


def write_text(folder: Path, text: str) -> str:
    """Save a model's text, compressed, in `folder`, which is made if need be; returns the SHA-256 of the text."""
    content = text.encode()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _FILE).write_bytes(pa.Codec("zstd", compression_level=_LEVEL).compress(content, asbytes=True))
    return hashlib.sha256(content).hexdigest()


def read_text(folder: Path, sha256: str) -> str:
    """What `write_text` saved; raises `PackageError` for another text than the one of that hash."""
    content, plain = b"", folder / _PLAIN_FILE
    try:
        if plain.exists():
            content = plain.read_bytes()
        else:
            with pa.input_stream(folder / _FILE, compression="zstd") as stream:
                content = stream.read()
    except OSError as error:  # also of zstd
        raise _damaged(folder) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise _damaged(folder)
    return content.decode()


def _damaged(folder: Path) -> PackageError:
    return PackageError("the trees are damaged", hint="Take the package from its source again.", path=str(folder))
