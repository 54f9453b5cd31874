from pathlib import Path

import pytest

from shardwise.data.dataset import ReadOptions, TypeConflict, open_dataset


def test_a_bad_value_is_named_by_its_column_when_a_part_of_the_columns_is_read(tmp_path: Path) -> None:
    path = tmp_path / "late.csv"
    rows = [f"{i},{i % 7},{i % 5}" for i in range(200_000)]
    rows[100_001] = "100001,3,many"
    path.write_text("\n".join(["id,a,b", *rows]) + "\n", encoding="utf8")
    options = ReadOptions(types={"b": "int64"})
    dataset = open_dataset(path, options=options)
    with pytest.raises(TypeConflict) as caught:
        sum(batch.num_rows for partition in dataset.partitions for batch in dataset.read(partition, ["b"]))
    assert caught.value.column == "b"
