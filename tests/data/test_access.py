import pyarrow as pa
import pyarrow.parquet as pq

from shardwise.data.access import AccessCounter
from shardwise.data.dataset import open_dataset


def test_readings_are_counted_and_merged(tmp_path) -> None:
    for name in "ab":
        pq.write_table(pa.table({"x": range(100)}), tmp_path / f"{name}.parquet")
    counter = AccessCounter()
    dataset = open_dataset([str(tmp_path)]).counted(counter)
    first, second = dataset.partitions
    for _ in range(2):
        assert sum(batch.num_rows for batch in dataset.read(first, batch_rows=30)) == 100
    next(dataset.read(second, batch_rows=30))
    again = AccessCounter.from_json(counter.to_json())
    again.merge(counter)
    found = [(record["partition"], record["accesses"], record["rows"]) for record in again.to_json()]
    assert found == [(0, 4, 400), (1, 2, 60)]
    assert all(record["seconds"] > 0 for record in again.to_json())
    assert dataset == open_dataset([str(tmp_path)])
