"""Numbers and names as people read them."""

import math
import re
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

from shardwise.core.units import format_duration, format_size

MISSING = "–"
_METRICS = {
    "roc_auc": "ROC AUC",
    "average_precision": "Average precision",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "brier_score": "Brier score",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "f1": "F1",
    "f1_macro": "F1, macro",
    "matthews_corrcoef": "Matthews correlation",
    "rmse": "RMSE",
    "mae": "MAE",
    "mape": "MAPE",
    "r2": "R²",
    "poisson_deviance": "Poisson deviance",
    "mean_poisson_deviance": "Poisson deviance",
    "pinball_loss": "Pinball loss",
    "mean_pinball_loss": "Pinball loss",
}
_CREDENTIALS = re.compile(r"(?<=//)[^/@\s]+@")
_HIDDEN = re.compile(r"secret|token|password|passwd|credential|api_?key|access_?key", re.IGNORECASE)
_UNSEEN = {ord(char): "\N{REPLACEMENT CHARACTER}" for char in map(chr, [*range(9), 11, 12, *range(14, 32), 127])}


def printable(text: str) -> str:
    """Text that HTML can hold: control characters and lone surrogates become the replacement character."""
    return text.translate(_UNSEEN).encode("utf8", "replace").decode("utf8")


def metric_name(name: str) -> str:
    """The name of a metric as its field writes it.

    >>> metric_name("roc_auc"), metric_name("my_metric")
    ('ROC AUC', 'My metric')
    """
    return _METRICS.get(name, name.replace("_", " ").strip().capitalize() or MISSING)


def inline(name: str) -> str:
    """A name inside of a sentence: an ordinary first word loses its capital.

    >>> inline("Log loss"), inline("ROC AUC"), inline("R²")
    ('log loss', 'ROC AUC', 'R²')
    """
    return name[0].lower() + name[1:] if name.split()[0][1:].islower() else name


def short(value: Any, most: int = 60) -> str:
    """Any value as one line of at most `most` characters; an empty text is said to be empty.

    >>> short("a" * 9, 5), short(" "), short(None)
    ('aaaa…', '(blank)', '–')
    """
    if value is None:
        return MISSING
    if isinstance(value, float) and not isinstance(value, bool):
        return number(value)
    text = " ".join(str(value)[: 4 * most].split())
    if not text:
        return "(blank)"
    return text if len(text) <= most else text[: most - 1] + "…"


