"""Learning curves of records as TensorBoard reads them, where the study asks for it (`report_to: tensorboard`).

They are written from a record's `history.csv` once the record is there, so that they change nothing of a cell. Each
cell is a run: `results/<study>/tensorboard/<cell>`.
"""

from __future__ import annotations

import calendar
import csv
import importlib.util
import time

from mlcl.errors import MlclError
from mlcl.records.files import atomic_folder
from mlcl.records.outline import OpenStudy
from mlcl.records.paths import CellId, StudyPaths
from mlcl.records.record import HISTORY, Record, find_record

TAGS = {
    "loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "examples_per_second": "train/examples_per_second",
    "val_loss": "val/loss",
    "val_micro_f1": "val/micro_f1",
}
"""Columns of `history.csv`, and what they are called in TensorBoard."""
MARK = "fingerprint"
"""A file beside the events: of which record they are."""


def require_tensorboard(asked_in: str) -> None:
    """Raises MlclError if TensorBoard is not installed. asked_in: file and key, for the message."""
    if importlib.util.find_spec("tensorboard") is None:
        raise MlclError(
            f"{asked_in}: tensorboard is not installed; install it by the extra: mlcl[tensorboard]"
        )


def write_curves(study: OpenStudy) -> int:
    """The curves of all records of a study that have none yet; returns how many."""
    cells = (cell.id for cell in study.outline.all_cells)
    return sum(write_curve(study.paths, cell) for cell in cells)


def write_curve(paths: StudyPaths, cell: CellId) -> bool:
    """Writes the curve of a cell's record, in place of that of an earlier one. Returns whether there was one to write:
    not where nothing was trained, the cell failed, or the record's curve is there already."""
    record, folder = find_record(paths.record(cell), cell).record, paths.tensorboard / str(cell)
    history = paths.cell(cell) / HISTORY
    if record is None or not history.exists():
        return False
    of = f"{record.fingerprint} {record.attempt}"
    mark = folder / MARK
    if mark.exists() and mark.read_text(encoding="utf-8") == of:
        return False
    with history.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    with atomic_folder(folder) as temporary:
        _write_events(str(temporary), lines, record)
        (temporary / MARK).write_text(of, encoding="utf-8")
    return True


def _write_events(folder: str, lines: list[dict[str, str]], record: Record) -> None:
    """One event an epoch, at the optimizer step that the epoch ended with.

    Their times are those of the training as far as the record tells: it is taken to end when the record was written.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    finished = calendar.timegm(time.strptime(record.run["finished"], "%Y-%m-%dT%H:%M:%SZ"))
    begun = finished - float(lines[-1]["seconds"]) if lines else finished
    writer = EventFileWriter(folder)
    for line in lines:
        values = [
            Summary.Value(tag=tag, simple_value=float(line[column]))
            for column, tag in TAGS.items()
            if line.get(column)
        ]
        event = Event(
            wall_time=begun + float(line["seconds"]), step=int(line["step"]), summary=Summary(value=values)
        )
        writer.add_event(event)
    writer.close()
