import pytest

from shardwise.compute.engines import ENGINES, make_executor
from shardwise.compute.local import InlineExecutor
from shardwise.core.errors import ConfigError


def test_engines_are_found_by_name() -> None:
    assert isinstance(make_executor("local", 1), InlineExecutor)
    with make_executor("local", 2) as executor:  # type: ignore[attr-defined]
        assert executor.slots == 2
    with pytest.raises(ConfigError, match=f"'spork' is not an engine. Choose one of: {', '.join(ENGINES)}"):
        make_executor("spork")


@pytest.mark.parametrize("workers", [0, -1])
def test_fewer_than_one_worker_is_refused(workers: int) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        make_executor("local", workers)


def test_this_machine_has_no_address() -> None:
    with pytest.raises(ConfigError, match="Add --engine ray"):
        make_executor("local", 2, address="10.0.0.1:6379")
