"""The record of a cell: `metrics.json` with a `result` block (compared bit for bit) and a `run` block (never).

Beside it lie `scores.npz`, `history.csv` and, where the study keeps them, `embeddings.npz` and the folder `model`.
`metrics.json` is written last: where it stands, the record is whole.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from mlcl.errors import RecordError
from mlcl.records.files import write_json
from mlcl.records.format import FORMAT, require_format

Status = Literal["ok", "diverged", "oom", "error"]
"""`diverged`: a loss, gradient or score that is not finite; `oom`: out of memory; `error`: anything else."""

SCORES = "scores.npz"
HISTORY = "history.csv"
EMBEDDINGS = "embeddings.npz"
MODEL = "model"
"""A folder (`mlcl.model`)."""

Metrics = dict[str, dict[str, float]]
"""split -> metric -> value"""


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


def read_record_if_present(path: Path) -> Record | None:
    """None if the file is not there. Raises RecordError if it is not a record."""
    try:
        return read_record(path)
    except FileNotFoundError:
        return None
