"""A finished cell's model as a folder of its own: encoder, heads, labels, thresholds, and a card."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from mlcl.digests import first_defect
from mlcl.errors import MlclError
from mlcl.evaluation.metrics import best_thresholds
from mlcl.evaluation.readouts import preference
from mlcl.records.cards import read_card
from mlcl.records.files import atomic_folder
from mlcl.records.outline import OpenStudy, Outline
from mlcl.records.paths import CellId, StudyPaths
from mlcl.records.record import MODEL, SCORES, Metrics, Record, read_record_if_present
from mlcl.records.rescore import read_all_scores
from mlcl.suggest import closest

if TYPE_CHECKING:
    from mlcl.model.config import ModelConfig

EXPORTS = Path("models")


def default_folder(study: str, cell: CellId) -> Path:
    return EXPORTS / study / str(cell).replace("/", "-")


def export(study: OpenStudy, cell: str, to: Path | None = None, readout: str | None = None) -> Path:
    """Packs the model that a cell of the study kept; returns the folder, which is replaced as a whole.

    The model has all readouts of its cell; `readout` is the one that it is used with, by default the one that the
    study's tables are about. Raises MlclError for a cell that is not there, failed, or kept no model, for a readout
    that it does not have, and for a folder that holds something else.
    """
    from mlcl.model.config import read_config

    outline, paths = study
    cell_id, again = _known_cell(outline, cell)
    model, record = _stored_model(paths, cell_id, again)
    config = read_config(model)
    if (defect := first_defect(model, config.files)) is not None:
        raise MlclError(f"{defect}; run '{again}'")
    usual = next((name for name in preference(outline.readout) if name in config.readouts), None)
    config = config.with_readout(readout or usual)
    if (card := read_card(paths.card(cell_id.dataset))) is None:
        raise MlclError(f"{paths.card(cell_id.dataset)}: is not there; run the study again")
    folder = to or default_folder(outline.study, cell_id)
    refuse_foreign(folder)
    with atomic_folder(folder) as temporary:
        shutil.copytree(model, temporary, dirs_exist_ok=True)
        stored = read_all_scores(paths.cell(cell_id) / SCORES)
        complete(temporary, config, stored, record.metrics, card, record.result["selection"])
    return folder


def complete(
    folder: Path,
    config: ModelConfig,
    stored: Mapping[str, Mapping[str, NDArray[Any]]],
    metrics: Metrics,
    card: Mapping[str, Any],
    selection: str | None,
) -> None:
    """Adds thresholds, metrics and the model card to a model's folder.

    stored: readout -> scores and labels of both splits (`mlcl.records.rescore.read_all_scores`).
    """
    from mlcl.model.card import render
    from mlcl.model.config import CARD, write_config

    parts = {
        name: part.model_copy(update={"thresholds": _tuned(stored[name]), "metrics": metrics[name]})
        for name, part in config.readouts.items()
    }
    config = config.model_copy(update={"readouts": parts})
    write_config(folder, config)
    (folder / CARD).write_text(render(config, card, selection), encoding="utf-8")


def _tuned(scores: Mapping[str, NDArray[Any]]) -> list[float]:
    """For each label the threshold with the best F1 on validation."""
    return [float(value) for value in best_thresholds(scores["val_labels"], scores["val_scores"])]


def _known_cell(outline: Outline, cell: str) -> tuple[CellId, str]:
    """The cell, and the command that makes it."""
    names = [str(planned.id) for planned in outline.cells]
    if cell not in names:
        raise MlclError(f"study {outline.study}: has no cell '{cell}'; {closest(cell, names)}")
    return CellId.parse(cell), f"mlcl train {outline.file} {cell}"


def _stored_model(paths: StudyPaths, cell: CellId, again: str) -> tuple[Path, Record]:
    """The folder of the model that the cell kept, and its record."""
    record = read_record_if_present(paths.record(cell))
    if record is None:
        raise MlclError(f"{cell}: has no record yet; set keep_models: true in the study, and run '{again}'")
    if record.status != "ok":
        raise MlclError(f"{cell}: has no model: {record.status}: {record.reason}")
    folder = paths.cell(cell) / MODEL
    if not folder.is_dir():
        if record.result.get("settings", {}).get("encoder") is None:
            raise MlclError(f"{cell}: has no encoder, so there is no model to export")
        raise MlclError(
            f"{cell}: was made without keeping its model; set keep_models: true in the study, and run '{again}'"
        )
    return folder, record


def refuse_foreign(folder: Path) -> None:
    """Only an earlier export is replaced."""
    from mlcl.model.config import CONFIG, WEIGHTS

    if not folder.name:
        raise MlclError(f"{folder}: name a new folder with --to")
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not ((folder / WEIGHTS).is_file() and (folder / CONFIG).is_file()):
        raise MlclError(f"{folder}: holds something that is no exported model; name another folder with --to")
