"""Whether networks lie in parts, and the sentence that says so."""

import pytest

from shardwise.core.errors import ConfigError
from shardwise.core.parallel import Parallel, Split
from shardwise.models.neural.shape import Shape
from shardwise.plan.gangs import Networks, choose_parallel
from shardwise.plan.splits import TORCH_BYTES, choose_split, parameters, training_bytes

DENSE = Shape(
    numbers=20, codes=0, slots=0, scores=1, members=4, width=8192, depth=3, knots=8, embedding=8, code_embedding=8
)
TABLE = Shape(**{**vars(DENSE), "codes": 2, "slots": 4_000_000, "width": 128})
NEEDED = training_bytes(parameters(DENSE))


@pytest.mark.parametrize(
    ("shape", "workers", "share", "found"),
    [
        (DENSE, 4, 1.1, None),
        (DENSE, 1, 0.3, None),
        (DENSE, 4, 0.6, Split(kind="tensor", parts=2)),
        (DENSE, 4, 0.13, Split(kind="tensor", parts=4)),
        (DENSE, 6, 0.12, Split(kind="tensor", parts=2)),
        (TABLE, 4, 0.3, Split(kind="embedding", parts=4)),
    ],
)
def test_auto_takes_few_parts_that_fit(shape: Shape, workers: int, share: float, found: Split | None) -> None:
    worker_bytes = int(share * training_bytes(parameters(shape))) + TORCH_BYTES
    split, text = choose_split(Parallel("auto"), [shape], workers=workers, worker_bytes=worker_bytes)
    assert split == found
    if found is not None:
        assert f"{parameters(shape):,} parameters lie in {found.parts} parts" in text
        assert "to train, and a worker has" in text


def test_a_layer_too_narrow_to_be_cut_is_no_choice() -> None:
    narrow = Shape(**{**vars(DENSE), "width": 2, "numbers": 500_000})
    split, text = choose_split(Parallel("auto"), [narrow], workers=3, worker_bytes=TORCH_BYTES + 1)
    assert split == Split(kind="pipeline", parts=3)
    assert "even so it may not suffice" in text


def test_the_choice_of_a_run_has_the_split_for_networks_alone() -> None:
    networks = Networks(shapes=[DENSE], worker_bytes=int(0.6 * NEEDED) + TORCH_BYTES)
    families = ("neural", "trees")
    choice = choose_parallel("auto", engine="local", workers=4, rows=1000, families=families, networks=networks)
    assert choice.split == Split(kind="tensor", parts=2)
    assert choice.members("neural", {}, quantile=True, rows=10) == 4
    assert choice.members("trees", {}, quantile=False, rows=10**6) == 1
    few = choose_parallel("auto", engine="dask", workers=4, rows=1000, families=families, networks=networks)
    assert few.split is None


@pytest.mark.parametrize("workers", [1, 3])
def test_fewer_workers_than_parts_is_said_in_a_paragraph(workers: int) -> None:
    with pytest.raises(ConfigError, match=f"in 2 parts was asked for, of {workers} worker") as caught:
        choose_split(Parallel.parse("pipeline:2"), [DENSE], workers=workers, worker_bytes=None)
    assert "--workers 2 or a multiple" in caught.value.hint


def test_what_is_asked_for_is_told_with_numbers() -> None:
    split, text = choose_split(Parallel.parse("tensor:2"), [DENSE], workers=4, worker_bytes=None)
    assert split == Split(kind="tensor", parts=2)
    assert "2 parts and the rows in 2 shares on 4 workers (tensor), as asked" in text
    assert "% of them" in text


@pytest.mark.parametrize("text", ["tensr", "tensor:1", "tensor:x", "data:2", "embedding:2"])
def test_a_kind_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"parallel is '{text}'"):
        Parallel.parse(text)
