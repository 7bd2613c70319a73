"""The report: one self-contained page with tables, figures, settings, provenance and what is missing."""

from __future__ import annotations

import base64
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mlcl.errors import MlclError
from mlcl.evaluation.readouts import in_words
from mlcl.records.collect import RUN_FACTS
from mlcl.records.files import atomic_file, write_text
from mlcl.records.outline import Outline
from mlcl.records.paths import StudyPaths
from mlcl.reporting.budgets import selection_rule, tuning_in_words
from mlcl.reporting.claims import EXPLANATION, NOT_COMPLETE, Verdict, judge_all
from mlcl.reporting.contrasts import Contrasts
from mlcl.reporting.cost_means import compute_in_words
from mlcl.reporting.counts import counted
from mlcl.reporting.failures import Attempts, Failure
from mlcl.reporting.figures import INDEX
from mlcl.reporting.overview import Overview, conclude
from mlcl.reporting.overview_forms import as_html, in_brief
from mlcl.reporting.pages import render
from mlcl.reporting.results import Results, load_results
from mlcl.reporting.tables import html, label_tables, study_tables
from mlcl.reporting.tables.grid import dataset_table
from mlcl.reporting.tables.headings import heading
from mlcl.reporting.tables.table import Table
from mlcl.reporting.tables.text import comma_separated

SECTIONS = (
    ("overview", "Overview"),
    ("tables", "Tables"),
    ("claims", "Claims"),
    ("figures", "Figures"),
    ("datasets", "Datasets"),
    ("losses", "Losses"),
    ("settings", "Settings"),
    ("provenance", "Provenance"),
    ("cells", "Missing cells"),
)
LEADING = ("heat-map",)
"""The picture of the overview: the first of these that there is, or else the first figure of all."""
PNG_SIZE = slice(16, 24)
"""Width and height in a PNG file, four bytes each."""
WIDE = 1000
"""Pixels from which a figure takes the whole width of the page."""
EMBEDDED = 4_000_000
"""Bytes of pictures and CSV files inside the page; others lie in files beside it, and a browser fetches a picture when
it comes into view."""
MOST_LISTED = 500
"""Cells without a result and rows with remarks that are listed; more are counted."""


def write_report(study: str | Path, tell: Callable[[str], None] | None = None) -> list[Failure]:
    """`results/<study>/report.html`, from the CSV files and the figures that `write_figures` made.

    A part that fails is shown as failed in its place; the failures are returned. `tell` is given the overview in
    brief, line by line.
    """
    results, attempts = load_results(study), Attempts("report")
    contrasts = Contrasts(results)
    answer = attempts.make("overview", lambda: conclude(results, contrasts))
    write_text(results.paths.report, render("report.html", _content(results, contrasts, answer, attempts)))
    if tell is not None and not isinstance(answer, Failure):
        for line in in_brief(answer):
            tell(line)
    return attempts.write(results.paths)


def _content(
    results: Results, contrasts: Contrasts, answer: Overview | Failure, attempts: Attempts
) -> dict[str, Any]:
    outline = results.outline
    room = _Room(results.paths)
    figures = _figures(results.paths.figures, room)
    tables = [_table(table, attempts, room, outline) for table in study_tables(results, contrasts, attempts)]
    names = [table["name"] for table in tables]
    verdicts = attempts.make("claims", lambda: judge_all(results, contrasts))
    judged = [] if isinstance(verdicts, Failure) else verdicts
    contrasts.write()
    problems, remarks = list(_problems(results)), list(_remarks(results))
    return {
        "study": outline.study,
        "outline": outline,
        "sections": SECTIONS,
        "answer": (
            [_in_words(answer)]
            if isinstance(answer, Failure)
            else [as_html(paragraph, names) for paragraph in answer.paragraphs]
        ),
        "state": _state(results),
        "leading": _leading(figures),
        "tables": tables,
        "claims": [(v, v.claim.readout) for v in judged if v.answer != "no data"],
        "claims_without_data": [(v, v.claim.readout) for v in judged if v.answer == "no data"],
        "without_data": _without_data([v for v in judged if v.answer == "no data"]),
        "claims_failed": _in_words(verdicts) if isinstance(verdicts, Failure) else None,
        "explanation": EXPLANATION,
        "tuning": tuning_in_words(outline),
        "figures": _by_kind([figure for figure in figures if figure["dataset"] is None]),
        "datasets": list(_datasets(results, figures, attempts, room)),
        "settings": _settings(outline),
        "selection": selection_rule(outline),
        "provenance": _provenance(results),
        "problems": problems[:MOST_LISTED],
        "more_problems": max(0, len(problems) - MOST_LISTED),
        "without_result": counted(len(problems), "cell") + (" has" if len(problems) == 1 else " have"),
        "remarks": remarks[:MOST_LISTED],
        "more_remarks": max(0, len(remarks) - MOST_LISTED),
        "beside": room.beside,
    }


