"""The claims of `claims.yaml` over the datasets of all studies together.

A study takes part with the datasets on which both losses have all their runs; studies with one seed do not. A dataset
counts once, whatever number of studies has it. Verdicts by different readouts stand side by side. Where a cell of a
claim failed, the claim is not decided: to leave the dataset out would favour the loss that failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mlcl.reporting.claims import SPLIT, Verdict, decide, is_complete, is_decidable, no_data, scope
from mlcl.reporting.contrasts import Term, pooled
from mlcl.reporting.leaderboard.comparisons import Study
from mlcl.reporting.ranking import Column
from mlcl.reporting.specs import Claim
from mlcl.reporting.standings import equal_weights
from mlcl.reporting.statistics import ALPHA
from mlcl.reporting.statistics.contrast import Contrast

EXPLANATION = (
    "A difference is the mean over datasets of the difference on the test split, positive in favour of the claim (in "
    "percentage points where the metric is a percentage). Its interval covers training anew and other test examples, "
    "for these datasets, and all decided verdicts of this page hold together at 95 % (Bonferroni). A claim holds if "
    "the interval lies above 0 and more than half of the datasets are in favour; it does not hold if the interval lies "
    "below 0 and more than half are against. Datasets on which runs are still missing, and studies with one seed, are "
    "left out."
)


@dataclass(frozen=True)
class PooledVerdict:
    """A verdict by one readout, and the studies that it is made of."""

    verdict: Verdict
    readout: str | None
    studies: tuple[str, ...]


@dataclass
class _Evidence:
    """What the studies with one readout have of a claim."""

    terms: dict[tuple[int, Column], list[Term]] = field(default_factory=dict)
    """(study, column) -> weighted rows."""
    waiting: int = 0
    failed: int = 0


def judge_over_studies(claims: Sequence[Claim], studies: Sequence[Study]) -> list[PooledVerdict]:
    """One verdict for each claim and readout with data; a claim without any has one that says so."""
    drafts: list[PooledVerdict] = []
    for claim in claims:
        found = _evidence(claim, studies)
        made = [
            _estimate(claim, readout, evidence, studies)
            for readout, evidence in found.items()
            if evidence.terms
        ]
        remark = _why_none(found, claim, studies)
        drafts += made or [PooledVerdict(no_data(claim, remark), claim.readout, ())]
    confidence = 1 - ALPHA / max(sum(is_decidable(draft.verdict) for draft in drafts), 1)
    return [replace(draft, verdict=decide(draft.verdict, confidence)) for draft in drafts]


def _evidence(claim: Claim, studies: Sequence[Study]) -> dict[str, _Evidence]:
    """readout -> what the studies with intervals have by it."""
    found: dict[str, _Evidence] = {}
    for number, study in enumerate(studies):
        terms = scope(claim, study.results).terms
        if not terms or not study.has_intervals:
            continue
        readout = claim.readout or study.results.outline.readout
        results, evidence = study.results.with_readout(readout), found.setdefault(readout, _Evidence())
        for column, rows in terms.items():
            states = [results.rows.get(row) for _, row in rows]
            if is_complete(results, rows, claim):
                evidence.terms[number, column] = rows
            elif any(state is not None and state.ok + state.waiting < state.expected for state in states):
                evidence.failed += 1
            else:
                evidence.waiting += 1
    return found


def _estimate(claim: Claim, readout: str, evidence: _Evidence, studies: Sequence[Study]) -> PooledVerdict:
    places = list(evidence.terms)

    def difference(chosen: Sequence[tuple[int, Column]]) -> Contrast:
        weights = equal_weights([(dataset, f"{number} {encoder}") for number, (dataset, encoder) in chosen])
        parts: dict[int, list[Term]] = {}
        for (number, column), weight in zip(chosen, weights.values(), strict=True):
            own = [(weight * sign, row) for sign, row in evidence.terms[number, column]]
            parts.setdefault(number, []).extend(own)
        contrasts = {number: studies[number].contrasts.with_readout(readout) for number in parts}
        return pooled([(contrasts[number], terms) for number, terms in parts.items()], claim.metric, SPLIT)

    overall = difference(places)
    datasets: dict[str, list[tuple[int, Column]]] = {}
    for number, column in places:
        datasets.setdefault(column[0], []).append((number, column))
    remarks = []
    if evidence.failed:
        remarks.append(f"runs failed on {_more(evidence.failed)}, so not decided")
    if evidence.waiting:
        remarks.append(f"runs are missing on {_more(evidence.waiting)}")
    if not overall.covers_examples:
        remarks.append("over seeds only, on these test examples")
    verdict = Verdict(
        claim,
        "undecided",
        overall,
        overall.interval(),
        columns=tuple(datasets),
        favourable=sum(difference(own).value > 0 for own in datasets.values()),
        remark="; ".join(remarks),
        is_complete=not evidence.failed,
    )
    names = tuple(dict.fromkeys(studies[number].name for number, _ in places))
    return PooledVerdict(verdict, readout, names)


def _more(datasets: int) -> str:
    return f"{datasets} more dataset{'s' * (datasets > 1)}"


def _why_none(found: dict[str, _Evidence], claim: Claim, studies: Sequence[Study]) -> str:
    if any(evidence.failed for evidence in found.values()):
        return "its runs failed"
    if found:
        return "its runs are not all there yet"
    if any(scope(claim, study.results).terms for study in studies):
        return "in studies with one seed only"
    return "no study here compares these"
