"""Token ids as padded batches, truncated or in chunks, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep import DataError
from mlcl.data import Tokens


def made(texts: list[list[int]], prefix: tuple[int, ...] = (), suffix: tuple[int, ...] = ()) -> Tokens:
    ids = np.array([token for text in texts for token in text], dtype=np.int32)
    offsets = np.cumsum([0] + [len(text) for text in texts])
    return Tokens(ids, offsets, vocab_size=1000, pad_id=0, prefix_ids=prefix, suffix_ids=suffix)


def random_texts(seed: int, rows: int = 40) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(10, 1000, rng.integers(0, 23)).tolist() for _ in range(rows)]


def filled(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    width = max([len(row) for row in rows] + [1])
    ids = np.array([row + [0] * (width - len(row)) for row in rows], dtype=np.int32)
    return ids, np.array([[True] * len(row) + [False] * (width - len(row)) for row in rows])


SPECIALS = [((), ()), ((2,), (3,)), ((2,), ()), ((), (3, 4)), ((2, 5, 6), (3,))]


@pytest.mark.parametrize(("prefix", "suffix"), SPECIALS)
@pytest.mark.parametrize("max_length", [5, 12, 50])
def test_padded_is_what_a_loop_makes(prefix: tuple, suffix: tuple, max_length: int) -> None:
    texts = random_texts(seed=max_length)
    tokens = made(texts, prefix, suffix)
    rows = np.random.default_rng(1).permutation(len(texts))[:13]
    room = max_length - len(prefix) - len(suffix)
    expected = filled([[*prefix, *texts[row][:room], *suffix] for row in rows])
    ids, mask = tokens.padded(rows, max_length)
    assert ids.dtype == np.int32
    assert mask.dtype == bool
    assert np.array_equal(ids, expected[0])
    assert np.array_equal(mask, expected[1])
    assert np.array_equal(tokens.lengths, [len(text) + len(prefix) + len(suffix) for text in texts])


@pytest.mark.parametrize(("prefix", "suffix"), SPECIALS)
@pytest.mark.parametrize("max_chunks", [1, 2, 9])
def test_chunked_is_what_a_loop_makes(prefix: tuple, suffix: tuple, max_chunks: int) -> None:
    texts = random_texts(seed=max_chunks)
    tokens = made(texts, prefix, suffix)
    rows = np.random.default_rng(2).permutation(len(texts))[:17]
    room = 6 - len(prefix) - len(suffix)
    chunks, numbers = [], []
    for number, row in enumerate(rows):
        cut = [texts[row][start : start + room] for start in range(0, max(len(texts[row]), 1), room)]
        for chunk in cut[:max_chunks]:
            chunks.append([*prefix, *chunk, *suffix])
            numbers.append(number)
    expected_ids, expected_mask = filled(chunks)
    expected_mask[:, 0] = True
    ids, mask, text = tokens.chunked(rows, 6, max_chunks)
    assert np.array_equal(ids, expected_ids)
    assert np.array_equal(mask, expected_mask)
    assert np.array_equal(text, numbers)
    assert text.dtype == np.int64


def test_no_rows_are_an_empty_batch() -> None:
    tokens = made([[10, 11]], (2, 5), (3,))
    none = np.array([], dtype=np.int64)
    assert tokens.padded(none, 8)[0].shape[0] == 0
    assert [part.shape[0] for part in tokens.chunked(none, 8, 2)] == [0, 0, 0]


def test_special_tokens_must_leave_room() -> None:
    tokens = made([[10, 11]], (2,), (3,))
    assert tokens.padded(np.array([0]), 3)[0].tolist() == [[2, 10, 3]]
    with pytest.raises(
        DataError, match="max_length 2 leaves no room for text besides 2 special tokens: set it to 3"
    ):
        tokens.padded(np.array([0]), 2)
    with pytest.raises(DataError, match="max_length 2 leaves no room"):
        tokens.chunked(np.array([0]), 2, 4)
