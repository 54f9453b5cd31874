"""Advice keeps its bounds, whatever the sizes are."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.core.errors import ConfigError
from shardwise.plan.advice import MEMORY_SHARE, USUAL_BYTES, WAVES, Workload, advise

GB = 10**9
USUAL = Workload(size_bytes=100 * GB, memory_bytes=32 * GB, bandwidth_bytes_s=GB, workers=8)

workloads = st.builds(
    Workload,
    size_bytes=st.integers(1, 10**13),
    memory_bytes=st.integers(10**8, 10**12),
    bandwidth_bytes_s=st.floats(1e6, 1e10),
    share=st.floats(0.01, 1.0),
    expansion=st.floats(0.5, 300),
    workers=st.integers(1, 64),
    passes=st.integers(1, 20),
    engine=st.sampled_from(["local", "ray", "spark"]),
)


@given(workloads)
def test_memory_is_a_ceiling_and_the_partitions_hold_the_data(work: Workload) -> None:
    advice = advise(work)
    in_memory = work.size_bytes / advice.count * work.share * work.expansion * min(advice.count, work.workers)
    assert in_memory <= MEMORY_SHARE * work.memory_bytes * (1 + 1e-9)
    assert advice.count >= 1
    assert advice.count <= work.workers or advice.count % work.workers == 0
    assert abs(advice.count * advice.partition_bytes - work.size_bytes) <= advice.count


def test_the_usual_size_where_nothing_forbids_it() -> None:
    advice = advise(USUAL)
    assert advice.reason == "usual"
    assert advice.partition_bytes == pytest.approx(USUAL_BYTES, rel=0.02)


def test_little_data_is_cut_so_that_each_worker_gets_some() -> None:
    advice = advise(replace(USUAL, size_bytes=GB))
    assert (advice.reason, advice.count) == ("workers", WAVES * 8)


def test_little_memory_makes_partitions_smaller_and_few_columns_larger() -> None:
    tight = advise(replace(USUAL, memory_bytes=4 * GB))
    assert tight.reason == "memory"
    assert tight.partition_bytes < USUAL_BYTES
    assert advise(replace(USUAL, memory_bytes=4 * GB, share=0.1)).partition_bytes > tight.partition_bytes


def test_an_engine_with_slow_tasks_gets_fewer_and_larger_ones() -> None:
    counts = [advise(replace(USUAL, size_bytes=GB, engine=engine)).count for engine in ("local", "ray", "spark")]
    assert counts == sorted(counts, reverse=True)
    assert counts[2] < counts[0]
    assert advise(replace(USUAL, size_bytes=GB, engine="spark")).reason == "overhead"


def test_the_sentence_has_the_numbers() -> None:
    sentence = advise(replace(USUAL, passes=5)).sentence
    for part in ("128 MB", "8 at a time", "5 passes", "100 GB", "1 GB/s"):
        assert part in sentence
    assert "half of 4 GB" in advise(replace(USUAL, memory_bytes=4 * GB)).sentence


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(ConfigError, match="'spark'"):
        replace(USUAL, engine="sparc")
    with pytest.raises(ConfigError, match="workers"):
        replace(USUAL, workers=0)
