"""Packages with the profile of their rows and of their answers to others, as a training seals them."""

from tests.registry.parts import make_parts, make_table

from shardwise.core.target import Task
from shardwise.data.profile import Profile
from shardwise.monitor.windows import ANSWERS, answers_profile
from shardwise.registry.package import score, write_package


def make_profiled(folder, task=Task.BINARY, rows=4000, test_rows=4000, metrics=None):
    """Write a package; its folder."""
    parts = make_parts(folder / "rows", task, rows=rows)
    table, test = make_table(rows, task), make_table(test_rows, task, seed=1)
    profile = Profile(table.schema)
    profile.update(table.combine_chunks().to_batches()[0])
    scores = score(parts["recipe"], parts["models"], parts["target"], test.combine_chunks().to_batches()[0])
    state = {**profile.state(), ANSWERS: answers_profile(parts["target"], scores).state()}
    write_package(folder / "package", **{**parts, "profile_state": state, "metrics": metrics or parts["metrics"]})
    return folder / "package"
