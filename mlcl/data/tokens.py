"""Token ids of texts as arrays: padded batches, and long texts as several chunks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from data_prep import DataError


@dataclass(frozen=True)
class Tokens:
    """Token ids of all rows of a split, without padding and without special tokens.

    Attributes:
        ids: (total,) int32 memory map.
        offsets: (N + 1,) int64; row i is `ids[offsets[i]:offsets[i + 1]]`.
        vocab_size: all ids are below it.
        pad_id: what fills short rows.
        prefix_ids: special tokens that a published tokenizer puts before a text, such as [CLS]; trained ones have none.
        suffix_ids: the same behind a text.
    """

    ids: np.ndarray
    offsets: np.ndarray
    vocab_size: int
    pad_id: int
    prefix_ids: tuple[int, ...] = ()
    suffix_ids: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def specials(self) -> int:
        """How many special tokens surround a text or a chunk of it."""
        return len(self.prefix_ids) + len(self.suffix_ids)

    @cached_property
    def lengths(self) -> np.ndarray:
        """(N,) int64: tokens of each row with its special tokens, before it is cut."""
        return np.diff(self.offsets) + self.specials

    def padded(self, rows: np.ndarray, max_length: int) -> tuple[np.ndarray, np.ndarray]:
        """A batch, as wide as its longest row: token ids (n, T) int32 and mask (n, T) bool, T <= max_length.

        A row is the special tokens around as many of its own as fit. Raises DataError where none would fit.
        """
        starts, lengths = self._extents(rows)
        return self._filled(starts, np.minimum(lengths, self._room(max_length)))

    def chunked(
        self, rows: np.ndarray, max_length: int, max_chunks: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A batch in which a long text is several rows, its chunks, each with special tokens of its own.

        Chunks follow each other without overlap; what does not fit into `max_chunks` of them is left out. A text
        without tokens is one chunk of special tokens, or one padding token where there are no special ones.

        Returns:
            Token ids (m, T) int32, mask (m, T) bool with at least one token in each row, T <= max_length, and for
            each chunk the number of its text within the batch, (m,) int64, ascending.
        """
        room = self._room(max_length)
        starts, lengths = self._extents(rows)
        chunks = np.clip(-(-lengths // room), 1, max_chunks)
        text = np.repeat(np.arange(len(chunks)), chunks)
        skipped = room * (np.arange(len(text)) - np.repeat(np.cumsum(chunks) - chunks, chunks))
        batch, mask = self._filled(starts[text] + skipped, np.minimum(lengths[text] - skipped, room))
        mask[:, 0] = True
        return batch, mask, text

    def _room(self, max_length: int) -> int:
        room = max_length - self.specials
        if room < 1:
            raise DataError(
                f"max_length {max_length} leaves no room for text beside {self.specials} special tokens: "
                f"set it to {self.specials + 1} or more"
            )
        return room

    def _extents(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        starts = self.offsets[rows]
        return starts, self.offsets[np.asarray(rows) + 1] - starts

    def _filled(self, starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of prefix, `lengths` ids from `starts` on, suffix, padding; and where they are not padding."""
        first, last = len(self.prefix_ids), len(self.suffix_ids)
        ends = first + lengths
        columns = np.arange(max(int(ends.max(initial=first)) + last, 1))
        own = columns < ends[:, None]
        own[:, :first] = False
        batch = np.full(own.shape, self.pad_id, dtype=np.int32)
        batch[own] = self.ids[(starts[:, None] + columns - first)[own]]
        if not self.specials:
            return batch, own
        batch[:, :first] = self.prefix_ids
        behind = ends[:, None] + np.arange(last)
        np.put_along_axis(batch, behind, np.array(self.suffix_ids, dtype=np.int32)[None], axis=1)
        return batch, columns < (ends + last)[:, None]
