"""The record of a cell: `metrics.json` with a `result` block (compared bit for bit) and a `run` block (never).

Beside it lie `scores.npz`, `history.csv` and, where the study keeps them, `embeddings.npz` and the folder `model`.
The record holds the digests of these files and is sealed by one of its own content: a record of which anything changed
since is damaged, counts as missing, and the cell is made again. A new record is made in a folder aside, `metrics.json`
last, and takes the place of the old one when it is whole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from mlcl.digests import digests_of, first_defect, is_sealed, sealed
from mlcl.errors import RecordError
from mlcl.evaluation.ranges import is_in_range
from mlcl.records.files import sync, sync_tree, write_json
from mlcl.records.format import FORMAT, NewerFormatError, require_format
from mlcl.records.nested import flatten
from mlcl.records.paths import CellId

Status = Literal["ok", "diverged", "oom", "error"]
"""`diverged`: a loss, gradient or score that is not finite; `oom`: out of memory; `error`: anything else."""

RECORD = "metrics.json"
SCORES = "scores.npz"
HISTORY = "history.csv"
EMBEDDINGS = "embeddings.npz"
MODEL = "model"
"""A folder (`mlcl.model`)."""

FILES = (RECORD, SCORES, HISTORY, EMBEDDINGS, MODEL)

LARGEST = 64 << 20
"""Bytes of a record: a larger file is none."""
MAKE_AGAIN = "the cell is made again by the next run of its study"

Metrics = dict[str, dict[str, dict[str, float]]]
"""readout -> split -> metric -> value; the readout is `none` for what no encoder, or no readout, has a part in"""


@dataclass(frozen=True)
class Record:
    """What a finished cell leaves behind. `metrics` is empty unless `status` is `ok`."""

    result: dict[str, Any]
    run: dict[str, Any]

    @property
    def status(self) -> Status:
        return self.result["status"]

    @property
    def reason(self) -> str | None:
        return self.result["reason"]

    @property
    def fingerprint(self) -> str:
        return self.result["fingerprint"]

    @property
    def metrics(self) -> Metrics:
        return self.result["metrics"]

    @property
    def diagnostics(self) -> dict[str, Any]:
        """What was measured of the training (`mlcl.records.diagnosis` judges); empty where nothing is trained."""
        return self.result.get("diagnostics") or {}

    @property
    def attempt(self) -> int:
        """How many times the cell was run with these settings, failures included."""
        return self.run["attempt"]

    def with_metrics(self, metrics: Metrics, metrics_source: str) -> Record:
        """The same record, scored anew."""
        return Record(self.result | {"metrics": metrics, "metrics_source": metrics_source}, self.run)


class Found(NamedTuple):
    """What lies in the place of a record: one, nothing, or a damaged one."""

    record: Record | None
    damage: str | None = None
    """Why it is no whole record, in words that name the file; None if it is one or nothing is there."""


def write_record(path: Path, record: Record) -> None:
    """Writes it with its seal and with the digests of the files that lie beside it."""
    others = (path.parent / name for name in FILES if name != RECORD)
    files = [file for other in others for file in ([other] if other.is_file() else _files_below(other))]
    names = [file.relative_to(path.parent).as_posix() for file in files]
    content = {
        "format": FORMAT,
        "result": record.result,
        "run": record.run,
        "files": digests_of(path.parent, names),
    }
    write_json(path, sealed(content))


def read_record(path: Path, cell: CellId | None = None) -> Record:
    """The record, checked against its seal, and the files beside it against their digests.

    cell: whose record it should be. Raises RecordError if the file is not a record, is damaged, or a file beside it
    is; FileNotFoundError if it is not there.
    """
    content = _read_sealed(path)
    record = Record(content["result"], content["run"])
    if cell is not None and record.result.get("id", str(cell)) != str(cell):
        raise RecordError(f"{path}: is the record of another cell, {record.result['id']}; {MAKE_AGAIN}")
    if (defect := first_defect(path.parent, content["files"])) is not None:
        raise RecordError(f"{defect}; {MAKE_AGAIN}")
    return record


def find_record(path: Path, cell: CellId | None = None) -> Found:
    """As `read_record`, but a record that is damaged or not there is told, not raised.

    Raises NewerFormatError: what a later version wrote is not damaged.
    """
    try:
        return Found(read_record(path, cell))
    except FileNotFoundError:
        return Found(None)
    except NewerFormatError:
        raise
    except RecordError as error:
        return Found(None, str(error))


def read_record_if_present(path: Path, cell: CellId | None = None) -> Record | None:
    """As `read_record`; None if the file is not there."""
    try:
        return read_record(path, cell)
    except FileNotFoundError:
        return None


def require_sealed(file: Path) -> None:
    """Raises RecordError if the record beside the file is damaged, or the file is not what the record was written
    with. Where there is no record, there is nothing to compare with: it is being made."""
    record = file.parent / RECORD
    if not record.exists() or not file.exists():
        return
    files = _read_sealed(record)["files"]
    if file.name not in files:
        raise RecordError(f"{file}: is no file of the record beside it; remove it")
    if (defect := first_defect(file.parent, {file.name: files[file.name]})) is not None:
        raise RecordError(f"{defect}; {MAKE_AGAIN}")


def stored_files(path: Path) -> list[str]:
    """Paths, below its folder, of a record's files, its own left out. Raises RecordError as `read_record` does."""
    return list(_read_sealed(path)["files"])