def number(value: Any, digits: int = 4) -> str:
    """A number with `digits` significant digits and thousands separated; what is no number stays as it is.

    >>> number(1234567), number(0.000123456), number(12.3456), number(3.0), number(None), number(48842.31)
    ('1,234,567', '0.0001235', '12.35', '3', '–', '48,842')
    """
    if value is None or isinstance(value, bool):
        return MISSING if value is None else str(value).lower()
    if not isinstance(value, int | float) and not hasattr(value, "dtype"):
        return short(value, 24)
    real = float(value)
    if not math.isfinite(real):
        return MISSING if math.isnan(real) else ("∞" if real > 0 else "−∞")
    if real == 0:
        return "0"
    size = math.floor(math.log10(abs(real)))
    if size >= 15 or size < -5:
        return f"{real:.{digits - 1}g}".replace("-", "−")
    decimals = 0 if isinstance(value, int) else max(0, digits - 1 - size)
    text = f"{real:,.{decimals}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def score(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A score with the digits that its interval supports: two significant ones of its half width.

    >>> score(0.928312, 0.924, 0.932), score(543.21, 530, 556), score(0.928312)
    ('0.9283', '543', '0.9283')
    """
    if value is None or low is None or high is None or not math.isfinite(high - low) or high <= low:
        return number(value)
    decimals = min(max(1 - math.floor(math.log10((high - low) / 2)), 0), 6)
    return f"{value:,.{decimals}f}".replace("-", "−")


def interval(value: float | None, low: float | None, high: float | None) -> str:
    """`low to high` with the digits of `score`; empty when there is none.

    >>> interval(0.928312, 0.924, 0.932)
    '0.9240 to 0.9320'
    """
    if value is None or low is None or high is None or not low < high:
        return ""
    return f"{score(low, low, high)} to {score(high, low, high)}"


def breakable(name: str) -> Markup:
    """A name that may be broken after `_`, `.`, `:`, `/` and `-`; everything is escaped.

    >>> str(breakable("a_<b>"))
    'a_<wbr>&lt;b&gt;'
    """
    return Markup("<wbr>").join(re.split(r"(?<=[_.:/-])(?=[^_.:/-])", name))


def unbroken(text: str) -> Markup:
    """Text whose options (`--drop age`) and paths stay on one line where they fit; everything is escaped.

    >>> str(unbroken("use --drop <a> now"))
    'use <span class="arg">--drop &lt;a&gt;</span> now'
    """
    parts = re.split(r"(--[\w-]+(?: [^\s-]\S*)?|[^\s/]*/\S+)", text)
    spans = [Markup('<span class="arg">{}</span>').format(part) for part in parts[1::2]]
    texts = [escape(part) for part in parts[::2]]
    return Markup("").join(piece for pair in zip(texts, [*spans, ""], strict=True) for piece in pair)


def percent(share: float | None) -> str:
    """A share in percent, without hiding what is small or nearly all; the space before the sign never breaks.

    >>> [percent(share).replace("\xa0", " ") for share in (0.1234, 0.00012, 0, 0.99999, 1)]
    ['12 %', '<0.1 %', '0 %', '>99.9 %', '100 %']
    """
    if share is None or not math.isfinite(share):
        return MISSING
    if 0 < share < 0.001:
        return "<0.1\xa0%"
    if 0.999 < share < 1:
        return ">99.9\xa0%"
    return f"{100 * share:.1f}\xa0%" if (0 < share < 0.1 or 0.9 < share < 1) else f"{100 * share:.0f}\xa0%"


def size(value_bytes: float | None) -> str:
    return MISSING if value_bytes is None else format_size(value_bytes)


def duration(value_s: float | None) -> str:
    return MISSING if value_s is None else format_duration(value_s)


def plural(count: int, one: str, many: str = "") -> str:
    """
    >>> plural(1, "class", "classes"), plural(2, "row")
    ('1 class', '2 rows')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def option(name: str, value: Any) -> str:
    """An option's value as text; credentials are never shown.

    >>> option("data", ["s3://user:pw@host/x"]), option("storage", {"key": "A", "secret": "B"})
    ('s3://…@host/x', 'key …, secret …')
    """
    if name == "storage" and isinstance(value, Mapping):
        return ", ".join(f"{short(key, 30)} …" for key in value) or MISSING
    if _HIDDEN.search(name) and value:
        return "…"
    if isinstance(value, Mapping):
        parts = [f"{short(key, 30)}: {option(str(key), part)}" for key, part in value.items()]
    elif isinstance(value, list | tuple):
        parts = [option("", part) for part in value]
    else:
        if isinstance(value, bool):
            return str(value).lower()
        return MISSING if value is None else _CREDENTIALS.sub("…@", short(value, 300))
    return short(", ".join(parts), 300) if parts else MISSING


def pairs(content: Mapping[str, Any], most: int) -> list[tuple[str, str]]:
    """Names and values as short texts; of a value that is a mapping itself, each of its entries."""
    entries: list[tuple[str, Any]] = []
    for key, value in content.items():
        inner = value if isinstance(value, Mapping) else {}
        entries += [(f"{key} {name}", part) for name, part in inner.items()] or [(str(key), value)]
    told = [(name, number(value) if isinstance(value, float) else value) for name, value in entries[:most]]
    return [(short(name.replace("_", " "), 40), short(value, 80)) for name, value in told]
