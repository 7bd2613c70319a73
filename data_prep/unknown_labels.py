"""Labels that the raw data say nothing about: stored beside the labels of a row, and left out of losses and metrics.

A module of its own, not part of the writer, so that datasets without such labels keep their fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from data_prep import format as form
from data_prep.errors import DataError
from data_prep.readers.labels import normal_form

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter

OnMissingLabel = Literal["error", "negative", "skip", "ignore"]
"""A label without a value is an error, a 0, a reason to leave the row out, or unknown."""


class UnknownLabels:
    """Collects the unknown labels of the rows that a source adds to a writer, and writes them once all are added."""

    def __init__(self, writer: DatasetWriter) -> None:
        self._writer = writer
        self._by_id: dict[str, tuple[int, Sequence[str]]] = {}

    def note(self, row_id: str, labels: Sequence[str], unknown: Sequence[str]) -> None:
        """The labels that a row has, and those that it may have; of each row, whether it is written or not."""
        self._by_id[row_id] = (len(labels), unknown)

    def write(self) -> None:
        """Write the unknown labels of each split; nothing where there are none.

        Raises DataError where no cell of the training split is known to be negative: then there is nothing to tell
        labels from, and as a rule the value that stands for "unknown" is the negative one (-1 beside 1).
        """
        import numpy as np

        if not any(unknown for _, unknown in self._by_id.values()):
            return
        names = self._writer.label_names
        number = {label: index for index, label in enumerate(names)}
        for split in map(self._writer.split, form.SPLITS):
            of_rows = [self._by_id[row_id] for row_id in split.ids]
            if split.name == "train" and all(
                known + len(unknown) == len(names) for known, unknown in of_rows
            ):
                raise DataError(
                    "no label of a training row is known to be absent: each is 1 or unknown; say which value means 0 "
                    "(on_missing_label: negative reads missing ones as 0)"
                )
            rows = [sorted(number[normal_form(label)] for label in unknown) for _, unknown in of_rows]
            offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
            ids = np.array([label for row in rows for label in row], dtype=np.int32)
            np.save(split.folder / form.UNKNOWN_OFFSETS, offsets, allow_pickle=False)
            np.save(split.folder / form.UNKNOWN_IDS, ids, allow_pickle=False)


def card_entries(writer: DatasetWriter) -> Mapping[str, Any]:
    """What the card says of unknown labels: the format, and split -> label -> number of rows; empty without any."""
    import numpy as np

    files = {split: writer.folder / split / form.UNKNOWN_IDS for split in form.SPLITS}
    if not all(file.exists() for file in files.values()):
        return {}
    counts = {
        split: np.bincount(np.load(file), minlength=len(writer.label_names)) for split, file in files.items()
    }
    by_label = {
        split: {label: int(n) for label, n in zip(writer.label_names, of_labels, strict=True)}
        for split, of_labels in counts.items()
    }
    return {"format": form.WITH_UNKNOWN_LABELS, "unknown_labels": by_label}