def _files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _read_sealed(path: Path) -> dict[str, Any]:
    no_record = f"{path}: is no record of a cell; {MAKE_AGAIN}"
    try:
        if path.stat().st_size > LARGEST:
            raise RecordError(no_record)
        content = json.loads(path.read_text(encoding="utf-8"))
        require_format(content, path, MAKE_AGAIN)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, AttributeError, RecursionError):
        raise RecordError(no_record) from None
    if not is_sealed(content):
        raise RecordError(f"{path}: is not what was written (its seal does not fit); {MAKE_AGAIN}")
    if defect := next(_defects_of_content(content), None):
        raise RecordError(f"{path}: is no record of a cell ({defect}); {MAKE_AGAIN}")
    return dict(content)


def _defects_of_content(content: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a record whose seal fits: it was written so."""
    result, run = content.get("result"), content.get("run")
    if (
        not isinstance(result, dict)
        or not isinstance(run, dict)
        or not isinstance(content.get("files"), dict)
    ):
        yield "it has no result, run or files"
        return
    if foreign := [name for name in content["files"] if not _may_hold(name)]:
        yield f"it lists the file {foreign[0]!r}"
    if lacking := {"status", "fingerprint", "metrics", "reason"} - result.keys():
        yield f"it has no {min(lacking)}"
        return
    if result["status"] not in get_args(Status) or not isinstance(run.get("attempt"), int):
        yield f"status {result['status']!r}, attempt {run.get('attempt')!r}"
    metrics = [(path.rpartition(".")[2], value) for path, value in flatten(result["metrics"]).items()]
    if result["status"] == "ok" and not metrics:
        yield "status ok, but no metrics"
    for name, value in metrics:
        if not is_in_range(name, value):
            yield f"{name} is {value!r}, which it cannot be"


def _may_hold(name: str) -> bool:
    """Is this the path of a file that belongs to a record?"""
    parts = name.split("/")
    return name in FILES[1:-1] or (parts[0] == MODEL and not {"", ".", ".."} & set(parts))


class RecordSlot:
    """The place of a cell's record, and the folder aside in which a new one is made.

    `replace` moves the new record into the place of the old one. A process that is killed meanwhile leaves enough
    for `recover` to go on: at no moment do files of two records lie in the cell's folder with a `metrics.json`.
    """

    def __init__(self, cell: Path, unfinished: Path) -> None:
        self._cell = cell
        self.new = unfinished / "new"
        """Where the new record is made."""
        self._old, self._incoming = unfinished / "old", unfinished / "incoming"

    def clear(self) -> None:
        """An empty folder for a new record."""
        shutil.rmtree(self.new, ignore_errors=True)
        self.new.mkdir(parents=True)

    def recover(self, wanted: str, attempt: int) -> None:
        """Ends a replacement that a kill interrupted, and takes a new record that is whole and has the fingerprint
        `wanted` and at least this attempt's number."""
        if self._incoming.exists():
            self._move_in()
        made = find_record(self.new / RECORD).record
        if made is not None and made.fingerprint == wanted and made.attempt >= attempt:
            self.replace()

    def replace(self) -> None:
        """Puts the new record, which is whole, in the place of the old one."""
        sync_tree(self.new)
        self._old.mkdir(exist_ok=True)
        for name in FILES:  # metrics.json first: without it the others count for nothing
            if (self._cell / name).exists():
                _remove(self._old / name)
                (self._cell / name).rename(self._old / name)
        self.new.rename(self._incoming)
        self._move_in()

    def _move_in(self) -> None:
        for name in reversed(FILES):
            if (self._incoming / name).exists():
                (self._incoming / name).rename(self._cell / name)
        sync(self._cell)
        shutil.rmtree(self._incoming)
        shutil.rmtree(self._old, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
