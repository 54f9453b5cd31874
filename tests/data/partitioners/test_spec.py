import pytest

from shardwise.core.errors import ConfigError
from shardwise.data.partitioners.spec import SCHEMES, parse_spec


@pytest.mark.parametrize(
    ("text", "kind", "columns", "number", "options"),
    [
        ("hash:carrier:8", "hash", ("carrier",), 8, {}),
        ("hash:carrier", "hash", ("carrier",), None, {}),
        ("bucket:a,b:4", "hash", ("a", "b"), 4, {}),
        ('hash:"a:b","c,d",e""f:4', "hash", ("a:b", "c,d", "e"), 4, {}),
        ("range:2013:4", "range", ("2013",), 4, {}),
        ("range:at:at=1,2", "range", ("at",), None, {"at": "1,2"}),
        ("range:d:at=2013-01-01 08:00,2014-01-01", "range", ("d",), None, {"at": "2013-01-01 08:00,2014-01-01"}),
        ("month:d", "month", ("d",), None, {}),
        ("roundrobin:3", "roundrobin", (), 3, {}),
        ("rows:1_000", "rows", (), 1000, {}),
        ("bytes:64MB", "bytes", (), 64_000_000, {}),
        ("balanced:8:cost=seconds", "balanced", (), 8, {"cost": "seconds"}),
        ("balanced:k:2:cost=s:speeds=2,1", "balanced", ("k",), 2, {"cost": "s", "speeds": "2,1"}),
        ("balanced:speeds=2,1", "balanced", (), None, {"speeds": "2,1"}),
        ("SIMILAR:*:4", "similar", ("*",), 4, {}),
    ],
)
def test_specs_are_read(text: str, kind: str, columns: tuple, number: int | None, options: dict) -> None:
    if '""' in text:
        text, columns = 'hash:"a:b","c,d","e""f":4', ("a:b", "c,d", 'e"f')
    spec = parse_spec(text)
    assert (spec.kind, spec.columns, spec.number, spec.options) == (kind, columns, number, options)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("hsh:a:8", "'hash'"),
        ("", "hash:carrier:8"),
        ("hash", "names no column"),
        ("hash:a:0", "no partition"),
        ("hash:a:8:at=3", "no option 'at'"),
        ("range:a,b:8", "one column"),
        ("random:a:8", "takes no column"),
        ("rows", "no size"),
        ("bytes:many", "takes no column"),
        ('hash:"a:8', "cannot be read"),
        ("hash:a::8", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_told_with_an_example(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        parse_spec(text)
    assert ":" in str(caught.value)


def test_every_scheme_has_an_example_that_can_be_read() -> None:
    assert len(SCHEMES) == 14
