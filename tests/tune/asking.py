"""A study that is asked and told, without a run."""

from collections.abc import Callable

from shardwise.compute.base import NotYet
from shardwise.tune.step import Result, Step
from shardwise.tune.study import Study


def ask_and_tell(
    study: Study, workers: int, found: Callable[[Step], Result], choose: Callable[[int], int] = lambda _under_way: 0
) -> list[Step]:
    """The steps with so many workers; `choose` says which of those under way comes back, with what is `found`."""
    steps: list[Step] = []
    under_way: list[Step] = []
    asked = study.ask()
    while True:
        step = next(asked, None) if len(under_way) < workers else NotYet.NOT_YET
        if isinstance(step, Step):
            steps.append(step)
            under_way.append(step)
            continue
        if not under_way:
            return steps
        back = under_way.pop(choose(len(under_way)) % len(under_way))
        study.tell(back, found(back))
