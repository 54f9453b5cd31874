"""What people write after --by: `KIND:COLUMNS:NUMBER`, such as `hash:carrier:8` or `range:departure:16`."""

import re
from dataclasses import dataclass, field

from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest
from shardwise.core.units import parse_size

# kind -> (columns: none, one, some, maybe; number: a count, a size, none; options), and an example
_FORMS: dict[str, tuple[str, str, tuple[str, ...], str]] = {
    "hash": ("some", "count", (), "hash:carrier:8, hash:carrier,origin:8"),
    "range": ("one", "count", ("at",), "range:departure:16, range:distance:at=500,1000,2000"),
    "value": ("one", "", (), "value:carrier"),
    "year": ("one", "", (), "year:departure"),
    "month": ("one", "", (), "month:departure"),
    "day": ("one", "", (), "day:departure"),
    "hour": ("one", "", (), "hour:departure"),
    "roundrobin": ("none", "count", (), "roundrobin:8"),
    "random": ("none", "count", (), "random:8"),
    "rows": ("none", "size", (), "rows:100000"),
    "bytes": ("none", "size", (), "bytes:64MB"),
    "similar": ("some", "count", (), "similar:distance,carrier:16, similar:*:16"),
    "minhash": ("one", "count", (), "minhash:description:16"),
    "balanced": ("maybe", "count", ("cost", "speeds"), "balanced:carrier:8, balanced:8:cost=s, balanced:speeds=2,1,1"),
}  # fmt: skip
_ALIASES = {"bucket": "hash", "identity": "value", "column": "value", "years": "year", "months": "month", "days": "day",
            "hours": "hour", "round-robin": "roundrobin", "kmeans": "similar"}  # fmt: skip
_PART = re.compile(r'"((?:[^"]|"")*)"|([^:,"]+)')
SCHEMES = tuple(_FORMS)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A level of a scheme as it was asked for; `number` is a count of partitions, or rows or bytes of each."""

    text: str
    kind: str
    columns: tuple[str, ...] = ()
    number: int | None = None
    options: dict[str, str] = field(default_factory=dict)


def parse_spec(text: str) -> Spec:
    """Read one --by; a column with `:` or `,` in its name is written in double quotes.

    Raises `ConfigError` that says what is wrong and shows how the kind is written.

    >>> spec = parse_spec('hash:carrier,"a:b":8')
    >>> spec.kind, spec.columns, spec.number
    ('hash', ('carrier', 'a:b'), 8)
    >>> parse_spec("range:departure:at=2013-06-01 08:00,2013-09-01").options
    {'at': '2013-06-01 08:00,2013-09-01'}
    """
    word, _, rest = text.partition(":")
    kind = _ALIASES.get(word.strip().lower(), word.strip().lower())
    if kind not in _FORMS:
        hint = f"{nearest(kind, _FORMS)} An example: --by hash:carrier:8."
        raise ConfigError(f"there is no way to partition {word!r}", hint=hint)
    parts = _parts(rest, text)
    lists = [part for part in parts if isinstance(part, list)]
    number = None
    if lists and (len(lists) > 1 or _FORMS[kind][0] in ("none", "maybe")):
        number = _number(lists[-1], kind)
    columns = lists if number is None else lists[:-1]
    spec = Spec(text=text, kind=kind, columns=tuple(name for part in columns for name in part), number=number,
                options=dict(part for part in parts if isinstance(part, tuple)))  # fmt: skip
    _check(spec)
    return spec


def _parts(rest: str, text: str) -> list[list[str] | tuple[str, str]]:
    """Lists of words between colons; an option `name=...` is a pair, and `at=` goes on to the end."""
    parts: list[list[str] | tuple[str, str]] = []
    while rest:
        if match := re.match(r"(at)=(.*)|(\w+)=([^:]*)(?::|$)", rest):
            parts.append((match[1] or match[3], match[2] if match[1] else match[4]))
            rest = rest[match.end() :]
            continue
        words = []
        while match := _PART.match(rest):
            words.append(match[1].replace('""', '"') if match[1] is not None else match[2].strip())
            rest = rest[match.end() :]
            if not rest.startswith(","):
                break
            rest = rest[1:]
        if not words or rest[:1] not in ("", ":"):
            raise ConfigError(f"--by {text!r} cannot be read at {rest!r}", hint="Write it like hash:carrier,origin:8.")
        parts.append(words)
        rest = rest[1:]
    return parts


def _number(part: list[str], kind: str) -> int | None:
    form = _FORMS[kind][1]
    if len(part) != 1 or not form:
        return None
    if form == "size" and re.match(r"[0-9.]", part[0]):
        return parse_size(part[0]) if kind == "bytes" else _whole(part[0])
    return _whole(part[0]) if form == "count" else None


def _whole(word: str) -> int | None:
    bare = word.replace("_", "")
    return int(bare) if bare.isdigit() else None


def _check(spec: Spec) -> None:
    """Raise `ConfigError` for columns, numbers and options that the kind does not take."""
    form, number, options, example = _FORMS[spec.kind]
    wrong = ""
    if form in ("one", "some") and not spec.columns:
        wrong = "names no column"
    elif form == "none" and spec.columns:
        wrong = f"takes no column, and {spec.columns[0]!r} was given"
    elif form == "one" and len(spec.columns) > 1:
        wrong = f"takes one column, and {len(spec.columns)} were given"
    elif number == "size" and not spec.number:
        wrong = "says no size"
    elif spec.number == 0:
        wrong = "asks for no partition at all"
    elif unknown := sorted(set(spec.options) - set(options)):
        wrong = f"has no option {unknown[0]!r}"
    if wrong:
        raise ConfigError(f"--by {spec.text!r} {wrong}", hint=f"Write it like {example}.")