def _without_data(verdicts: Sequence[Verdict]) -> str:
    """What claims that nothing is known of would need."""
    n = len(verdicts)
    claims = f"{counted(n, 'claim')} {'needs' if n == 1 else 'need'}"
    if any(verdict.remark.startswith(NOT_COMPLETE) for verdict in verdicts):
        return f"{claims} losses, datasets or settings that are not in this study, or runs that are not there yet"
    return f"{claims} losses, datasets or settings that are not in this study"


def _table(table: Table | Failure, attempts: Attempts, room: _Room, outline: Outline) -> dict[str, Any]:
    """A table as the page shows it."""
    shown = (
        table if isinstance(table, Failure) else attempts.make(table.name, partial(_rendered, table, room))
    )
    if isinstance(shown, Failure):
        return {"name": shown.name, "failed": _in_words(shown), "heading": heading(shown.name, outline)}
    return {"name": table.name, "failed": None, "heading": heading(table.name, outline)} | shown


def _rendered(table: Table, room: _Room) -> dict[str, str]:
    return {"html": html.render(table), "csv": room.csv(table)}


def _in_words(failure: Failure) -> str:
    return f"{failure.name} failed: {failure.reason}"


def _state(results: Results) -> str:
    """What there is."""
    outline, states = results.outline, Counter(results.cells["state"])
    cells = len(results.cells) - states["skipped"]
    baselines = f" and {counted(len(outline.baselines), 'baseline')}" if outline.baselines else ""
    return (
        f"{counted(len(outline.losses), 'loss')}{baselines} on {counted(len(outline.datasets), 'dataset')} "
        f"with {counted(len(outline.seeds), 'seed')}: {states['ok']} of {counted(cells, 'cell')} "
        f"{'has' if cells == 1 else 'have'} a result."
    )


def _settings(outline: Outline) -> dict[str, dict[str, Any]]:
    """Heading -> setting -> value; protocols with the same settings stand under one heading."""
    by_settings: dict[str, list[str]] = {}
    for protocol, training_settings in outline.training.items():
        by_settings.setdefault(json.dumps(training_settings, sort_keys=True), []).append(protocol)
    own_training = {
        name: one.training for name, one in (outline.encoders | outline.losses).items() if one.training
    }
    return {
        **{
            f"Training: {', '.join(names)}": json.loads(training_settings)
            for training_settings, names in by_settings.items()
        },
        "Training of single encoders and losses": {
            name: _flat(training_settings) for name, training_settings in own_training.items()
        },
        "Readouts": {name: in_words(name) for name in outline.readouts},
        "Linear evaluation": outline.linear_evaluation,
        "Compute": outline.compute,
        "Variants": {name: _flat(changes) for name, changes in outline.variants.items() if changes},
        "Encoders": {name: _flat(encoder.settings) for name, encoder in outline.encoders.items()},
    }


def _flat(settings: Mapping[str, Any]) -> str:
    """`width = 24, dropout = 0.1`; parts of parts by their dotted names."""
    return ", ".join(f"{key} = {value}" for key, value in _items(settings)) or "as by default"


