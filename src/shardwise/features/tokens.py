"""Texts as words."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_SEPARATORS = np.array([not (chr(byte).isalnum() or byte >= 128) for byte in range(256)])


def split_words(texts: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """The words of texts one after the other, and the row of each `(words,)`.

    Words are runs of ASCII letters, digits and all characters beyond ASCII but general punctuation.

    >>> [part.tolist() for part in map(np.array, split_words(pa.array(["it\u2019s 2 good, really!", "", "so"])))]
    [['it', 's', '2', 'good', 'really', 'so'], [0, 0, 0, 0, 0, 2]]
    """
    texts = pa.concat_arrays([texts])  # an array of its own, which starts at offset 0
    _, offsets, content = texts.buffers()
    if content is None or not len(texts):
        return pa.array([], pa.string()), np.zeros(0, dtype=np.int64)
    raw = np.frombuffer(content, dtype=np.uint8).copy()
    separators = _SEPARATORS[raw]
    quotes = np.flatnonzero((raw[:-2] == 0xE2) & (raw[1:-1] == 0x80))  # U+2000 to U+203F: dashes, quotes, ellipsis
    for step in range(3):
        separators[quotes + step] = True
    raw[separators] = ord(" ")
    lists = pc.ascii_split_whitespace(pa.StringArray.from_buffers(len(texts), offsets, pa.py_buffer(raw)))
    words, rows = lists.flatten(), np.repeat(np.arange(len(texts)), np.diff(lists.offsets.to_numpy()))
    filled = pc.binary_length(words).to_numpy() > 0  # blanks at either end leave an empty one
    return words.filter(pa.array(filled)), rows[filled]
