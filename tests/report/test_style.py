"""Contrast as WCAG 2.2 asks for it: 4.5 for text, 3 for what is drawn; in light and in dark."""

import itertools
import re
from pathlib import Path

import pytest

import shardwise.report

CSS = (Path(shardwise.report.__file__).parent / "templates" / "style.css").read_text()
THEMES = dict(zip(("light", "dark", "print"), re.findall(r":root \{(.*?)\}", CSS, re.DOTALL), strict=True))
TEXTS = ("ink", "muted", "accent", "good", "look", "bad")
GROUNDS = ("page", "raised")
SERIES = ("s0", "s1", "s2", "s3", "s4", "fill")


def colours(theme: str) -> dict[str, str]:
    found = re.findall(r"--([\w-]+): #([0-9a-f]{3,6})\b", THEMES[theme])
    return {name: code if len(code) == 6 else "".join(2 * digit for digit in code) for name, code in found}


def luminance(code: str) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-relative-luminance"""
    parts = [int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)


def mixed(first: str, second: str, share: float) -> str:
    pairs = [(int(first[i : i + 2], 16), int(second[i : i + 2], 16)) for i in (0, 2, 4)]
    return "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in pairs)


@pytest.mark.parametrize("theme", THEMES)
def test_text_can_be_read(theme: str) -> None:
    palette = colours(theme)
    for text, ground in itertools.product(TEXTS, GROUNDS):
        assert contrast(palette[text], palette[ground]) >= 4.5, (text, ground)
    for ground, accent in (("bad-soft", "bad"), ("look-soft", "look")):
        assert min(contrast(palette[text], palette[ground]) for text in ("ink", "muted", accent)) >= 4.5, ground


@pytest.mark.parametrize("theme", THEMES)
def test_cells_of_the_confusion_matrix_can_be_read(theme: str) -> None:
    palette = colours(theme)
    shares = [int(share) / 100 for share in re.findall(r"var\(--fill\) (\d+)%", CSS)]
    assert len(shares) == 9
    for share in shares:
        assert contrast(palette["ink"], mixed(palette["fill"], palette["page"], share)) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
def test_what_is_drawn_can_be_seen(theme: str) -> None:
    palette = colours(theme)
    assert min(contrast(palette[series], palette["page"]) for series in SERIES) >= 3
