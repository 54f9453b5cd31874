"""The scanner finds the ends of records that a CSV parser finds, however the bytes arrive."""

import csv
import io
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.data.readers.quotes import QuoteScanner, safe_points

CELLS = st.text(alphabet='ab",;\n\r5é', max_size=6)


def record_ends(content: bytes) -> list[int]:
    return QuoteScanner(delimiter=ord(",")).record_ends(content).tolist()


def reference(content: bytes) -> list[int]:
    """RFC 4180, character by character."""
    ends, state, before = [], "start", b"\n"
    for i in range(len(content)):
        byte = content[i : i + 1]
        if state == "inside":
            state = "closed" if byte == b'"' else "inside"
        elif byte == b'"' and (state == "closed" or before in (b",", b"\n", b"\r")):
            state = "inside"
        else:
            state = "start"
            if byte == b"\n":
                ends.append(i + 1)
        before = byte
    return ends


@given(st.text(alphabet='a",\n\r ', max_size=60))
def test_any_text_is_cut_as_the_automaton_cuts_it(text: str) -> None:
    assert record_ends(text.encode()) == reference(text.encode())


@given(st.text(alphabet='a",\n', max_size=60), st.integers(1, 9))
def test_chunks_do_not_matter(text: str, size: int) -> None:
    content = text.encode()
    scanner = QuoteScanner(delimiter=ord(","))
    pieces = [content[i : i + size] for i in range(0, len(content), size)]
    found = [i * size + end for i, piece in enumerate(pieces) for end in scanner.record_ends(piece).tolist()]
    assert found == record_ends(content)


@given(st.text(alphabet='a",\n', max_size=60))
def test_the_last_end_is_the_last_of_all(text: str) -> None:
    ends = record_ends(text.encode())
    assert QuoteScanner(delimiter=ord(",")).last_record_end(text.encode()) == (ends[-1] if ends else 0)


@given(st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=20), st.integers(1, 30))
def test_pieces_between_safe_points_are_whole_records(rows: list[list[str]], step: int) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    content = out.getvalue().encode()
    points = [0, *safe_points([content], QuoteScanner(delimiter=ord(",")), step), len(content)]
    pieces = [content[i:j].decode() for i, j in itertools.pairwise(points)]
    parsed = [row for piece in pieces for row in csv.reader(io.StringIO(piece, newline=""))]
    assert parsed == rows


@pytest.mark.parametrize("text", ['5" pipe,1\nnext,2\n', 'a,b "c" d\n"x\ny",1\n', 'a"",""\nb\n'])
def test_stray_quotes_are_plain_characters(text: str) -> None:
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert len(record_ends(text.encode())) == len(rows)
