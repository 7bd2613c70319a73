"""Opens prepared datasets. Needs numpy only; arrays are memory-mapped, nothing is copied."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep import DataError
from data_prep import format as form
from data_prep.source import Modality
from mlcl.data import tokenizers
from mlcl.data.texts import Texts
from mlcl.data.tokens import Tokens
from mlcl.digests import first_defect, is_sealed
from mlcl.suggest import closest

if TYPE_CHECKING:
    from scipy.sparse import csr_array


UNKNOWN = -1
"""In dense labels: the raw data say nothing about the label."""


class Split:
    """One of train, val, test: N rows with ids, labels, and images, texts or vectors."""

    def __init__(self, dataset: PreparedDataset, name: str) -> None:
        self.dataset, self.name = dataset, name
        self.folder = dataset.folder / name
        self._length = int(dataset.card["splits"][name]["examples"])

    def __len__(self) -> int:
        return self._length

    @cached_property
    def ids(self) -> np.ndarray:
        """Row ids, (N,) unicode."""
        return self._open(form.IDS)

    @cached_property
    def label_offsets(self) -> np.ndarray:
        """(N + 1,) int64: the labels of row i are `label_ids[label_offsets[i]:label_offsets[i + 1]]`."""
        return self._open(form.LABEL_OFFSETS)

    @cached_property
    def label_ids(self) -> np.ndarray:
        """(nnz,) int32 label numbers, sorted within a row."""
        return self._open(form.LABEL_IDS)

    @cached_property
    def labels(self) -> csr_array:
        """Multi-hot labels, sparse, (N, L) uint8; unknown ones are 0."""
        from scipy.sparse import csr_array

        ones = np.ones(len(self.label_ids), dtype=np.uint8)
        shape = (len(self), self.dataset.num_labels)
        return csr_array((ones, self.label_ids, self.label_offsets), shape=shape)

    def dense_labels(self, rows: Any = None) -> np.ndarray:
        """Multi-hot labels as a dense array, (n, L) uint8, of all rows or of the given ones (indices or mask).

        In a dataset with unknown labels it is int8, and they are -1 (`UNKNOWN`).
        """
        chosen = np.arange(len(self)) if rows is None else np.arange(len(self))[rows]
        partly_unknown = self.dataset.has_unknown_labels
        dense = np.zeros((len(chosen), self.dataset.num_labels), np.int8 if partly_unknown else np.uint8)
        dense[_places(self.label_offsets, self.label_ids, chosen)] = 1
        if partly_unknown:
            unknown = self._open(form.UNKNOWN_OFFSETS), self._open(form.UNKNOWN_IDS)
            dense[_places(*unknown, chosen)] = UNKNOWN
        return dense

    @cached_property
    def images(self) -> np.ndarray:
        """(N, H, W, C) uint8 memory map."""
        return self._content(form.IMAGES, "image")

    @cached_property
    def sizes(self) -> np.ndarray:
        """(N, 2) int32: height and width of each image before it was resized."""
        return self._content(form.SIZES, "image")

    @cached_property
    def vectors(self) -> np.ndarray:
        """(N, F) float32 memory map."""
        return self._content(form.VECTORS, "vector")

    @cached_property
    def texts(self) -> Texts:
        """The texts, a sequence of str that reads from the file on access."""
        offsets = self._content(form.TEXT_OFFSETS, "text")
        return Texts(self.folder / form.TEXTS, offsets)

    def tokens(self, tokenizer: Mapping[str, Any]) -> Tokens:
        """The texts as token ids; tokenised on first use of a tokenizer, memory-mapped from then on.

        Args:
            tokenizer: `{"kind": "bpe" or "word", "vocab_size": 8000}`, trained on the training split, or
                `{"kind": "huggingface", "name": folder}`, or a hub id and `"revision"`, a full commit hash.
        """
        self.dataset.require("text", "tokens")
        return tokenizers.open_tokens(
            self.dataset.folder / form.TOKENS, self.dataset.texts, self.name, tokenizer, self.dataset.content
        )

    def _content(self, file: str, modality: str) -> np.ndarray:
        self.dataset.require(modality, file)
        return self._open(file)

    def _open(self, file: str) -> np.ndarray:
        path = self.folder / file
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path}: cannot be read ({error}); delete the folder and prepare it again"
            ) from None


def _places(offsets: np.ndarray, ids: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cells (place in `rows`, label) of these rows; row i has `ids[offsets[i]:offsets[i + 1]]`."""
    starts, ends = offsets[rows], offsets[rows + 1]
    counts = ends - starts
    first = np.repeat(starts - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
    return np.repeat(np.arange(len(rows)), counts), ids[first + np.arange(counts.sum())]


class PreparedDataset:
    """A prepared dataset; `dataset["train"]` is a `Split`.

    Attributes:
        folder: the prepared dataset's folder.
        card: its description, `card.json` (`docs/prepared_format.md`).
    """

    def __init__(self, folder: Path, card: Mapping[str, Any]) -> None:
        self.folder, self.card = folder, card
        self._splits = {name: Split(self, name) for name in card["splits"]}

    @property
    def name(self) -> str:
        return str(self.card["name"])

    @property
    def modality(self) -> Modality:
        modality: Modality = self.card["modality"]
        return modality

    @property
    def fingerprint(self) -> str:
        return str(self.card["fingerprint"])

    @property
    def content(self) -> str:
        """The digest of label names and all arrays."""
        return str(self.card["content_sha256"])

    @cached_property
    def label_names(self) -> list[str]:
        return list(self.card["labels"])

    @property
    def num_labels(self) -> int:
        return len(self.card["labels"])

    @property
    def has_unknown_labels(self) -> bool:
        """Whether the raw data say nothing about some labels of some rows."""
        return self.card["format"] == form.WITH_UNKNOWN_LABELS

    @property
    def texts(self) -> dict[str, Texts]:
        """Split -> its texts."""
        return {name: split.texts for name, split in self._splits.items()}

    def save_tokenizer(self, tokenizer: Mapping[str, Any], file: Path) -> dict[str, Any]:
        """Writes a tokenizer (see `Split.tokens`) of the texts to a file; see `tokenizers.save_tokenizer`."""
        self.require("text", "tokens")
        return tokenizers.save_tokenizer(self.folder / form.TOKENS, self.texts, tokenizer, self.content, file)

    def __repr__(self) -> str:
        rows = ", ".join(f"{name} {len(split):,}" for name, split in self._splits.items())
        return f"<prepared dataset {self.name}: {self.modality}, {self.num_labels} labels; rows: {rows}>"

    def _repr_html_(self) -> str:
        """The same for a notebook, with labels a row and rows without labels."""
        rows = "".join(
            f"<tr><th>{name}</th><td>{counts['examples']:,}</td><td>{counts['cardinality']:.2f}</td>"
            f"<td>{counts['empty_rows']:,}</td></tr>"
            for name, counts in self.card["splits"].items()
        )
        return (
            f"<p>{escape(self.name)}: {self.modality}, {self.num_labels} labels</p><table><thead><tr><th>split</th>"
            f"<th>rows</th><th>labels a row</th><th>without labels</th></tr></thead><tbody>{rows}</tbody></table>"
        )

    def __getitem__(self, split: str) -> Split:
        if split not in self._splits:
            raise DataError(f"dataset {self.name}: unknown split {split!r}: {closest(split, self._splits)}")
        return self._splits[split]

    def require(self, modality: str, what: str) -> None:
        """Raises DataError if the dataset is of another modality."""
        if self.modality != modality:
            raise DataError(
                f"dataset {self.name} has no {what}: its modality is {self.modality}, not {modality}"
            )


def open_dataset(folder: str | Path) -> PreparedDataset:
    """Open a prepared dataset.

    Raises:
        DataError: there is none in the folder, it was written in another format version, or its card or a file is
            not what was written. Large files are hashed once on each machine (`mlcl.digests`).
    """
    folder = Path(folder)
    try:
        card = json.loads((folder / form.CARD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{folder}: no prepared dataset there ({form.CARD} is missing); prepare it first"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{folder / form.CARD}: not JSON ({error}); delete the folder and prepare it again"
        ) from None
    if not isinstance(card, dict) or card.get("format") not in form.READABLE:
        written = card.get("format") if isinstance(card, dict) else None
        raise DataError(
            f"{folder / form.CARD}: has format {written}, this version reads formats "
            f"{' and '.join(map(str, form.READABLE))}; delete the folder and prepare it again"
        )
    prepare_again = "prepare the dataset again (mlcl prepare)"
    if not is_sealed(card):
        raise DataError(
            f"{folder / form.CARD}: is not what was written (its seal does not fit); {prepare_again}"
        )
    if defect := first_defect(folder, {name: entry["sha256"] for name, entry in card["files"].items()}):
        raise DataError(f"{defect}; {prepare_again}")
    return PreparedDataset(folder, card)
