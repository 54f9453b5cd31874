"""shardwise partition and profile --partitions, as they are typed."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardwise.cli import run
from shardwise.testing.tables import people


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    pq.write_table(people(900), "people.parquet")
    return tmp_path


def test_partition_append_compact_remedy_and_profile(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["partition", "people.parquet", "out", "--by", "year:since", "--by", "hash:household:3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["partitions"], told["by"]) == (900, 12, ["year:since", "hash:household:3"])
    assert run(["partition", "people.parquet", "out", "--append"]) == 0
    shown = capsys.readouterr()
    assert "1,800 rows in 9 of 12 partitions (18 files" in shown.out
    assert "twice" in shown.err
    assert run(["partition", "out", "--compact"]) == 0
    assert "(9 files" in capsys.readouterr().out
    assert run(["partition", "out", "small", "--remedy", "merge"]) == 0
    assert "+ merge" in capsys.readouterr().out
    assert run(["profile", "out", "--partitions", "--workers", "2"]) == 0
    assert "straggler to expect with 2 worker(s)" in capsys.readouterr().out
    assert run(["profile", "out", "--partitions", "--key", "city", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["key"] == ["city"]


def test_advice_is_a_sentence_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["partition", "people.parquet", "--advise", "--memory", "2GB", "--workers", "2", "--columns", "age,city"]
    assert run(words) == 0
    assert capsys.readouterr().out.startswith("Use ")
    assert run([*words, "--json", "--engine", "spark"]) == 0
    assert json.loads(capsys.readouterr().out)["count"] >= 1
    assert not Path("out").exists()


def test_help_has_the_schemes_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["partition", "--help"]) == 0
    shown = capsys.readouterr().out
    for word in ("hash:carrier:8", "range:departure:16", "minhash:", "--append", "Examples:"):
        assert word in shown


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["people.parquet"], 2, "only one place"),
        (["people.parquet", "out"], 2, "--by hash:carrier:8"),
        (["people.parquet", "out", "--by", "hsh:city:2"], 2, "'hash'"),
        (["people.parquet", "out", "--by", "hash:cty:2"], 2, "'city'"),
        (["people.parquet", "out", "--by", "range:age:at=ten"], 2, "not a number"),
        (["people.parquet", "out", "--by", "range:since:at=12"], 2, "not a date"),
        (["people.parquet", "out", "--by", "month:age"], 2, "no month"),
        (["people.parquet", "out", "--by", "hash:city:2", "--memory", "1MB"], 3, "400MB"),
        (["people.parquet", "out", "--by", "hash:city:2", "--compression", "rar"], 2, "zstd"),
        (["people.parquet", "out", "--by", "hash:city:2", "--engine", "spork"], 2, "local"),
        (["people.parquet", "out", "--by", "hash:city:2", "--compact"], 2, "together"),
        (["people.parquet", "out", "--append"], 2, "--by and without --append"),
        (["people.parquet", "--compact"], 2, "Partition it first"),
        (["a", "b", "--compact"], 2, "one dataset"),
        (["nothing.parquet", "out", "--by", "hash:city:2"], 2, "no such file"),
    ],
)
def test_bad_input_is_one_paragraph_and_leaves_nothing(
    words: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["partition", *words]) == code
    shown = capsys.readouterr()
    assert told in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""
    assert not Path("out").exists()


def test_odd_data_goes_through_with_a_word_about_it(capsys: pytest.CaptureFixture[str]) -> None:
    table = pa.table({"k": pa.nulls(50, pa.string()), "one": ["a"] * 50, "x": range(50)})
    pq.write_table(table, "odd.parquet")
    for by, told in (("hash:k:4", "3 of 4 partitions are empty"), ("range:one:4", "1 of 4 partitions could be made"),
                     ("random:90", "more partitions (90) than rows (50)")):  # fmt: skip
        assert run(["partition", "odd.parquet", by.replace(":", "-"), "--by", by]) == 0
        assert told in capsys.readouterr().err