def _items(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _items(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


class _Room:
    """What the page may hold of pictures and CSV files: the first ones, up to EMBEDDED bytes in all."""

    def __init__(self, paths: StudyPaths) -> None:
        self._files = paths.report_files
        shutil.rmtree(self._files, ignore_errors=True)
        self._left = EMBEDDED
        self.beside = 0
        """How many of them lie beside the page."""

    def csv(self, table: Table) -> str:
        """The address of a table as CSV."""
        text = comma_separated(table).encode()
        if self._takes(len(text)):
            return "data:text/csv;base64," + base64.b64encode(text).decode()
        name = f"{table.name}.csv"
        with atomic_file(self._files / name, durable=False) as file:
            file.write_bytes(text)
        return f"{self._files.name}/{name}"

    def picture(self, file: Path) -> str:
        """The address of a picture."""
        if self._takes(file.stat().st_size):
            return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()
        return f"{file.parent.name}/{file.name}"

    def _takes(self, size: int) -> bool:
        takes = size * 4 / 3 <= self._left
        self._left -= size * 4 // 3 if takes else 0
        self.beside += not takes
        return takes


def _figures(folder: Path, room: _Room) -> list[dict[str, Any]]:
    """The figures as `write_figures` left them; those over all datasets get into the page first. Raises MlclError if a
    picture is gone."""
    try:
        index = json.loads((folder / INDEX).read_text("utf-8"))
        pictures = {
            entry["name"]: _picture(folder / f"{entry['name']}.png", room)
            for entry in sorted(index, key=lambda entry: entry["dataset"] is not None)
            if "error" not in entry
        }
    except FileNotFoundError as error:
        raise MlclError(f"{error.filename}: is not there; make the study's figures first") from None
    return [entry | pictures.get(entry["name"], {}) for entry in index]


def _picture(file: Path, room: _Room) -> dict[str, Any]:
    """A PNG file as the page shows it. It has twice the pixels that a common screen shows of it."""
    with file.open("rb") as content:
        head = content.read(PNG_SIZE.stop)
    width, height = (int.from_bytes(head[PNG_SIZE][k : k + 4], "big") for k in (0, 4))
    return {"width": width // 2, "height": height // 2, "wide": width > WIDE, "image": room.picture(file)}


def _by_kind(figures: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for figure in figures:
        found.setdefault(figure["kind"], []).append(figure)
    return found


def _leading(figures: list[dict[str, Any]]) -> dict[str, Any] | None:
    by_name = {figure["name"]: figure for figure in figures if "error" not in figure}
    return next((by_name[name] for name in LEADING if name in by_name), next(iter(by_name.values()), None))


def _datasets(
    results: Results, figures: list[dict[str, Any]], attempts: Attempts, room: _Room
) -> Iterable[dict[str, Any]]:
    """What each dataset's part of the page shows: facts, all metrics of its cells, its labels, its figures."""
    for name, dataset in results.outline.datasets.items():
        card = results.cards.get(name)
        facts: dict[str, Any] = {"name": name, "title": dataset.title, "modality": dataset.modality}
        facts |= dict.fromkeys(
            ("labels", "examples", "cardinality", "empty_rows"), "unknown: its card is not here"
        )
        if card is not None:
            splits = card["splits"].values()
            facts |= {
                "labels": len(card["labels"]),
                "examples": " / ".join(f"{split['examples']:,}" for split in splits),
                "cardinality": f"{card['splits']['train']['cardinality']:.2f}",
                "empty_rows": " / ".join(str(split["empty_rows"]) for split in splits),
            }
        table = dataset_table(results, name)
        yield facts | {
            "table": html.render(table),
            "csv": room.csv(table),
            "csv_name": table.name,
            "label_tables": [
                _table(made, attempts, room, results.outline)
                for made in label_tables(results, attempts, [name])
            ],
            "figures": [figure for figure in figures if figure["dataset"] == name],
        }


def _provenance(results: Results) -> dict[str, str]:
    """What the records say of where and with what they were made: each distinct value with its count."""
    records = int((~results.cells["state"].isin(["missing", "stale", "skipped"])).sum())
    if not records:
        return {}
    facts = {"Records": str(records)}
    for name, counts in results.provenance.items():
        told = Counter(counts)
        if lacking := records - told.total():
            told["not recorded"] = lacking
        title = name.capitalize() if name in RUN_FACTS else name
        facts[title] = (
            next(iter(told)) if len(told) == 1 else ", ".join(f"{v} ({n})" for v, n in told.most_common())
        )
    return facts | {"Compute of cells": compute_in_words(results)}


def _remarks(results: Results) -> Iterable[dict[str, str]]:
    """Rows that were not trained to the end, or whose linear evaluation chose an end of its grid."""
    for row, state in results.rows.items():
        if state.untrained or state.edges:
            yield {
                "row": "/".join(row),
                "untrained": "; ".join(state.untrained),
                "edges": "; ".join(state.edges),
            }


def _problems(results: Results) -> Iterable[dict[str, str]]:
    columns = ("dataset", "encoder", "loss", "variant", "seed", "state", "reason")
    for row in zip(*(results.cells[column].tolist() for column in columns), strict=True):
        *names, seed, state, reason = row
        if state != "ok":
            yield {"cell": "/".join([*names, f"seed{seed}"]), "state": state, "reason": reason}
