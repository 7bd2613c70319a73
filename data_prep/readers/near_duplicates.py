"""Near-duplicates among texts: those that share many runs of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scipy.sparse import csr_array

BLOCK = 512  # texts compared with all others at a time: bounds memory


def distinct_rows(texts: Sequence[str], words: int = 4, containment: float = 0.5) -> list[int]:
    """Rows of the texts that are kept, in order: a text is dropped where it repeats one that was kept before.

    Two texts repeat each other when they share at least `containment` of the runs of `words` words that the
    shorter one has. Among the kept texts no two do.
    """
    import numpy as np

    shingles = _shingle_matrix(texts, words)
    sizes = np.diff(shingles.indptr)
    is_kept = np.zeros(len(texts), dtype=bool)
    transposed = shingles.T.tocsr()
    for start in range(0, len(texts), BLOCK):
        shared = (shingles[start : start + BLOCK] @ transposed).tocsr()
        for row in range(start, min(start + BLOCK, len(texts))):
            span = slice(shared.indptr[row - start], shared.indptr[row - start + 1])
            others, counts = shared.indices[span], shared.data[span]
            alike = counts >= containment * np.minimum(sizes[others], sizes[row])
            is_kept[row] = sizes[row] > 0 and not is_kept[others[alike]].any()
    return [int(row) for row in np.flatnonzero(is_kept)]


def _shingle_matrix(texts: Sequence[str], words: int) -> csr_array:
    """(texts, different shingles) int32: which runs of words each text has."""
    import numpy as np
    from scipy.sparse import csr_array

    numbers: dict[tuple[str, ...], int] = {}
    columns: list[int] = []
    offsets = [0]
    for text in texts:
        tokens = text.lower().split()
        runs = {tuple(tokens[first : first + words]) for first in range(len(tokens) - words + 1)}
        columns.extend(numbers.setdefault(run, len(numbers)) for run in sorted(runs))
        offsets.append(len(columns))
    ones = np.ones(len(columns), dtype=np.int32)
    return csr_array((ones, np.array(columns), np.array(offsets)), shape=(len(texts), max(len(numbers), 1)))
