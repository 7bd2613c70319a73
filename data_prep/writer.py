"""Writes the prepared form: one row at a time, so that memory does not grow with the images, texts or vectors."""

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from data_prep import format as form
from data_prep.errors import DataError, closest
from data_prep.readers.labels import LONE_SURROGATE, defect, near_equal, normal_form, shown
from mlcl.digests import sealed, sha256_of

MAX_EXAMPLES_OF_A_WARNING = 5


class NpyStream:
    """An .npy file that grows row by row; numpy leaves room in the header for the final number of rows."""

    def __init__(self, path: Path, dtype: Any, row_shape: tuple[int, ...]) -> None:
        self.dtype, self.row_shape, self.rows = np.dtype(dtype), row_shape, 0
        self._file = path.open("wb")
        self._write_header()

    def append(self, rows: np.ndarray) -> None:
        """Add rows of shape (n, *row_shape)."""
        self._file.write(np.ascontiguousarray(rows, dtype=self.dtype).data)
        self.rows += len(rows)

    def close(self) -> None:
        """Write the final number of rows into the header; more than once does no harm."""
        if self._file.closed:
            return
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def _write_header(self) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.rows, *self.row_shape),
        }
        np.lib.format.write_array_header_1_0(self._file, header)


class SplitWriter:
    """One split in the making. Rows keep the order in which they are added."""

    def __init__(self, folder: Path, name: str, modality: str, label_names: list[str]) -> None:
        folder.mkdir()
        self.folder, self.name, self.modality = folder, name, modality
        self.label_names = label_names
        self.ids: dict[str, None] = {}
        self.empty_texts = 0
        self.mended: list[str] = []
        self.digests = array("Q")
        """64 bits of the hash of each row's content, to find duplicates."""
        self._number = {label: index for index, label in enumerate(label_names)}
        self._label_ids = array("i")
        self._label_offsets = array("q", [0])
        self._rows: NpyStream | None = None
        self._sizes = array("i")
        self._text_offsets = array("q", [0])
        self._texts = (folder / form.TEXTS).open("wb") if modality == "text" else None

    def add(
        self,
        row_id: str,
        labels: Iterable[str | int],
        content: Any,
        size: tuple[int, int] | None = None,
        where: str = "",
    ) -> None:
        """Add one example.

        Args:
            row_id: unique within the dataset.
            labels: names, or indices into the dataset's labels; each at most once counts.
            content: image uint8 (H, W, C), text str, or vector float32 (F,).
            size: height and width of the image before resizing.
            where: file and row, for error messages.

        Lone surrogates in a text become U+FFFD; `mended` lists such rows.

        Raises:
            DataError: an id that is already there, a label that is not in the list, a row of another shape, or a
                vector with a value that is not finite in float32.
        """
        if row_id in self.ids:
            raise DataError(f"{where or self.name}: the id {row_id!r} occurs twice; ids must be unique")
        self.ids[row_id] = None
        self._label_ids.extend(sorted({self._label_number(label, where or row_id) for label in labels}))
        self._label_offsets.append(len(self._label_ids))
        if self._texts is not None:
            self.empty_texts += not content
            encoded = self._encoded(content, where or row_id)
            self._note_content(encoded)
            self._text_offsets.append(self._text_offsets[-1] + self._texts.write(encoded))
            return
        row = np.asarray(content)
        if self.modality == "image":
            self._sizes.extend(size or row.shape[:2])
        self._append(row, where or row_id)

    def _note_content(self, content: bytes) -> None:
        self.digests.frombytes(hashlib.blake2b(content, digest_size=8).digest())

    def _encoded(self, text: str, where: str) -> bytes:
        try:
            return text.encode("utf-8")
        except UnicodeEncodeError:
            self.mended.append(where)
            return LONE_SURROGATE.sub("\ufffd", text).encode("utf-8")

    def _label_number(self, label: str | int, where: str) -> int:
        if isinstance(label, str):
            number = self._number.get(label, -1)
            if number < 0:
                number = self._number.get(normal_form(label), -1)
        else:
            number = label
        if not 0 <= number < len(self.label_names):
            raise DataError(
                f"{where}: label {label!r} is not in the list: {closest(str(label), self.label_names)}"
            )
        return int(number)

    def _append(self, row: np.ndarray, where: str) -> None:
        if self._rows is None:
            name, dtype = (form.IMAGES, np.uint8) if self.modality == "image" else (form.VECTORS, np.float32)
            self._rows = NpyStream(self.folder / name, dtype, row.shape)
        if row.shape != self._rows.row_shape:
            raise DataError(
                f"{where}: shape {row.shape} differs from the rows before, {self._rows.row_shape}"
            )
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(row, dtype=self._rows.dtype)
        if self.modality == "vector" and not np.isfinite(stored).all():
            column = int(np.flatnonzero(~np.isfinite(stored))[0])
            raise DataError(
                f"{where}: column {column} (of the features, from 0) is {row[column]}; vectors must be finite (in "
                "float32)"
            )
        self._note_content(stored.tobytes())
        self._rows.append(stored[None])

    @property
    def row_shape(self) -> tuple[int, ...] | None:
        """The shape of an image or vector; None for texts."""
        return self._rows.row_shape if self._rows is not None else None

    def finish(self) -> dict[str, Any]:
        """Close all files; the split's counts for the card. Raises DataError where the split is empty."""
        if not self.ids:
            raise DataError(f"split {self.name!r} is empty; every split needs at least one example")
        self.close()
        if self.modality == "text":
            self._save(form.TEXT_OFFSETS, np.frombuffer(self._text_offsets, dtype=np.int64))
        if self.modality == "image":
            self._save(form.SIZES, np.frombuffer(self._sizes, dtype=np.int32).reshape(-1, 2))
        self._save(form.IDS, np.array(list(self.ids)))
        offsets = np.frombuffer(self._label_offsets, dtype=np.int64)
        label_ids = np.frombuffer(self._label_ids, dtype=np.int32)
        self._save(form.LABEL_OFFSETS, offsets)
        self._save(form.LABEL_IDS, label_ids)
        return split_counts(offsets, label_ids, self.label_names)

    def close(self) -> None:
        """Close the files; more than once does no harm."""
        if self._rows is not None:
            self._rows.close()
        if self._texts is not None:
            self._texts.close()

    def _save(self, name: str, values: np.ndarray) -> None:
        np.save(self.folder / name, values, allow_pickle=False)


