"""A finished study as an RO-Crate: its results folder with a description that repositories of research data read.

The crate (`mlcl crate`) is a results folder, so `mlcl tables FOLDER` and the like work in it, with one file more,
`ro-crate-metadata.json` (RO-Crate 1.2, https://w3id.org/ro/crate/1.2): title, date, files, datasets, papers of the
losses, and the software with the versions it ran on. All of it comes from outline, records and cards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlcl
from mlcl.errors import MlclError
from mlcl.records.archive import belongings
from mlcl.records.cards import read_card
from mlcl.records.collect import RUN_FACTS, require_collected
from mlcl.records.files import atomic_folder
from mlcl.records.outline import OpenStudy
from mlcl.records.status import study_status

ARXIV = re.compile(r"(.+) \(arXiv:([\d.]+)\)")
LICENSES = "https://spdx.org/licenses/"
FORMATS = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".npz": "application/zip",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".tex": "application/x-tex",
}
MEANING = {
    "card.json": "Description of a prepared dataset: source, citation, terms, rows, labels, digests",
    "cells.csv": "What became of each cell: ok, failed and why, or skipped",
    "costs.csv": "Costs of each cell in long form: seconds, memory, throughput",
    "history.csv": "Training of a cell, a line for each epoch",
    "metrics.csv": "All metrics of all cells in long form",
    "metrics.json": "Record of a cell: settings, metrics, how and where it was made",
    "outline.json": "What the study asks for: datasets, encoders, losses, settings, cells",
    "report.html": "Report: tables, figures and what can be concluded",
    "scores.npz": "Scores and labels of the validation and test rows of a cell (numpy arrays)",
}
"""What the files of these names hold."""


def write_crate(study: OpenStudy, folder: Path, licence: str | None = None) -> int:
    """Writes the crate, all of it or nothing; returns how many files of the study it holds.

    licence: of the results, an SPDX name (`CC-BY-4.0`) or an address; None: not stated. Raises MlclError if `rocrate`
    is not installed, `folder` exists, the results are not collected, or a cell has no current record.
    """
    try:
        from rocrate.model.contextentity import ContextEntity
        from rocrate.rocrate import ROCrate
    except ModuleNotFoundError:
        raise MlclError(
            "crates are written by rocrate, which is not installed: pip install 'mlcl[share]'"
        ) from None
    if folder.exists():
        raise MlclError(f"{folder}: exists already; name a new folder")
    status = study_status(study)
    if status.counts.to_make:
        raise MlclError(
            f"{status.study}: is not finished ({status.counts}); run the study, then make its crate"
        )
    provenance = require_collected(study).provenance
    outline = study.outline
    crate = ROCrate()

    def add(identifier: str, kind: str, **properties: Any) -> Any:
        stated = {key: value for key, value in properties.items() if value}
        return crate.add(ContextEntity(crate, identifier, properties={"@type": kind, **stated}))

    files = list(_files(study))
    root = crate.root_dataset
    root["name"] = outline.title
    root["description"] = outline.description or f"Results of the study {outline.study}"
    if finished := max(
        (cell.record.run.get("finished", "") for cell in status.cells if cell.record), default=""
    ):
        root["datePublished"] = finished
    if licence is not None:
        root["license"] = add(
            licence if "://" in licence else LICENSES + licence, "CreativeWork", name=licence
        )
    papers = filter(None, (ARXIV.fullmatch(loss.paper) for loss in outline.losses.values()))
    root["citation"] = [
        add(f"https://arxiv.org/abs/{number}", "ScholarlyArticle", name=title)
        for title, number in dict.fromkeys(paper.groups() for paper in papers)
    ]
    root["mentions"] = add(
        "#run",
        "CreateAction",
        name=f"Run of the study {outline.study}",
        endTime=finished,
        instrument=add(
            "#mlcl",
            "SoftwareApplication",
            name="mlcl",
            version=mlcl.__version__,
            softwareRequirements=_versions(provenance),
        ),
        object=[add(**dataset) for dataset in _datasets(study)],
        result=[
            crate.add_file(file, dest_path=place, properties=_properties(place), record_size=True)
            for file, place in files
        ],
    )
    with atomic_folder(folder) as new:
        crate.write(new)
    return len(files)


def _files(study: OpenStudy) -> Iterator[tuple[Path, str]]:
    """Each file and its place in the crate, which is the one in a results folder."""
    paths = study.paths
    for file in belongings(study).files:
        yield file, file.relative_to(paths.results).as_posix()
    if paths.report.exists():
        yield paths.report, paths.report.name
    for made, name in (
        (paths.tables, "tables"),
        (paths.figures, "figures"),
        (paths.report_files, "report_files"),
    ):
        for file in sorted(made.rglob("*")):
            if file.is_file():
                yield file, f"{name}/{file.relative_to(made).as_posix()}"


def _properties(place: str) -> dict[str, str]:
    name, _, ending = place.rpartition("/")[2].rpartition(".")
    stated = {"encodingFormat": FORMATS.get(f".{ending}"), "description": MEANING.get(f"{name}.{ending}")}
    return {"name": place} | {key: value for key, value in stated.items() if value is not None}


def _versions(provenance: dict[str, dict[str, int]]) -> list[str]:
    """`torch 2.15.0` and the like: all versions that the records name."""
    packages = ["python", *(name for name in provenance if name not in (*RUN_FACTS, "mlcl"))]
    return [f"{name} {version}" for name in packages for version in provenance.get(name, {})]


def _datasets(study: OpenStudy) -> Iterator[dict[str, Any]]:
    """The datasets as their cards describe them; the data themselves are not in the crate."""
    for name, dataset in study.outline.datasets.items():
        card = read_card(study.paths.card(name)) or {}
        splits = (f"{split} {counts['examples']}" for split, counts in card.get("splits", {}).items())
        content = card.get("content_sha256")
        yield {
            "identifier": f"#dataset-{name}",
            "kind": "Dataset",
            "name": dataset.title,
            "description": f"{dataset.modality}, {len(card.get('labels', ()))} labels; rows: {', '.join(splits)}",
            "url": card.get("homepage"),
            "creditText": card.get("citation"),
            "conditionsOfAccess": card.get("terms"),
            "sha256": content,
        }
