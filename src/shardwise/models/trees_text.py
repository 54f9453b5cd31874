"""LightGBM's text model in parts, and from codes to raw values: the same trees, with bounds in the place of codes.

Trees are learned on the codes of `data.bins`. A split `code <= k` is the split `x <= b_k`; a category's code is its
number. So a model that was learned on the codes of some features predicts on float32 rows of all features once its
thresholds, the numbers of its features and its header are written anew. The format is that of LightGBM 3 and 4, "v4":
a header, `Tree=0` ..., `end of trees`, importances, params. Kept and saved texts are compressed, to a third; `zstd -d`
gives what LightGBM reads.

Thousands of trees are hundreds of megabytes of text, of which LightGBM, ctypes and Python would hold a copy each, just
when a fit holds most. So trees are asked for a megabyte at a time, changed one by one, and packed.
"""

import ctypes
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pyarrow as pa

from shardwise.core.errors import PackageError
from shardwise.core.schema import Feature, FeatureKind
from shardwise.data.bins import Binner
from shardwise.models.trees_row import call

PART_BYTES = 2**20  # of text that is asked for, or packed, at once
_PARAMETERS = re.compile(r"\nparameters:\n.*?\nend of parameters\n", re.DOTALL)
_IMPORTANCES = re.compile(r"\nfeature_importances:\n(?:[^\n]+\n)*")
_SIZES = re.compile(r"\ntree_sizes=[^\n]*")
_TREE = "Tree="
_END = "end of trees"
_CATEGORICAL = 1  # bit of a decision type
_FILE, _PLAIN_FILE = "model.txt.zst", "model.txt"  # the second one was written before texts were compressed
_LEVEL = 3  # of zstd: 3.1 times smaller at 150 MB/s; level 9 makes it 3.3 times at 27 MB/s


def column_names(binner: Binner) -> list[str]:
    """Names under which LightGBM knows the binned features: those of the columns of the whole matrix."""
    return [f"Column_{column}" for column in binner.columns.tolist()]


