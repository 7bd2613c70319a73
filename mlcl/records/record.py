"""The record of a cell: `metrics.json` with a `result` block (compared bit for bit) and a `run` block (never).

Beside it lie `scores.npz`, `history.csv` and, where the study keeps them, `embeddings.npz` and the folder `model`.
A new record is made in a folder aside, `metrics.json` last, and takes the place of the old one when it is whole.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from mlcl.errors import RecordError
from mlcl.records.files import sync, sync_tree, write_json
from mlcl.records.format import FORMAT, require_format

Status = Literal["ok", "diverged", "oom", "error"]
"""`diverged`: a loss, gradient or score that is not finite; `oom`: out of memory; `error`: anything else."""

RECORD = "metrics.json"
SCORES = "scores.npz"
HISTORY = "history.csv"
EMBEDDINGS = "embeddings.npz"
MODEL = "model"
"""A folder (`mlcl.model`)."""

FILES = (RECORD, SCORES, HISTORY, EMBEDDINGS, MODEL)

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


def write_record(path: Path, record: Record) -> None:
    write_json(path, {"format": FORMAT, "result": record.result, "run": record.run})


def read_record(path: Path) -> Record:
    """Raises RecordError if the file is not a record; FileNotFoundError if it is not there."""
    make_again = "remove it, and the cell is made again"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        require_format(content, path, make_again)
        record = Record(content["result"], content["run"])
        is_record = (
            record.status in get_args(Status) and {"fingerprint", "metrics", "reason"} <= record.result.keys()
        )
        if not is_record or not isinstance(record.attempt, int):
            raise KeyError("status")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RecordError(f"{path}: is no record of a cell; {make_again}") from None
    return record


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
        made = read_record_if_present(self.new / RECORD)
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


def read_record_if_present(path: Path) -> Record | None:
    """None if the file is not there. Raises RecordError if it is not a record."""
    try:
        return read_record(path)
    except FileNotFoundError:
        return None
