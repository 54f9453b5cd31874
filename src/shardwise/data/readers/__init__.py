"""One reader for each format."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from shardwise.data.options import ReadOptions
from shardwise.data.places import File
from shardwise.data.readers.delimited import open_csv
from shardwise.data.readers.ipc import IpcReader
from shardwise.data.readers.json_lines import open_json_lines
from shardwise.data.readers.parquet import ParquetReader
from shardwise.data.readers.records import TextReader

AnyReader = ParquetReader | IpcReader | TextReader
Survey = Callable[[Sequence[File], ReadOptions, int], tuple[AnyReader, dict[str, Any]]]

SURVEYS: dict[str, Survey] = {
    "parquet": lambda files, options, _: ParquetReader.survey(files, options),
    "csv": partial(TextReader.survey, open_csv),
    "jsonl": partial(TextReader.survey, open_json_lines),
    "arrow": lambda files, options, _: IpcReader.survey(files, options),
}
"""Format -> what looks at the files of a dataset and gives its reader and its report."""
