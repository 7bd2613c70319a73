"""The papers' findings, held against a study's results: holds, does not hold, undecided, no data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlcl.records.files import write_text
from mlcl.records.outline import NO_ENCODER, Outline
from mlcl.reporting.bootstrap import ClaimedDifferences, Term
from mlcl.reporting.budgets import tuning_in_words
from mlcl.reporting.metric_info import MetricInfo, metric_info
from mlcl.reporting.results import Results
from mlcl.reporting.specs import Claim, read_claims
from mlcl.reporting.statistics.seeds import Estimate, contrast

Column = tuple[str, str]
Answer = Literal["holds", "does not hold", "undecided", "no data"]


@dataclass(frozen=True)
class Verdict:
    """What a study says of a claim. `estimate`: the mean over `columns` of the difference, positive in favour."""

    claim: Claim
    answer: Answer
    estimate: Estimate | None
    columns: tuple[str, ...]
    favourable: int
    """In how many of the columns the difference is in favour."""
    remark: str

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


def judge_all(results: Results) -> list[Verdict]:
    over_examples = ClaimedDifferences(results)
    verdicts = [judge(claim, results, over_examples) for claim in read_claims(results.paths.specs)]
    over_examples.write()
    return verdicts


def judge(claim: Claim, results: Results, over_examples: ClaimedDifferences | None = None) -> Verdict:
    """The mean difference over all columns (dataset, encoder) that the claim speaks of, with its t-interval.

    The interval covers what varies between seeds; the datasets are taken as they are, so a verdict speaks of
    these datasets, not of all that could be. With a single seed it covers the test examples instead, if
    `over_examples` can tell. Only columns where both losses have all their seeds count.
    """
    if claim.readout is not None and claim.readout not in results.outline.readouts:
        return _no_data(claim, f"the study has no readout {claim.readout}")
    results = results.with_readout(claim.readout)
    outline = results.outline
    if absent := [loss for loss in (claim.better, claim.worse) if loss not in outline.losses]:
        return _no_data(claim, f"{' and '.join(absent)} not in this study")
    settings = [claim.variant] if claim.against is None else [claim.variant, claim.against]
    variants = [_variant_with(outline, wanted) for wanted in settings]
    if None in variants:
        wanted = settings[variants.index(None)]
        return _no_data(claim, f"no variant of this study has {_in_words(wanted)}")
    in_scope = [column for column in outline.columns() if _speaks_of(claim, results, *column)]
    if not in_scope:
        return _no_data(claim, "no such dataset in this study")
    terms = {
        column: found
        for column in in_scope
        if (found := _terms(claim, results, column, [v for v in variants if v is not None])) is not None
    }
    if not terms:
        title = metric_info(claim.metric).title
        return _no_data(claim, f"no complete rows with {title} on {len(in_scope)} {_unit(in_scope)}")
    return _verdict(claim, results, terms, in_scope, over_examples)


def _verdict(
    claim: Claim,
    results: Results,
    terms: dict[Column, list[Term]],
    in_scope: Sequence[Column],
    over_examples: ClaimedDifferences | None,
) -> Verdict:
    def difference(columns: Sequence[Sequence[Term]]) -> Estimate:
        share = 1 / len(columns)
        parts = [(weight * share, row) for own in columns for weight, row in own]
        return contrast([(w, list(results.values(row, "test", claim.metric).values())) for w, row in parts])

    total = len(in_scope)
    remarks = [] if len(terms) == total else [f"{total - len(terms)} of {total} {_unit(in_scope)} incomplete"]
    estimate = difference(list(terms.values()))
    if not estimate.is_known:
        remarks.append("one seed only")
        if over_examples and (
            found := over_examples.interval(
                list(terms.values()), claim.metric, results.outline.readout, estimate.value
            )
        ):
            estimate = found
            remarks[-1] = "one seed: the interval is over test examples"
    answer: Answer = "undecided"
    if estimate.low > 0:
        answer = "holds"
    elif estimate.high < 0:
        answer = "does not hold"
    return Verdict(
        claim,
        answer,
        estimate,
        columns=tuple(
            dataset if encoder == NO_ENCODER else f"{dataset} ({encoder})" for dataset, encoder in terms
        ),
        favourable=sum(difference([own]).value > 0 for own in terms.values()),
        remark="; ".join(remarks),
    )


def _unit(columns: Sequence[Column]) -> str:
    """What is counted: a dataset with several encoders has a column for each."""
    several = len({dataset for dataset, _ in columns}) < len(columns)
    return "pairs of dataset and encoder" if several else "datasets"


def _no_data(claim: Claim, remark: str) -> Verdict:
    return Verdict(claim, "no data", None, (), 0, remark)


def _terms(claim: Claim, results: Results, column: Column, variants: Sequence[str]) -> list[Term] | None:
    """The weighted rows whose sum of means is the difference in favour; None if any of them is incomplete."""
    sign = 1.0 if metric_info(claim.metric).higher_is_better else -1.0
    parts = [(sign, claim.better, variants[0]), (-sign, claim.worse, variants[0])]
    if len(variants) > 1:
        parts += [(-sign, claim.better, variants[1]), (sign, claim.worse, variants[1])]
    terms: list[Term] = [(weight, (*column, loss, variant)) for weight, loss, variant in parts]
    for _, row in terms:
        if (
            row not in results.rows
            or not results.rows[row].complete
            or not results.values(row, "test", claim.metric)
        ):
            return None
    return terms


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


def _variant_with(outline: Outline, settings: dict[str, Any]) -> str | None:
    """The variant that changes exactly these settings."""
    return next((name for name, changes in outline.variants.items() if changes == settings), None)


def _in_words(settings: dict[str, Any]) -> str:
    return ", ".join(
        f"{key}.{name} = {value}" for key, part in settings.items() for name, value in part.items()
    )


def write_claims(results: Results) -> None:
    """`paper_tables/<study>/claims.md`."""
    write_text(results.paths.tables / "claims.md", render(judge_all(results), results.outline))


def render(verdicts: Sequence[Verdict], outline: Outline) -> str:
    counts = ", ".join(
        f"{sum(v.answer == answer for v in verdicts)} {answer}"
        for answer in ("holds", "does not hold", "undecided", "no data")
    )
    lines = [
        f"# Claims of the papers on the study {outline.study}",
        "",
        f"{counts}. Differences are means over datasets and their encoders of the test split's difference, in favour "
        f"of the claim, with the 95 % t-interval over seeds, or over test examples by paired bootstrap where there "
        f"is one seed (in percentage points where the metric is a percentage). A claim holds if "
        f"the interval lies above 0, does not hold if it lies below, and is undecided otherwise.",
        "",
        tuning_in_words(outline),
        "",
        "| Claim | Source | Metric (readout) | Verdict | Difference | In favour | Datasets |",
        "| --- | --- | --- | --- | ---: | ---: | --- |",
    ]
    for v in verdicts:
        in_favour = f"{v.favourable} of {len(v.columns)}" if v.columns else "–"
        answer = f"**{v.answer}**" + (f" ({v.remark})" if v.remark else "")
        cells = [
            v.claim.statement, v.claim.source, f"{v.metric.title} ({v.claim.readout or outline.readout})", answer,
            v.estimate_text, in_favour, ", ".join(v.columns) or "–",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join([*lines, ""])
