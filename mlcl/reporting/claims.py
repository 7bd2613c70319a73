"""Findings of papers, and hypotheses of ours, tested on a study's results: holds, does not hold, undecided, no data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from mlcl.records.files import write_text
from mlcl.records.outline import NO_ENCODER, Outline
from mlcl.reporting.budgets import tuning_in_words
from mlcl.reporting.contrasts import Contrasts, Term
from mlcl.reporting.metric_info import MetricInfo, metric_info
from mlcl.reporting.results import Results
from mlcl.reporting.specs import Claim, read_claims
from mlcl.reporting.standings import equal_weights
from mlcl.reporting.statistics import ALPHA, CONFIDENCE
from mlcl.reporting.statistics.contrast import Contrast
from mlcl.reporting.statistics.seeds import Estimate
from mlcl.reporting.visible import as_markdown

Column = tuple[str, str]
Answer = Literal["holds", "does not hold", "undecided", "no data"]
ANSWERS: tuple[Answer, ...] = get_args(Answer)
SPLIT = "test"
EXPLANATION = (
    "A difference is the mean over datasets of the difference on the test split, positive in favour of the claim (in "
    "percentage points where the metric is a percentage). Its interval covers training anew (seeds) and other test "
    "examples, for these datasets, and all claims of the study together hold at 95 % (Bonferroni). A claim holds if "
    "the interval lies above 0, all its datasets are complete and more than half of them are in favour; it does not "
    "hold if the interval lies below 0 and more than half are against. With one seed no claim is decided."
)
"""What the verdicts mean, for the pages that show them."""
NOT_COMPLETE = "no complete rows"
"""How the remark on a claim begins whose runs are part of the study and are not all there."""


@dataclass(frozen=True)
class Verdict:
    """What a study says of a claim.

    `contrast`: the mean over datasets of the difference, positive in favour of the claim; `estimate`: the same with
    the interval that decides. `columns`: the datasets (with encoder) that have all their runs; `favourable`: how many
    of them are in favour.
    """

    claim: Claim
    answer: Answer
    contrast: Contrast | None
    estimate: Estimate | None
    columns: tuple[str, ...]
    favourable: int
    remark: str
    is_complete: bool = False
    """Whether all datasets that the claim speaks of have all their runs."""

    @property
    def source_text(self) -> str:
        """Where the claim comes from; a hypothesis is called one."""
        return self.claim.source if self.claim.kind == "paper" else f"hypothesis: {self.claim.source}"

    @property
    def metric(self) -> MetricInfo:
        return metric_info(self.claim.metric)

    @property
    def estimate_text(self) -> str:
        """In the units of tables; percentage points where these are percentages."""
        if self.estimate is None:
            return "–"
        shown = self.estimate.scaled(self.metric.scale)
        digits = f"+.{self.metric.decimals}f"
        if not shown.is_known:
            return f"{shown.value:{digits}} [no interval]"
        return f"{shown.value:{digits}} [{shown.low:{digits}}, {shown.high:{digits}}]"


def judge_all(results: Results, contrasts: Contrasts, claims: Sequence[Claim] | None = None) -> list[Verdict]:
    """The verdicts on all claims (those of `claims.yaml` by default).

    The intervals hold together: each has the confidence 1 - 0.05 / m, with m the claims that the study can decide
    (Bonferroni's rule), so that of all its claims at least one is decided wrongly in at most 5 % of studies.
    """
    if claims is None:
        claims = read_claims(results.paths.specs)
    verdicts = [estimate(claim, results, contrasts) for claim in claims]
    decidable = sum(is_decidable(verdict) for verdict in verdicts)
    return [decide(verdict, 1 - ALPHA / max(decidable, 1)) for verdict in verdicts]


def judge(claim: Claim, results: Results, contrasts: Contrasts) -> Verdict:
    """The verdict on one claim that was chosen before the results were seen, at confidence 95 %."""
    return decide(estimate(claim, results, contrasts), CONFIDENCE)


def estimate(claim: Claim, results: Results, contrasts: Contrasts) -> Verdict:
    """The mean difference over all columns (dataset, encoder) that the claim speaks of, without an answer yet.

    Datasets are taken as they are: a verdict speaks of these datasets, not of all that could be. A dataset with
    several encoders counts once. Rows that the study skips on purpose are no part of the claim's scope.
    """
    found = scope(claim, results)
    results, contrasts = results.with_readout(claim.readout), contrasts.with_readout(claim.readout)
    if not found.columns:
        return no_data(claim, found.remark)
    in_scope = found.columns
    terms = {column: rows for column, rows in found.terms.items() if is_complete(results, rows, claim)}
    if not terms:
        title = metric_info(claim.metric).title
        return no_data(claim, f"{NOT_COMPLETE} with {title} on {len(in_scope)} {_unit(in_scope)}")

    def difference(columns: Sequence[Column]) -> Contrast:
        weights = equal_weights(columns)
        weighted = [(weights[c] * weight, row) for c in columns for weight, row in terms[c]]
        return contrasts.of(weighted, claim.metric, SPLIT)

    overall = difference(list(terms))
    remarks = []
    complete = len(terms) == len(in_scope)
    if not complete:
        missing = len(in_scope) - len(terms)
        remarks.append(f"{missing} of {len(in_scope)} {_unit(in_scope)} incomplete, so not decided")
    if not overall.interval().is_known:
        remarks.append("one seed: how much runs differ is unknown, so not decided")
    elif not overall.covers_examples:
        remarks.append("over seeds only, on these test examples")
    return Verdict(
        claim,
        "undecided",
        overall,
        overall.interval(),
        columns=tuple(
            dataset if encoder == NO_ENCODER else f"{dataset} ({encoder})" for dataset, encoder in terms
        ),
        favourable=sum(difference([column]).value > 0 for column in terms),
        remark="; ".join(remarks),
        is_complete=complete,
    )


@dataclass(frozen=True)
class Scope:
    """The columns of a study that a claim speaks of, whether or not they have their runs: column -> the weighted rows
    whose sum of means is the difference in favour. Without any, `remark` says why."""

    terms: dict[Column, list[Term]]
    remark: str = ""

    @property
    def columns(self) -> list[Column]:
        return list(self.terms)


def scope(claim: Claim, results: Results) -> Scope:
    """Rows that the study skips on purpose are no part of it."""
    outline = results.outline
    if claim.readout is not None and claim.readout not in outline.readouts:
        return Scope({}, f"the study has no readout {claim.readout}")
    if absent := [loss for loss in (claim.better, claim.worse) if loss not in outline.losses]:
        return Scope({}, f"{' and '.join(absent)} not in this study")
    terms: dict[Column, list[Term]] = {}
    without_variant = None
    for column in outline.columns():
        if not _speaks_of(claim, results, *column):
            continue
        rows = _terms(claim, outline, column)
        if isinstance(rows, str):
            without_variant = rows
        elif not any(row in results.rows and results.rows[row].skipped for _, row in rows):
            terms[column] = rows
    return Scope(terms, without_variant or "no such dataset in this study")


def decide(verdict: Verdict, confidence: float) -> Verdict:
    """With an answer: `holds` if the interval lies above 0 and more than half of the datasets are in favour, `does
    not hold` if it lies below and more than half are against. A difference that is printed as 0 decides nothing."""
    if verdict.contrast is None:
        return verdict
    interval = verdict.contrast.interval(confidence)
    decided = replace(verdict, estimate=interval)
    if not is_decidable(verdict) or not verdict.metric.is_visible(interval.value):
        return decided
    n = len(verdict.columns)
    if interval.low > 0:
        if 2 * verdict.favourable > n:
            return replace(decided, answer="holds")
        return replace(decided, remark=_joined(verdict.remark, "not on more than half of the datasets"))
    if interval.high < 0 and 2 * (n - verdict.favourable) > n:
        return replace(decided, answer="does not hold")
    return decided


def is_decidable(verdict: Verdict) -> bool:
    """Whether its interval is known and all its datasets are complete."""
    return verdict.contrast is not None and verdict.is_complete and verdict.contrast.interval().is_known


def _joined(*remarks: str) -> str:
    return "; ".join(remark for remark in remarks if remark)


def _unit(columns: Sequence[Column]) -> str:
    """What is counted: a dataset with several encoders has a column for each."""
    several = len({dataset for dataset, _ in columns}) < len(columns)
    return "pairs of dataset and encoder" if several else "datasets"


def no_data(claim: Claim, remark: str) -> Verdict:
    """The verdict where there is nothing to judge by."""
    return Verdict(claim, "no data", None, None, (), 0, remark)


def _terms(claim: Claim, outline: Outline, column: Column) -> list[Term] | str:
    """The weighted rows whose sum of means is the difference in favour; a reason where a variant is not there."""
    sign = 1.0 if metric_info(claim.metric).higher_is_better else -1.0
    settings = [claim.variant] if claim.against is None else [claim.variant, claim.against]
    terms: list[Term] = []
    for i, wanted in enumerate(settings):
        if (variant := _variant_with(outline, column[0], wanted)) is None:
            return f"no variant of this study has {_in_words(wanted)}"
        direction = sign if i == 0 else -sign
        terms += [
            (direction, (*column, claim.better, variant)),
            (-direction, (*column, claim.worse, variant)),
        ]
    return terms


def is_complete(results: Results, terms: Sequence[Term], claim: Claim) -> bool:
    """Whether every row has all its runs with the claim's metric."""
    return all(
        row in results.rows
        and results.rows[row].complete
        and len(results.values(row, SPLIT, claim.metric)) == results.rows[row].expected
        for _, row in terms
    )


def _speaks_of(claim: Claim, results: Results, dataset: str, encoder: str) -> bool:
    wanted = claim.datasets
    if wanted.modality is not None and results.outline.datasets[dataset].modality != wanted.modality:
        return False
    if wanted.labels_over is None and wanted.labels_at_most is None:
        return True
    if (labels := results.labels_of(dataset)) is None:
        return False
    over = wanted.labels_over is None or labels > wanted.labels_over
    return over and (wanted.labels_at_most is None or labels <= wanted.labels_at_most)


def _variant_with(outline: Outline, dataset: str, settings: dict[str, Any]) -> str | None:
    """The variant that changes exactly these settings (`Outline.changes_of`), or `base` if it has them already."""
    for name in outline.variants:
        if outline.changes_of(name) == settings:
            return name
    if "base" in outline.variants and settings == {
        "dataset": {"fraction": outline.datasets[dataset].fraction}
    }:
        return "base"
    return None


def _in_words(settings: dict[str, Any]) -> str:
    return ", ".join(
        f"{key}.{name} = {value}" for key, part in settings.items() for name, value in part.items()
    )


def write_claims(results: Results, contrasts: Contrasts) -> None:
    """`paper_tables/<study>/claims.md`."""
    write_text(results.paths.tables / "claims.md", render(judge_all(results, contrasts), results.outline))


def render(verdicts: Sequence[Verdict], outline: Outline) -> str:
    counts = ", ".join(f"{sum(v.answer == answer for v in verdicts)} {answer}" for answer in ANSWERS)
    lines = [
        f"# Claims tested on the study {outline.study}",
        "",
        f"{counts}. {EXPLANATION}",
        "",
        tuning_in_words(outline),
        "",
        "| Claim | Source | Metric (readout) | Verdict | Difference | In favour | Datasets |",
        "| --- | --- | --- | --- | ---: | ---: | --- |",
    ]
    for v in verdicts:
        in_favour = f"{v.favourable} of {len(v.columns)}" if v.columns else "–"
        answer = f"**{v.answer}**" + (f" ({as_markdown(v.remark)})" if v.remark else "")
        metric = f"{v.metric.title} ({v.claim.readout or outline.readout})"
        texts = [as_markdown(text) for text in (v.claim.statement, v.source_text, metric)]
        datasets = as_markdown(", ".join(v.columns)) or "–"
        cells = [*texts, answer, v.estimate_text, in_favour, datasets]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])
