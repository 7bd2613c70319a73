"""Results that are kept in the repository: what tables, figures, claims and the report are made of, as text.

A kept folder holds no record, score, text or weight. What reporting needs of scores, the jackknife values of the cells
that its tables compare, is computed before and stored. It opens like any results folder.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from mlcl.errors import MlclError
from mlcl.records.collect import CELLS_COLUMNS, COORDINATES, require_collected, write_collected
from mlcl.records.files import atomic_folder, write_text
from mlcl.records.labels import write_confusions
from mlcl.records.outline import OpenStudy, write_outline
from mlcl.records.paths import StudyPaths
from mlcl.reporting.claims import judge_all
from mlcl.reporting.contrasts import Contrasts
from mlcl.reporting.failures import Attempts
from mlcl.reporting.leaderboard.comparisons import Study
from mlcl.reporting.leaderboard.page import study_contrasts
from mlcl.reporting.overview import overview
from mlcl.reporting.results import Results, load_results, read_csv
from mlcl.reporting.tables import study_tables, write_tables
from mlcl.reporting.wide import widen

LARGEST = 3_000_000
"""Bytes of a kept folder, with its tables in Markdown."""
ROOM = 0.9
"""The share of it for all but the tables."""
README = "README.md"


@dataclass(frozen=True)
class Kept:
    """A kept folder: its size, and how many cells have a result, of how many."""

    folder: Path
    bytes: int
    ok: int
    cells: int
    emptied: tuple[str, ...]
    """Files of single labels that were too large and are empty."""

    def render(self) -> str:
        emptied = "".join(f"; {name} is too large and is kept empty" for name in self.emptied)
        return f"{self.ok} of {self.cells} cells kept in {self.folder} ({self.bytes / 1e6:.2f} MB){emptied}"


def keep(study: OpenStudy, folder: Path, replace: bool = False) -> Kept:
    """Writes the collected results of a study into `folder`, in the place of what was kept there; texts
    (`*.md`) that lie there stay.

    Metrics of the split of the study's tables are kept, others left out; values are rounded to six digits; maps of
    embeddings are left out. Raises MlclError if the study's results are kept ones, were not collected, are larger
    than 3 MB in this form, or lack cells that the folder has, unless `replace`: what was kept on another machine is
    not to be lost to a run that is not finished.
    """
    results = load_results(study.paths.results)
    if results.kept:
        raise MlclError(f"{study.paths.results}: holds kept results already; copy the folder")
    if (
        folder.exists()
        and any(folder.iterdir())
        and not StudyPaths(study.outline.study, folder=folder).collected.exists()
    ):
        raise MlclError(
            f"{folder}: is there and holds no results; name a new folder, or one that was kept before"
        )
    if not replace and (lost := _lost(results, StudyPaths(study.outline.study, folder=folder))):
        raise MlclError(
            f"{folder}: has {len(lost)} cells that these results lack ({'/'.join(lost[0])}, ...); finish the run, or "
            "let it take their place (--replace)"
        )
    _compute_jackknife(results)
    with atomic_folder(folder) as new:
        there = StudyPaths(study.outline.study, folder=new)
        write_outline(study.outline, there.outline)
        _copy(results, there)
        _write_readme(results, folder, new)
        return finish(OpenStudy(study.outline, there), folder, require_collected(study).provenance)


def finish(study: OpenStudy, folder: Path, provenance: dict[str, dict[str, int]]) -> Kept:
    """Seals what lies in the study's folder, which is to take the place of `folder`, and writes its tables.

    Raises MlclError if all of it is larger than 3 MB.
    """
    new = study.paths.results
    emptied = _empty_what_is_too_large(study.paths)
    write_collected(study, "", provenance, kept=True)
    write_tables(new, markdown_alone=True)
    if (size := _size(new)) > LARGEST:
        largest = max(
            (file for file in new.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size
        )
        raise MlclError(
            f"{folder}: the results take {size / 1e6:.1f} MB as text and at most {LARGEST / 1e6:.0f} MB are kept; "
            f"the largest file is {largest.name} ({largest.stat().st_size / 1e6:.1f} MB): split the study"
        )
    cells = read_csv(study.paths.cells_csv, CELLS_COLUMNS)
    counted = cells[cells["state"] != "skipped"]
    return Kept(folder, size, int((counted["state"] == "ok").sum()), len(counted), emptied)


def _lost(results: Results, before: StudyPaths) -> list[tuple[str, ...]]:
    """Cells with a result in the folder and none here, of those that the study asks for."""
    if not before.cells_csv.exists():
        return []
    cells = results.cells
    asked = set(cells[list(COORDINATES)].astype(str).itertuples(index=False, name=None))
    here = set(
        cells[cells["state"] == "ok"][list(COORDINATES)].astype(str).itertuples(index=False, name=None)
    )
    kept = read_csv(before.cells_csv, CELLS_COLUMNS)
    ok = kept[kept["state"] == "ok"][list(COORDINATES)].astype(str).itertuples(index=False, name=None)
    return [cell for cell in ok if cell in asked and cell not in here]


def _compute_jackknife(results: Results) -> None:
    """Everything that compares rows is made once, so that what it needs of the scores is stored."""
    contrasts, attempts = Contrasts(results), Attempts("keep")
    attempts.make("overview", lambda: overview(results, contrasts))
    study_tables(results, contrasts, attempts)
    attempts.make("claims", lambda: judge_all(results, contrasts))
    attempts.make("leaderboard", lambda: study_contrasts(Study(results.outline.study, results, contrasts)))
    contrasts.write()


def _copy(results: Results, there: StudyPaths) -> None:
    here = results.paths
    widen(results.metrics[results.metrics["split"] == results.outline.split], there.metrics_csv)
    widen(results.costs, there.costs_csv)
    labels = results.labels[results.labels["variant"] == "base"]
    labels.to_csv(there.labels_csv, index=False, lineterminator="\n")
    for name in (
        "cells_csv",
        "curves_csv",
        "confusions",
        "jackknife",
        "search_csv",
        "chosen",
        "pair_weights",
    ):
        if getattr(here, name).exists():
            shutil.copyfile(getattr(here, name), getattr(there, name))
    for dataset in results.outline.datasets:
        if here.card(dataset).exists():
            there.card(dataset).parent.mkdir()
            shutil.copyfile(here.card(dataset), there.card(dataset))


def _empty_what_is_too_large(there: StudyPaths) -> tuple[str, ...]:
    """With many labels, what is told of each takes more than all else: the tables of labels are then missing."""
    emptied = []
    while (file := max((there.labels_csv, there.confusions), key=lambda file: file.stat().st_size)) and (
        _size(there.results) > LARGEST * ROOM and file.name not in emptied
    ):
        if file == there.confusions:
            write_confusions(file, {})
        else:
            write_text(file, file.read_text(encoding="utf-8").partition("\n")[0] + "\n")
        emptied.append(file.name)
    return tuple(emptied)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _write_readme(results: Results, before: Path, new: Path) -> None:
    """Texts that were there stay; without a README.md there is a first one, which says where the results come from."""
    for page in before.glob("*.md"):
        shutil.copyfile(page, new / page.name)
    if (new / README).exists():
        return
    outline = results.outline
    states = results.cells["state"].value_counts()
    facts = [
        f"- {name}: {', '.join(f'{value} ({count})' for value, count in counts.items())}"
        for name, counts in results.provenance.items()
    ]
    text = f"""# {outline.title}

{outline.description.strip()}

Study file: `{outline.file}`. Cells: {", ".join(f"{count} {state}" for state, count in states.items())}.
`mlcl report --all` of this folder makes tables, figures and the report again; [tables](tables/) are as they were then.

What the records say of where they were made (value, number of records):

{chr(10).join(facts)}
"""
    write_text(new / README, text)
