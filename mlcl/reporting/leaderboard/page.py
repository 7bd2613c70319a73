"""The leaderboard as one self-contained HTML page and as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from mlcl.errors import MlclError
from mlcl.records.files import write_text
from mlcl.reporting.budgets import tuning_in_words
from mlcl.reporting.claims import ANSWERS
from mlcl.reporting.contrasts import Contrasts
from mlcl.reporting.cost_means import compute_in_words
from mlcl.reporting.leaderboard import tables
from mlcl.reporting.leaderboard.comparisons import GRADES, Comparison, Study, comparisons
from mlcl.reporting.leaderboard.families import FamilyDifference, family_differences
from mlcl.reporting.leaderboard.quality import Quality, quality
from mlcl.reporting.leaderboard.verdicts import EXPLANATION, PooledVerdict, judge_over_studies
from mlcl.reporting.metric_info import MetricInfo
from mlcl.reporting.overview import in_words, listed, value
from mlcl.reporting.pages import render
from mlcl.reporting.results import load_results
from mlcl.reporting.specs import Claim, read_claims
from mlcl.reporting.standings import Standing
from mlcl.reporting.tables import html
from mlcl.reporting.tables.table import Table
from mlcl.reporting.tables.text import markdown
from mlcl.reporting.visible import as_markdown

REFERENCE = Path("results/reference")
PAGE = Path("results/leaderboard.html")
MARKDOWN = Path("docs/leaderboard.md")
COMMAND = "mlcl leaderboard"
CHEAPER = 0.9
"""A loss is called cheaper below this share of the time."""
NO_INTERVALS = "One seed: how much training runs differ is unknown, so no loss is recommended."


@dataclass(frozen=True)
class Leaderboard:
    """All kept studies of a folder, compared."""

    studies: list[Study]
    claims: list[PooledVerdict]
    not_there: list[str]
    """Reference studies that have a study file and no kept results: title and file."""

    @cached_property
    def by_study(self) -> dict[str, list[Comparison]]:
        return {study.name: comparisons(study) for study in self.studies}

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """By modality, labels, data, readout; those with intervals first."""
        everything = [one for own in self.by_study.values() for one in own]
        return sorted(everything, key=_order)

    @cached_property
    def families(self) -> list[FamilyDifference]:
        found = [one for own in self.by_study.values() for one in family_differences(own)]
        return sorted(found, key=lambda one: _order(one.comparison))

    @cached_property
    def qualities(self) -> list[Quality]:
        return [quality(study) for study in self.studies]


def load_leaderboard(folder: Path = REFERENCE, claims: Sequence[Claim] | None = None) -> Leaderboard:
    """The studies of a folder, and the claims (those of `claims.yaml` by default) judged on them.

    Raises MlclError if the folder holds no kept results.
    """
    studies = []
    for file in sorted(folder.glob("*/collected.json")):
        results = load_results(file.parent)
        studies.append(Study(file.parent.name, results, Contrasts(results)))
    if not studies:
        raise MlclError(f"{folder}: holds no kept results; 'mlcl keep STUDY {folder}/NAME' makes some")
    if claims is None:
        claims = read_claims(studies[0].results.paths.specs)
    return Leaderboard(studies, judge_over_studies(claims, studies), _not_there(folder, studies))


def write_leaderboard(folder: Path = REFERENCE, page: Path = PAGE, text: Path = MARKDOWN) -> None:
    """Writes the page and the text from the kept results in `folder`. Raises MlclError if there are none."""
    board = load_leaderboard(folder)
    write_text(page, render("leaderboard.html", _content(board)))
    write_text(text, as_text(board))


def study_contrasts(study: Study) -> None:
    """Makes every contrast that the leaderboard takes from one study, so that what it needs of scores is stored."""
    family_differences(comparisons(study))


def _order(comparison: Comparison) -> tuple[Any, ...]:
    place = comparison.place
    own = place.readout != comparison.study.results.outline.readout
    return (
        place.modality,
        place.labels.over,
        -place.fraction,
        comparison.grade == "D",
        own,
        comparison.study.name,
    )


def _not_there(folder: Path, studies: Sequence[Study]) -> list[str]:
    kept = {Path(study.results.outline.file).name for study in studies}
    files = sorted(folder.parent.parent.glob("config/studies/reference_*.yaml"))
    titles = {
        file: yaml.safe_load(file.read_text(encoding="utf-8"))["title"]
        for file in files
        if file.name not in kept
    }
    return [f"{title} (config/studies/{file.name})" for file, title in titles.items()]


# --- Sentences -----------------------------------------------------------------------------------------------


def summary(board: Leaderboard) -> list[str]:
    """What the page says, in a few sentences."""
    datasets = {dataset for study in board.studies for dataset in study.results.outline.datasets}
    ok, cells = sum(one.ok for one in board.qualities), sum(one.cells for one in board.qualities)
    sure = [one for one in board.comparisons if one.leaders]
    alone = sum(len(one.leaders) == 1 for one in sure)
    found = (
        f"in {alone} of these one loss is better than all others, in the rest the best ones cannot be told apart"
        if alone
        else "in each of these the best losses cannot be told apart"
    )
    sentences = [
        f"{len(board.studies)} studies with {len(datasets)} datasets; {ok:,} of {cells:,} cells have a result. "
        f"{len(board.comparisons)} comparisons, {len(sure)} with intervals: {found}."
    ]
    if board.families:
        answers = [one.answer for one in board.families]
        counts = ", ".join(f"{answer} in {count}" for answer, count in Counter(answers).most_common())
        sentences.append(
            f"Contrast against classification, read alike, in {len(answers)} comparisons: {counts}."
        )
    verdicts = [one.verdict.answer for one in board.claims]
    counts = ", ".join(f"{answer}: {verdicts.count(answer)}" for answer in ANSWERS if answer in verdicts)
    sentences.append(f"Claims: {len(verdicts)}; {counts}.")
    if board.not_there:
        sentences.append(f"Not there yet: {'; '.join(board.not_there)}.")
    return sentences


def told(comparison: Comparison) -> list[str]:
    """A comparison in sentences: who leads, who is cheaper, what is left out."""
    standing, outline = comparison.standing, comparison.study.results.outline
    title = outline.title_of
    sentences = []
    if standing is None:
        sentences.append("Fewer than two losses can be compared here.")
    elif not standing.is_known:
        means = ", ".join(f"{title(loss)} {value(standing, loss)}" for loss in standing.order)
        sentences.append(
            f"{NO_INTERVALS} As a description, {standing.metric.title} on {standing.title}: {means}."
        )
    else:
        sentences += [in_words(standing, outline), *_cheaper(comparison, standing)]
        if not standing.covers_examples:
            sentences.append("The intervals cover training anew on these test examples, not other examples.")
    for reason, places in _grouped(
        {outline.column_title(*column): why for column, why in comparison.left_out.items()}
    ):
        sentences.append(f"Left out: {listed(places)} ({reason}).")
    for how, places in _grouped(
        {outline.column_title(*column): how for column, how in comparison.short.items()}
    ):
        sentences.append(
            f"On {listed(places)}, {how} were not trained to their end: they are compared by what this budget gives."
        )
    if comparison.not_judged:
        names = [title(loss) for loss in comparison.not_judged]
        sentences.append(f"Not judged: {', '.join(names)} (why: the notes of the table).")
    for loss, controls in comparison.below_controls.items():
        sentences.append(f"{title(loss)} is below {listed([title(control) for control in controls])}.")
    return sentences


def _cheaper(comparison: Comparison, standing: Standing) -> list[str]:
    """The cheapest of the leaders."""
    seconds, title = comparison.seconds, comparison.study.results.outline.title_of
    known = {loss: seconds[loss] for loss in comparison.leaders if loss in seconds}
    if standing.best not in known:
        return []
    cheapest = min(known, key=known.__getitem__)
    if known[cheapest] >= CHEAPER * known[standing.best]:
        return []
    share = f"{100 * known[cheapest] / known[standing.best]:.0f} %"
    return [f"{title(cheapest)} takes {share} of the compute of {title(standing.best)}."]


def _grouped(reasons: dict[str, str]) -> list[tuple[str, list[str]]]:
    """Reason -> what has it."""
    ordered = sorted(reasons.items(), key=lambda one: one[1])
    return [(why, [name for name, _ in group]) for why, group in groupby(ordered, key=lambda one: one[1])]


def _provenance(study: Study) -> str:
    facts = study.results.provenance
    shown = {
        name: ", ".join(facts[name]) for name in ("commit", "device", "python", "torch") if facts.get(name)
    }
    told_facts = "; ".join(f"{name} {values}" for name, values in shown.items())
    return f"{compute_in_words(study.results)} for its cells (searches not counted). {told_facts}"


# --- Markdown ------------------------------------------------------------------------------------------------


def as_text(board: Leaderboard) -> str:
    """`docs/leaderboard.md`."""
    parts = [
        "# Leaderboard",
        f"Made by `{COMMAND}` from the [kept results](../results/reference/README.md); not written by hand. The same "
        f"as a page with pictures: `{PAGE}`, which the command writes too. How sure the statements are: "
        "[statistics](statistics.md).",
        *map(as_markdown, summary(board)),
        "## Which loss should I use?",
        _table(tables.glance_table(board.comparisons)),
        "Grades: " + "; ".join(f"**{grade}** {words}" for grade, words in GRADES.items()) + ".",
        "## Contrast or classification?",
        _table(tables.families_table(board.families)),
        "## Claims",
        _table(tables.claims_table([one for one in board.claims if one.verdict.answer != "no data"])),
        "No data yet:\n\n"
        + "\n".join(
            f"- {as_markdown(one.verdict.claim.statement)} ({one.verdict.remark})"
            for one in board.claims
            if one.verdict.answer == "no data"
        ),
        "## How good are the studies?",
        _table(tables.quality_table(board.qualities)),
    ]
    for study in board.studies:
        outline = study.results.outline
        said = f"{outline.title}. {_provenance(study)}. {tuning_in_words(outline)}"
        parts.append(f"- **{as_markdown(study.name)}**: {as_markdown(said)}")
    parts.append("## Every comparison")
    for number, comparison in enumerate(board.comparisons):
        parts += [
            f"### {comparison.place.modality.capitalize()}: {_title(comparison)} ({comparison.study.name})",
            f"Grade {comparison.grade}. Datasets: {as_markdown(', '.join(_datasets(comparison)) or 'none')}. "
            + as_markdown(" ".join(told(comparison))),
            _table(tables.comparison_table(comparison, f"comparison-{number}"), caption=False),
        ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _table(table: Table, caption: bool = True) -> str:
    text = markdown(table)
    return text if caption else text.partition("\n\n")[2]


def _title(comparison: Comparison) -> str:
    _, labels, data, readout = tables.where(comparison)
    return f"{labels} labels, {data} of the data, {readout}"


def _datasets(comparison: Comparison) -> list[str]:
    """Each with the rows that losses are judged by: a part of a dataset has fewer than the name promises."""
    results = comparison.study.results
    split, found = results.outline.split, []
    for dataset, encoder in comparison.columns:
        title = results.outline.column_title(dataset, encoder)
        part = results.cards.get(dataset, {}).get("splits", {}).get(split, {})
        found.append(f"{title} ({part['examples']:,} {split} rows)" if "examples" in part else title)
    return found


# --- HTML ----------------------------------------------------------------------------------------------------


def _content(board: Leaderboard) -> dict[str, Any]:
    claims = [
        (one.verdict, tables.READOUT_TITLES.get(one.readout or ""))
        for one in board.claims
        if one.verdict.answer != "no data"
    ]
    return {
        "summary": summary(board),
        "leaders": html.render(tables.glance_table(board.comparisons)),
        "grades": GRADES,
        "families": html.render(tables.families_table(board.families)) if board.families else None,
        "explanation": EXPLANATION,
        "claims": claims,
        "undecidable": [one.verdict for one in board.claims if one.verdict.answer == "no data"],
        "quality": html.render(tables.quality_table(board.qualities)),
        "studies": [
            {
                "name": study.name,
                "title": study.results.outline.title,
                "description": study.results.outline.description,
                "provenance": _provenance(study),
                "tuning": tuning_in_words(study.results.outline),
            }
            for study in board.studies
        ],
        "modalities": [
            (modality, [_shown(number, comparison) for number, comparison in group])
            for modality, group in groupby(
                enumerate(board.comparisons), key=lambda numbered: numbered[1].place.modality
            )
        ],
        "command": COMMAND,
    }


def _shown(number: int, comparison: Comparison) -> dict[str, Any]:
    """A comparison as the page shows it."""
    outline = comparison.study.results.outline
    table = tables.comparison_table(comparison, f"comparison-{number}")
    standing = comparison.standing
    plots = _plots(standing) if standing is not None and standing.is_known else {}
    return {
        "id": table.name,
        "title": _title(comparison),
        "study": comparison.study.name,
        "grade": comparison.grade,
        "grade_words": GRADES[comparison.grade],
        "primary": comparison.place.readout == comparison.study.results.outline.readout,
        "datasets": _datasets(comparison),
        "sentences": told(comparison),
        "metric": _unit(standing.metric) if standing is not None else "",
        "bars": [
            {
                "loss": outline.title_of(loss),
                "leads": loss in comparison.leaders,
                "place": place,
                "text": "best" if loss == standing.best else _gap_text(standing, loss),
            }
            for loss, place in plots.items()
        ]
        if standing is not None
        else [],
        "table": html.render(table),
    }


def _plots(standing: Standing) -> dict[str, dict[str, float]]:
    """Loss -> where its difference to the best and its interval lie, in per cent of the picture's width."""
    bounds = [0.0, *(bound for gap in standing.intervals.values() for bound in (gap.low, gap.high))]
    low, high = min(bounds), max(bounds)
    width = (high - low) or 1.0

    def at(difference: float) -> float:
        return round(100 * (difference - low) / width, 2)

    places = {}
    for loss in standing.order:
        gap = standing.intervals.get(loss)
        value_, first, last = (gap.value, gap.low, gap.high) if gap is not None else (0.0, 0.0, 0.0)
        places[loss] = {
            "dot": at(value_),
            "from": at(first),
            "width": round(at(last) - at(first), 2),
            "zero": at(0.0),
        }
    return places


def _gap_text(standing: Standing, loss: str) -> str:
    metric = standing.metric
    gap = standing.intervals[loss].scaled(metric.scale)
    digits = f"+.{metric.decimals}f"
    return f"{gap.value:{digits}} [{gap.low:{digits}}, {gap.high:{digits}}]"


def _unit(metric: MetricInfo) -> str:
    return f"{metric.title}{' in percentage points' if metric.is_percentage else ''}"
