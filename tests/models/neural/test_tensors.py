from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shardwise.core.errors import PackageError
from shardwise.models.neural.tensors import dump_tensors, load_tensors, read_tensors

SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
TENSORS = st.dictionaries(
    st.text(max_size=8).filter(lambda name: name != "__metadata__"),
    st.sampled_from([np.float32, np.float64, np.int64]).flatmap(lambda kind: arrays.arrays(kind, SHAPES)),
    max_size=4,
)
META = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2)


@given(TENSORS, META)
def test_what_was_written_is_read(tensors: dict[str, np.ndarray], meta: dict[str, str]) -> None:
    content = dump_tensors(tensors, meta)
    read, found = load_tensors(content)
    assert found == meta
    assert read.keys() == tensors.keys()
    for name, array in tensors.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
    assert dump_tensors(dict(reversed(read.items())), found) == content


def test_the_library_reads_ours_and_we_read_its(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    tensors = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array(3, np.int64), "e": np.zeros((0, 4))}
    for name, array in library.load(dump_tensors(tensors)).items():
        np.testing.assert_array_equal(array, tensors[name])
    (tmp_path / "x.safetensors").write_bytes(library.save(tensors, {"k": "v"}))
    read, meta = read_tensors(tmp_path / "x.safetensors")
    assert meta == {"k": "v"}
    assert all((read[name] == tensors[name]).all() for name in tensors)


@given(st.binary(max_size=40))
def test_other_bytes_are_an_error_of_the_package(content: bytes) -> None:
    with pytest.raises(PackageError, match="damaged"):
        load_tensors(content)


@given(st.integers(0, 90))
def test_a_file_that_is_cut_is_an_error(length: int) -> None:
    whole = dump_tensors({"w": np.arange(8.0)})
    with pytest.raises(PackageError, match="damaged"):
        load_tensors(whole[: min(length, len(whole) - 1)])