def split_counts(offsets: np.ndarray, label_ids: np.ndarray, label_names: list[str]) -> dict[str, Any]:
    """Examples, cardinality (mean labels of a row), density (cardinality / labels), empty rows, label counts."""
    examples = len(offsets) - 1
    counts = np.bincount(label_ids, minlength=len(label_names))
    cardinality = len(label_ids) / examples
    return {
        "examples": examples,
        "cardinality": cardinality,
        "density": cardinality / len(label_names),
        "empty_rows": int((np.diff(offsets) == 0).sum()),
        "label_counts": {label: int(count) for label, count in zip(label_names, counts, strict=True)},
    }


class DatasetWriter:
    """A dataset in the making, as a context: `with DatasetWriter(...) as writer: writer.split("train").add(...)`.

    A source declares the labels before it adds the first row, and may `warn` (counted, shown in the card).
    """

    def __init__(self, folder: Path, modality: str) -> None:
        folder.mkdir(parents=True)
        self.folder, self.modality = folder, modality
        self.label_names: list[str] = []
        self.notes: list[str] = []
        self._splits: dict[str, SplitWriter] = {}
        self.files: list[dict[str, Any]] = []
        self._warnings: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def labels(self, names: Iterable[str]) -> None:
        """Declare the label names, in order; they are stored in Unicode NFC with single spaces.

        Raises DataError for none, an empty name, one that occurs twice (in that form), or one that holds control
        characters or half characters. Names that differ by case or space only are a warning.
        """
        given = list(names)
        for name in given:
            if reason := defect(name):
                raise DataError(f"label {shown(name)} {reason}; mend it in the raw file")
        self.label_names = [normal_form(name) for name in given]
        for name, stored in zip(given, self.label_names, strict=True):
            if name != stored:
                self.warn("label names brought to one form (Unicode NFC, single spaces)", stored)
        for group in near_equal(self.label_names):
            self.warn("labels that differ by case, space or hyphens only", " / ".join(group))
        twice = [label for label, count in Counter(self.label_names).items() if count > 1]
        if not self.label_names or twice:
            raise DataError(
                f"label names must be there and differ; twice: {twice}" if twice else "there are no labels"
            )

    def split(self, name: str) -> SplitWriter:
        """The writer of one of the splits train, val and test."""
        if name not in form.SPLITS:
            raise DataError(f"unknown split {name!r}: {closest(name, form.SPLITS)}")
        if name not in self._splits:
            self._splits[name] = SplitWriter(self.folder / name, name, self.modality, self.label_names)
        return self._splits[name]

    def warn(self, kind: str, where: str = "") -> None:
        """Count something that a reader of the card should know of; the first few places are kept."""
        self._warnings[kind] += 1
        places = self._examples.setdefault(kind, [])
        if where and len(places) < MAX_EXAMPLES_OF_A_WARNING:
            places.append(where)

    def note(self, sentence: str) -> None:
        """A fact about this dataset for its card (how splits were made, for instance), said once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def read(self, file: Path, rows: int, **counts: int) -> None:
        """For the card: a raw file, the rows that were read of it, and other counts (lines, say) that are not 0."""
        self.files.append(
            {"file": file.name, "rows": rows, **{key: value for key, value in counts.items() if value}}
        )

    def finish(self, about: dict[str, Any]) -> dict[str, Any]:
        """Close everything and write the card (last of all files); returns the card.

        Raises DataError for an empty split, training rows without any label, ids in several splits, and splits of
        different shapes.
        """
        splits = {name: self.split(name).finish() for name in form.SPLITS}
        self._refuse_shared_ids()
        self._refuse_other_shapes()
        if splits["train"]["empty_rows"] == splits["train"]["examples"]:
            raise DataError("no row of the training split has a label; there is nothing to learn")
        files = {path.relative_to(self.folder).as_posix(): path for path in sorted(self.folder.rglob("*.*"))}
        listed = {
            name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for name, path in files.items()
        }
        content = {
            "format": form.VERSION,
            **about,
            "modality": self.modality,
            "labels": self.label_names,
            "splits": splits,
            "found": self._found(splits),
            "content_sha256": _content_digest(self.label_names, listed),
            "notes": self.notes,
            "warnings": self._all_warnings(splits),
            "files": listed,
        }
        card = sealed(content)
        text = json.dumps(card, indent=1, ensure_ascii=False, sort_keys=False)
        # Names of files need not be Unicode; JSON has an escape for what UTF-8 cannot say.
        for name in (form.CARD_COPY, form.CARD):
            (self.folder / name).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
        return card

    def _found(self, splits: dict[str, Any]) -> dict[str, Any]:
        """Files against rows, rows with labels, and duplicates, for the sanity report."""
        digests = [
            np.unique(np.frombuffer(split.digests, dtype=np.uint64)) for split in self._splits.values()
        ]
        rows = sum(len(split.digests) for split in self._splits.values())
        _, in_splits = np.unique(np.concatenate(digests), return_counts=True)
        return {
            "files": self.files,
            "labelled_rows": {
                name: split["examples"] - split["empty_rows"] for name, split in splits.items()
            },
            "duplicates": {"rows": rows - len(in_splits), "across_splits": int((in_splits > 1).sum())},
        }

    def _refuse_shared_ids(self) -> None:
        writers = list(self._splits.values())
        for number, first in enumerate(writers):
            for second in writers[number + 1 :]:
                if shared := first.ids.keys() & second.ids.keys():
                    raise DataError(
                        f"the id {min(shared)!r} is in {first.name} and in {second.name} ({len(shared)} such)"
                    )

    def _refuse_other_shapes(self) -> None:
        shapes = {name: split.row_shape for name, split in self._splits.items()}
        if len(set(shapes.values())) > 1:
            listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise DataError(f"rows differ in shape between the splits: {listed}; all need the same columns")

    def _all_warnings(self, splits: dict[str, Any]) -> list[dict[str, Any]]:
        found = [
            {"kind": kind, "count": count, "examples": self._examples[kind]}
            for kind, count in self._warnings.items()
        ]
        for name, counts in splits.items():
            if empty := self._splits[name].empty_texts:
                found.append({"kind": f"empty texts in {name}", "count": empty, "examples": []})
            if mended := self._splits[name].mended:
                kind = f"texts in {name} with half characters (lone surrogates), replaced by U+FFFD"
                found.append(
                    {"kind": kind, "count": len(mended), "examples": mended[:MAX_EXAMPLES_OF_A_WARNING]}
                )
            without = [label for label, count in counts["label_counts"].items() if count == 0]
            if counts["empty_rows"]:
                found.append(
                    {"kind": f"rows without labels in {name}", "count": counts["empty_rows"], "examples": []}
                )
            if counts["empty_rows"] == counts["examples"]:
                found.append(
                    {"kind": f"no row of {name} has a label", "count": counts["examples"], "examples": []}
                )
            if without:
                kind = f"labels without a positive in {name}"
                found.append(
                    {"kind": kind, "count": len(without), "examples": without[:MAX_EXAMPLES_OF_A_WARNING]}
                )
        return found

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for split in self._splits.values():
            split.close()


def _content_digest(label_names: list[str], files: dict[str, dict[str, Any]]) -> str:
    contents = {name: entry["sha256"] for name, entry in files.items()}
    return hashlib.sha256(json.dumps([label_names, contents], sort_keys=True).encode()).hexdigest()
