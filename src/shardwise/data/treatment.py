"""A remedy applied to a dataset: look at its partitions and keys, plan another partitioner, write the rows anew."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from shardwise.core.errors import ConfigError
from shardwise.core.events import Events
from shardwise.data.base import Partitioner
from shardwise.data.dataset import Dataset, open_dataset
from shardwise.data.manifest import Manifest, read_manifest
from shardwise.data.options import DEFAULT_TARGET_BYTES
from shardwise.data.partition import PartitionOptions, PartitionResult, make_source, rows_of
from shardwise.data.partitioners import parse_spec, partitioner_from_json, plan_partitioner
from shardwise.data.remedies import REMEDY_NAMES, Ailment, choose_remedy
from shardwise.data.repartition import remake, standing
from shardwise.data.survey import check_key_columns, hash_key, look_at_keys


def treat(
    data: str, out: str | None, remedy: str, options: PartitionOptions, *, key: Sequence[str] = (),
    events: Events | None = None,
) -> PartitionResult:  # fmt: skip
    """Apply a remedy of `REMEDY_NAMES` to a partitioned dataset, in its place or into the folder `out`.

    Raises `AnswerIsNo` when there is nothing to remedy, `ConfigError` for a remedy that does not fit the scheme.
    """
    if remedy != "rerange":
        choose_remedy(remedy)
    folder = Path(data).expanduser().absolute()
    before = standing(read_manifest(folder), folder)
    dataset = open_dataset([str(folder)])
    found = _rerange(before, dataset, options) if remedy == "rerange" else _plan(remedy, before, dataset, key)
    result = remake(data, out, found, options, note=remedy, events=events)
    notes = [*result.notes]
    if remedy == "salt":
        notes.append("rows of a salted key lie in several partitions now: group by it over all of them")
    return replace(result, notes=tuple(notes))


def _plan(remedy: str, before: Manifest, dataset: Dataset, key: Sequence[str]) -> Partitioner:
    key = tuple(key) or before.key
    hot, hashes = [], []
    if remedy in ("salt", "isolate"):
        if not key:
            raise ConfigError("the dataset is partitioned by no key", hint="Name the hot key's column with --key.")
        check_key_columns(key, dataset.schema.names)
        hot = look_at_keys(dataset, key)[0]
        hashes = [hash_key(each, key, dataset.schema) for each in hot]
    room = DEFAULT_TARGET_BYTES * before.rows / max(1, before.size_bytes)
    ailment = Ailment(partitioner=partitioner_from_json(before.partitioner), rows=rows_of(before), key=key,
                      hot_keys=hot, hashes=hashes, room_rows=room)  # fmt: skip
    return choose_remedy(remedy)(ailment)


def _rerange(before: Manifest, dataset: Dataset, options: PartitionOptions) -> Partitioner:
    """The ranges of the scheme planned anew, evenly, from the rows that are there now."""
    specs = [parse_spec(text) for text in before.by]
    if not any(spec.kind == "range" for spec in specs):
        raise ConfigError(f"the dataset is partitioned by {' '.join(before.by)}, and by no range",
                          hint=f"Remedies: {', '.join(REMEDY_NAMES)}; rerange needs --by range:COLUMN:N.")  # fmt: skip
    even = [
        replace(spec, options={}, number=len(spec.options["at"].split(",")) + 1) if "at" in spec.options else spec
        for spec in specs
    ]
    options = replace(options, by=before.by, seed=before.seed)
    return plan_partitioner(even, make_source(dataset, options, None))
