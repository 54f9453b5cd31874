"""Differences of two packages."""

import pyarrow as pa
from tests.registry.parts import make_members, make_recipe, make_table, make_target

from shardwise.registry.compare import compare
from shardwise.registry.manifest import Manifest
from shardwise.registry.package import write_package


def told(before, after):
    return compare(Manifest.read(before), before, Manifest.read(after), after)


def test_equal_packages_differ_in_nothing_but_tell_their_metrics(packages):
    found = told(packages(1), packages(1))
    assert found.pop("metrics") == {"test.accuracy": {"before": 0.501, "after": 0.501, "change": 0.0}}
    assert found.pop("columns") == found.pop("features") == {"added": [], "removed": [], "changed": {}}
    assert set(map(str, found.values())) == {"{}"}


def test_columns_params_metrics_and_data(parts, packages, tmp_path):
    table = make_table().drop_columns(["town"])
    table = table.set_column(table.schema.get_field_index("z"), "z", table["z"].cast(pa.float64()))
    target, recipe = make_target(), make_recipe(table, make_target())
    members = make_members(tmp_path / "rows", table, recipe, target, ("linear", "trees"))
    other = tmp_path / "other"
    write_package(other, **{**parts, "recipe": recipe, "models": members, "schema": table.schema,
                            "metrics": {"test": {"accuracy": {"value": 0.6}}, "valid": {"log_loss": 0.5}},
                            "lineage": {"data": "other", "rows": 5}, "golden": table.slice(0, 20)})  # fmt: skip
    found = told(packages(1), other)
    assert found["columns"] == {"added": [], "removed": ["town"],
                                "changed": {"z": {"before": "float", "after": "double"}}}  # fmt: skip
    assert any("town" in name for name in found["features"]["removed"])
    assert found["models"] == {"linear": {"before": None, "after": 2}}
    assert all(name.startswith("linear.") for name in found["params"])
    assert found["metrics"]["test.accuracy"]["change"] == 0.6 - 0.501
    assert found["metrics"]["valid.log_loss"] == {"before": None, "after": 0.5, "change": None}
    assert found["lineage"] == {"data": {"before": "data-1", "after": "other"}, "rows": {"before": 400, "after": 5}}
