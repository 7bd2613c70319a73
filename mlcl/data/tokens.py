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
        pad_id: fills short rows.
        prefix_ids: special tokens that a published tokenizer adds before a text, such as [CLS]; trained ones add none.
        suffix_ids: the same after a text.
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
        """Number of special tokens around a text or a chunk of it."""
        return len(self.prefix_ids) + len(self.suffix_ids)

    @cached_property
    def lengths(self) -> np.ndarray:
        """(N,) int64: number of tokens of each row with special tokens, before truncation."""
        return np.diff(self.offsets) + self.specials

    def padded(self, rows: np.ndarray, max_length: int) -> tuple[np.ndarray, np.ndarray]:
        """A batch, padded to its longest row: token ids (n, T) int32, attention mask (n, T) bool, T <= max_length.

        Texts are truncated so that they fit with their special tokens. Raises DataError if no token of them would.
        """
        starts, lengths = self._extents(rows)
        return self._filled(starts, np.minimum(lengths, self._room(max_length)))

    def chunked(
        self, rows: np.ndarray, max_length: int, max_chunks: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A batch in which a long text is several rows (chunks), each with its special tokens.

        Chunks do not overlap; texts are truncated after `max_chunks` of them. A text without tokens is one chunk of
        special tokens, or of one padding token if there are none.

        Returns:
            Token ids (m, T) int32; attention mask (m, T) bool with at least one token in each row, T <= max_length;
            and for each chunk the number of its text within the batch, (m,) int64, ascending.
        """
        room = self._room(max_length)
        starts, lengths = self._extents(rows)
        chunks = np.clip(-(-lengths // room), 1, max_chunks)
        text = np.repeat(np.arange(len(chunks)), chunks)
        skipped = room * (np.arange(len(text)) - np.repeat(np.cumsum(chunks) - chunks, chunks))
        ids, mask = self._filled(starts[text] + skipped, np.minimum(lengths[text] - skipped, room))
        mask[:, 0] = True
        return ids, mask, text

    def _room(self, max_length: int) -> int:
        room = max_length - self.specials
        if room < 1:
            raise DataError(
                f"max_length {max_length} leaves no room for text besides {self.specials} special tokens: "
                f"set it to {self.specials + 1} or more"
            )
        return room

    def _extents(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        starts = self.offsets[rows]
        return starts, self.offsets[np.asarray(rows) + 1] - starts

    def _filled(self, starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of prefix, `lengths` ids from `starts` on, suffix and padding; and the attention mask."""
        first, last = len(self.prefix_ids), len(self.suffix_ids)
        ends = first + lengths
        columns = np.arange(max(int(ends.max(initial=first)) + last, 1))
        is_text = columns < ends[:, None]
        is_text[:, :first] = False
        batch = np.full(is_text.shape, self.pad_id, dtype=np.int32)
        batch[is_text] = self.ids[(starts[:, None] + columns - first)[is_text]]
        if not self.specials:
            return batch, is_text
        batch[:, :first] = self.prefix_ids
        after = ends[:, None] + np.arange(last)
        np.put_along_axis(batch, after, np.array(self.suffix_ids, dtype=np.int32)[None], axis=1)
        return batch, columns < (ends + last)[:, None]
