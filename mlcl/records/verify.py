"""Is all of a study's results what was written, and do the metrics follow from the scores?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlcl.digests import first_defect, hashing_all, is_sealed
from mlcl.errors import MlclError
from mlcl.records.code import FOLDER
from mlcl.records.collect import card_defects, read_collected
from mlcl.records.nested import flatten
from mlcl.records.outline import OpenStudy, read_outline
from mlcl.records.paths import CellId, StudyPaths
from mlcl.records.rescore import metrics_of
from mlcl.records.status import cell_statuses, trial_statuses

TOLERANCE = 1e-6
"""Between a metric and the same computed here: libraries and processors sum in different orders."""


def defects(study: OpenStudy) -> Iterator[str]:
    """One line, which begins with the file, for all that is not what was written; hashes every file.

    What is not there at all is no defect: `mlcl status` tells of it.
    """
    with hashing_all():
        cells = cell_statuses(*study)
        for status in (*trial_statuses(*study), *cells):
            if status.damage is not None:
                yield status.damage
            elif status.record is not None and status.record.status == "ok":
                yield from _defects_of_metrics(study, status.cell.id, status.record.result)
        yield from card_defects(study, cells)
        yield from _defects_of_the_rest(study)


def _defects_of_metrics(study: OpenStudy, cell: CellId, result: dict[str, Any]) -> Iterator[str]:
    file = study.paths.record(cell)
    if result.get("metrics_source") != study.outline.metrics_source:
        return  # by other code; computed anew when the records are collected
    card = study.paths.card(cell.dataset)
    try:
        computed = flatten(metrics_of(file.parent, card))
    except MlclError as error:
        yield str(error)
        return
    stored = flatten(result["metrics"])
    for name, a in stored.items():
        b = computed.get(name)
        if b is None and not card.exists():
            continue  # it follows from the card too
        if b is None or not abs(a - b) <= TOLERANCE:
            yield f"{file}: {name} is {a}, and from the scores beside it {b}; score the records anew (mlcl evaluate)"


def _defects_of_the_rest(study: OpenStudy) -> Iterator[str]:
    paths = study.paths
    if paths.outline.exists():
        try:
            read_outline(paths.outline)
        except MlclError as error:
            yield str(error)
    if paths.collected.exists() and read_collected(study) is None:
        defect = _defect_of_a_collected_file(paths) or (
            f"{paths.collected}: is not what was written, or the study changed since"
        )
        yield f"{defect}; collect the records again (mlcl aggregate)"
    caches = sorted(paths.results.glob("*_cache.json"))
    sealed = [paths.pair_weights, *caches, *sorted((paths.results / FOLDER).glob("*.json"))]
    for file in sealed:
        if file.exists() and not _is_sealed_file(file):
            yield f"{file}: is not what was written (its seal does not fit); remove it, and it is made again"


def _defect_of_a_collected_file(paths: StudyPaths) -> str | None:
    """Which of the files that were collected is damaged; None if all are whole, or the list of them is damaged."""
    if not _is_sealed_file(paths.collected):
        return None
    files = json.loads(paths.collected.read_text(encoding="utf-8")).get("files")
    return first_defect(paths.results, files) if isinstance(files, dict) else None


def _is_sealed_file(file: Path) -> bool:
    try:
        return is_sealed(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, RecursionError):
        return False