@dataclass(frozen=True)
class PackedText:
    """A model's text, compressed in `frames` that follow each other; `sha256` is that of the text."""

    frames: tuple[bytes, ...]
    sha256: str

    def text(self) -> str:
        """What LightGBM reads; raises `PackageError` when it is not the text of that hash."""
        return self._content().decode()

    def booster(self) -> lgb.Booster:
        """LightGBM's model, read from one copy of the text: its own constructor holds three. Raises as `text`."""
        content = self._content()
        second = content.find(b"\nTree=1\n")
        shell = content if second < 0 else content[:second] + f"\n{_END}\n".encode()
        booster = lgb.Booster(model_str=_SIZES.sub("", shell.decode()))
        content.append(0)
        handle, rounds = ctypes.c_void_p(), ctypes.c_int()
        text = (ctypes.c_char * len(content)).from_buffer(content)
        call("LGBM_BoosterLoadModelFromString", text, ctypes.byref(rounds), ctypes.byref(handle))
        call("LGBM_BoosterFree", booster._handle)
        booster._handle = handle
        return booster

    def _content(self) -> bytearray:
        content = bytearray()
        try:
            for frame in self.frames:
                for part in _stream(frame):
                    content += part
        except OSError as error:
            raise _damaged() from error
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise _damaged()
        return content

    def write(self, folder: Path) -> None:
        """Save in `folder`, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / _FILE, "wb") as file:
            file.writelines(self.frames)

    @classmethod
    def read(cls, folder: Path, sha256: str) -> "PackedText":
        """What `write` saved, of that hash; raises `PackageError` when it is not there."""
        plain = folder / _PLAIN_FILE
        try:
            frame = _compressed(plain.read_bytes()) if plain.exists() else (folder / _FILE).read_bytes()
        except OSError as error:
            raise _damaged() from error
        return cls((frame,), sha256)


@dataclass(frozen=True)
class ModelText:
    """A model's text in parts. `trees` may be an iterator: it can be gone through once, and nothing is held."""

    head: str
    trees: Iterable[str]
    tail: str

    @classmethod
    def parse(cls, text: str) -> "ModelText":
        head, *pieces = text.split(f"\n{_TREE}")
        last, tail = pieces[-1].split(_END, 1)
        return cls(head, [f"{_TREE}{piece}" for piece in [*pieces[:-1], last.removesuffix("\n")]], tail)

    @classmethod
    def of(cls, booster: lgb.Booster, rounds: int | None = None) -> "ModelText":
        """The text of so many rounds of a booster (None: of all), which must live until its trees are gone through.

        Without the section of parameters, which tells of the machine (threads) and of defaults, and that of
        importances, which LightGBM takes from the trees: of trees from a checkpoint it would write other digits.
        """
        rounds = booster.current_iteration() if rounds is None else rounds
        first = cls.parse(booster.model_to_string(num_iteration=1))
        trees = list(first.trees)

        def all_trees() -> Iterator[str]:
            yield from trees
            start, step, size = 1, 1, sum(map(len, trees))  # the first rounds may be stumps: slowly up to a part
            while start < rounds:
                step = min(max(1, PART_BYTES // max(1, size)), 2 * step, rounds - start)
                found = list(cls.parse(booster.model_to_string(start_iteration=start, num_iteration=step)).trees)
                for number, tree in enumerate(found, start * len(trees)):
                    yield "\n".join([f"{_TREE}{number}", tree.split("\n", 1)[1]])
                start, size = start + step, max(size, sum(map(len, found)) // step)

        return cls(first.head, all_trees(), _IMPORTANCES.sub("", _PARAMETERS.sub("\n", first.tail)))

    def changed(self, change: Callable[[int, str], str], head: str | None = None) -> "ModelText":
        """Each tree's own text changed, by its place."""
        trees = (change(place, tree) for place, tree in enumerate(self.trees))
        return ModelText(self.head if head is None else head, trees, self.tail)

    def packed(self) -> PackedText:
        """Compressed; the header tells the sizes of the trees."""
        sizes: list[str] = []
        frames = [_compressed(part) for part in _parts(self.trees, sizes)]
        head = _replaced(self.head, {"tree_sizes": " ".join(sizes)})
        frames = [_compressed(f"{head}\n".encode()), *frames, _compressed(f"{_END}{self.tail}".encode())]
        digest = hashlib.sha256()
        for frame in frames:
            for part in _stream(frame):
                digest.update(part)
        return PackedText(tuple(frames), digest.hexdigest())


def _parts(trees: Iterable[str], sizes: list[str]) -> Iterator[bytes]:
    """Texts of trees, a megabyte or more together; the size of each goes into `sizes`."""
    held: list[bytes] = []
    held_bytes = 0
    for tree in trees:
        content = f"{tree}\n".encode()
        sizes.append(str(len(content)))
        held.append(content)
        held_bytes += len(content)
        if held_bytes >= PART_BYTES:
            yield b"".join(held)
            held, held_bytes = [], 0
    if held:
        yield b"".join(held)


def _compressed(content: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd", compression_level=_LEVEL).compress(content, asbytes=True)
    return packed


def _stream(frame: bytes) -> Iterator[bytes]:
    with pa.input_stream(pa.BufferReader(frame), compression="zstd") as stream:
        while part := stream.read(PART_BYTES):
            yield part


def _damaged() -> PackageError:
    return PackageError("the trees are damaged", hint="Take the package from its source again.")


def on_raw_values(text: ModelText, binner: Binner, features: Sequence[Feature]) -> ModelText:
    """The text of a model that was learned on codes, for float32 rows `(rows, features)`."""
    spelled = _Spelled(binner)
    return text.changed(lambda _, tree: _tree(tree, binner, spelled), _header(text.head, binner, features))


class _Spelled(dict[int, list[str]]):
    """The bounds of each feature as text, of those that trees ask for."""

    def __init__(self, binner: Binner) -> None:
        super().__init__()
        self._binner = binner

    def __missing__(self, feature: int) -> list[str]:
        self[feature] = [repr(float(bound)) for bound in self._binner.bounds[feature]]
        return self[feature]


def shifted(text: ModelText, start: Sequence[float]) -> ModelText:
    """The text of a model whose first trees, one for each score, hold these scores too.

    LightGBM does so with the average from which it starts by itself, and not with scores that it is given.
    """
    return text.changed(lambda place, tree: _moved(tree, 1.0, start[place]) if place < len(start) else tree)


def scaled(text: ModelText, factor: float, start: Sequence[float]) -> ModelText:
    """The text of a model whose scores are those of `text` times a factor, plus `start`, which the first trees hold."""
    own = dict(enumerate(start))
    return text.changed(lambda place, tree: _moved(tree, factor, own.get(place, 0.0)))


def _moved(tree: str, factor: float, score: float) -> str:
    fields = dict(line.split("=", 1) for line in tree.splitlines() if "=" in line)
    moved: dict[str, str] = {
        name: " ".join(repr(float(value) * factor + score) for value in fields[name].split())
        for name in fields
        if name in ("leaf_value", "internal_value")
    }
    return _replaced(tree, moved)


def _header(head: str, binner: Binner, features: Sequence[Feature]) -> str:
    return _replaced(
        head,
        {
            "max_feature_idx": str(len(features) - 1),
            "feature_names": " ".join(f"Column_{i}" for i in range(len(features))),
            "feature_infos": " ".join(_infos(binner, features)),
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


def _tree(text: str, binner: Binner, spelled: Mapping[int, Sequence[str]]) -> str:
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
