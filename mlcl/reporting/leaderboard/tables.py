"""The leaderboard's parts as tables, the same for HTML and Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from mlcl.evaluation.readouts import OWN
from mlcl.records.outline import Outline
from mlcl.reporting.leaderboard.comparisons import RANKING_QUALITY, Comparison
from mlcl.reporting.leaderboard.families import CLASSIFICATION, CONTRASTIVE, FamilyDifference
from mlcl.reporting.leaderboard.quality import Quality
from mlcl.reporting.leaderboard.verdicts import EXPLANATION, PooledVerdict
from mlcl.reporting.metric_info import MetricInfo, metric_info
from mlcl.reporting.overview import lead, listed
from mlcl.reporting.statistics.seeds import Estimate
from mlcl.reporting.tables.table import Cell, Column, Notes, Number, Row, Table, Text

READOUT_TITLES = {
    "head": "trained head",
    "linear": "linear heads",
    "knn": "nearest neighbours",
    OWN: "each its own",
}


def where(comparison: Comparison) -> tuple[str, str, str, str]:
    """Modality, labels, data and readout in words."""
    place = comparison.place
    return place.modality, place.labels.title, place.data, READOUT_TITLES[place.readout]


def glance_table(comparisons: Sequence[Comparison]) -> Table:
    """One row for each comparison: who leads, by how much, how sure."""
    metrics = dict.fromkeys(one.standing.metric.title for one in comparisons if one.standing is not None)
    return Table(
        name="leaders",
        label="tab:leaders",
        caption=(
            f"Who leads where, by {' or '.join(metrics)}. How far the best mean is ahead of the next one that it "
            "can be told from has an interval that holds together with all others of its study at 95 %."
        ),
        stubs=("Modality", "Labels", "Data", "Readout", "Study"),
        levels=("answer",),
        columns=_columns("best mean", "cannot be told from", "ahead of", "datasets", "losses", "grade"),
        blocks=(tuple(_glance_row(comparison) for comparison in comparisons),),
    )


def _glance_row(comparison: Comparison) -> Row:
    standing, outline = comparison.standing, comparison.study.results.outline
    headers = (*where(comparison), comparison.study.name)
    losses = len(standing.means) if standing is not None else 0
    datasets = len({dataset for dataset, _ in comparison.columns})
    if standing is None or not standing.is_known:
        leaders = ("no intervals", "–", "–")
    else:
        best, *tied = (outline.title_of(loss) for loss in comparison.leaders)
        apart = standing.apart
        over = f"{outline.title_of(apart[0])} by {lead(standing, apart[0])}" if apart else "none"
        leaders = (best, listed(tied) if tied else "none", over)
    cells = tuple(Text(text) for text in (*leaders, str(datasets), str(losses), comparison.grade))
    return Row(headers, headers, cells)


def comparison_table(comparison: Comparison, name: str) -> Table:
    """The losses of a comparison, best first, then those that are not judged, with the reason in a note."""
    standing, outline = comparison.standing, comparison.study.results.outline
    notes = Notes()
    ranking = metric_info(RANKING_QUALITY)
    rows = []
    for loss in standing.order if standing is not None else comparison.ranking_quality:
        gap: Cell = Text()
        value: Cell = Text()
        if standing is not None:
            value = _number(standing.means[loss], standing.metric)
            gap = Text("best") if loss == standing.best else _gap(standing.intervals[loss], standing.metric)
        marks = tuple(
            notes.refer(f"below {outline.title_of(baseline)}")
            for baseline in comparison.below_controls.get(loss, ())
        )
        quality = comparison.ranking_quality.get(loss)
        seconds = comparison.seconds.get(loss)
        cells = (
            Number(value.value, None, 1, 1, value.scale, value.decimals, notes=marks)
            if isinstance(value, Number)
            else value,
            gap,
            Text() if quality is None else _number(quality, ranking),
            Text() if seconds is None else Number(seconds, None, 1, 1, 1.0, 1 if seconds < 10 else 0),
        )
        rows.append(Row((outline.title_of(loss),), (loss,), cells))
    unjudged = tuple(
        Row((outline.title_of(loss),), (loss,), (Text("not judged", (notes.refer(why),)), *([Text()] * 3)))
        for loss, why in comparison.not_judged.items()
    )
    title = standing.metric.title if standing is not None else "mean"
    return Table(
        name=name,
        label=f"tab:{name}",
        caption=", ".join((*where(comparison), f"study {comparison.study.name}")),
        stubs=("Loss",),
        levels=("what",),
        columns=_columns(title, "behind the best", ranking.title, "compute of a cell in s"),
        blocks=(tuple(rows), unjudged),
        notes=tuple(notes.texts),
    )


def families_table(differences: Sequence[FamilyDifference]) -> Table:
    """Contrastive losses less classification losses, and what the readout adds."""
    rows = []
    for one in differences:
        comparison, metric = one.comparison, one.metric
        headers = (*where(comparison)[:3], comparison.study.name)
        readout: tuple[Cell, Cell] = (Text(), Text())
        if one.readout is not None:
            total = one.difference.value + one.readout.value
            readout = (_gap(one.readout, metric), _signed(total, metric))
        cells = (
            _gap(one.difference, metric),
            Text(one.answer),
            Text(_best_of_each(one, comparison.study.results.outline)),
            *readout,
            Text(f"{len(one.contrastive)} and {len(one.classification)}"),
        )
        rows.append(Row(headers, headers, cells))
    return Table(
        name="families",
        label="tab:families",
        caption=(
            "Contrastive losses less classification losses: the difference of the two families' means, both read by "
            "linear heads; the best of each; what linear heads add to classification losses over the heads that they "
            "are trained with; and the sum, which is what one sees if each loss is read in its own way. Intervals hold "
            "together for a study at 95 %; those of the best of each are those of the comparison."
        ),
        stubs=("Modality", "Labels", "Data", "Study"),
        levels=("what",),
        columns=_columns(
            "contrastive less classification",
            "answer",
            "best of each",
            "the readout adds",
            "each by its own",
            "losses",
        ),
        blocks=(tuple(rows),),
    )


def _best_of_each(one: FamilyDifference, outline: Outline) -> str:
    standing = one.comparison.standing
    assert standing is not None
    best = {
        inputs: next(loss for loss in standing.order if outline.losses[loss].inputs == inputs)
        for inputs in (CONTRASTIVE, CLASSIFICATION)
    }
    first, second = sorted(best.values(), key=standing.order.index)
    ahead = f"{outline.title_of(first)} over {outline.title_of(second)}"
    if first == standing.best:
        return f"{ahead}: {lead(standing, second)}"
    gap = abs(standing.means[first] - standing.means[second])
    return f"{ahead}: {gap * standing.metric.scale:.{standing.metric.decimals}f} (neither is the best of all)"


def claims_table(verdicts: Sequence[PooledVerdict]) -> Table:
    """The verdicts over all studies."""
    rows = []
    for pooled in verdicts:
        verdict = pooled.verdict
        favourable = f"{verdict.favourable} of {len(verdict.columns)}" if verdict.columns else "–"
        answer = verdict.answer + (f" ({verdict.remark})" if verdict.remark else "")
        readout = READOUT_TITLES.get(pooled.readout or "", "–")
        texts = (
            verdict.metric.title,
            readout,
            answer,
            verdict.estimate_text,
            favourable,
            ", ".join(pooled.studies),
        )
        headers = (verdict.claim.statement, verdict.source_text)
        rows.append(Row(headers, (verdict.claim.id, readout), tuple(Text(text or "–") for text in texts)))
    return Table(
        name="claims",
        label="tab:claims",
        caption=EXPLANATION,
        stubs=("Claim", "Source"),
        levels=("what",),
        columns=_columns("metric", "readout", "verdict", "difference", "in favour", "studies"),
        blocks=(tuple(rows),),
    )


def quality_table(qualities: Sequence[Quality]) -> Table:
    """How far each study is, and what is wrong with its rows."""
    rows = []
    for one in qualities:
        outline = one.study.results.outline
        failed = ", ".join(f"{count} {state}" for state, count in one.failed.items()) or "0"
        below = ", ".join(
            f"{outline.title_of(baseline)}: {count} of {compared}"
            for baseline, (count, compared) in one.below.items()
            if compared
        )
        texts = (
            str(len(outline.seeds)),
            f"{one.ok} of {one.cells}",
            str(one.missing),
            failed,
            f"{one.untrained} of {one.rows}",
            below or "no control row",
        )
        rows.append(Row((one.study.name,), (one.study.name,), tuple(map(Text, texts))))
    return Table(
        name="quality",
        label="tab:quality",
        caption=(
            "How good the studies are: their cells, and the rows (a loss on a dataset) that were not trained to their "
            "end or lie below a control, by the metric and readout of the study's tables."
        ),
        stubs=("Study",),
        levels=("what",),
        columns=_columns(
            "seeds", "cells with a result", "missing", "failed", "not trained to the end", "below a control"
        ),
        blocks=(tuple(rows),),
    )


def _columns(*titles: str) -> tuple[Column, ...]:
    return tuple(Column((title,), (title,)) for title in titles)


def _number(value: float, metric: MetricInfo) -> Number:
    return Number(value, None, 1, 1, metric.scale, metric.decimals)


def _signed(value: float, metric: MetricInfo) -> Number:
    return Number(value, None, 1, 1, metric.scale, metric.decimals, signed=True)


def _gap(gap: Estimate, metric: MetricInfo) -> Number:
    interval = (gap.low, gap.high) if gap.is_known else None
    return Number(gap.value, None, 1, 1, metric.scale, metric.decimals, signed=True, interval=interval)
