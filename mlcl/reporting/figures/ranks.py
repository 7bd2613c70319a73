"""Critical-difference diagram (Demsar 2006): mean ranks of losses over datasets."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.axes import Axes

from mlcl.reporting.figures import style
from mlcl.reporting.figures.style import Figure
from mlcl.reporting.metric_info import metric_info
from mlcl.reporting.ranking import note_on_encoders, rank_losses
from mlcl.reporting.results import Results
from mlcl.reporting.statistics import ALPHA, FEWEST_DATASETS
from mlcl.reporting.statistics.datasets import Ranking


def draw(results: Results) -> Iterator[Figure]:
    for name in results.outline.metrics:
        ranking = rank_losses(results, name)
        if ranking is not None and len(ranking.methods) >= 3 and len(ranking.datasets) >= FEWEST_DATASETS:
            yield _one(results, name, ranking)


def _one(results: Results, name: str, ranking: Ranking) -> Figure:
    metric = metric_info(name)
    title_of = results.outline.title_of
    half = (len(ranking.methods) + 1) // 2
    groups = ranking.groups()
    canvas = style.new_canvas(style.TWO_COLUMNS, 0.9 + 0.17 * half + 0.09 * len(groups))
    with style.in_use():
        ax = canvas.subplots()
        _axis(ax, ranking)
        _bars(ax, ranking, groups)
        _names(ax, ranking, {m: title_of(m) for m in ranking.methods}, below=0.35 + 0.35 * len(groups))
    p = (
        "no test could be made"
        if ranking.p_value is None
        else f"Friedman's test that all are alike: p = {ranking.p_value:.2g}"
    )
    order = ", ".join(f"{title_of(m)} {ranking.ranks[m]:.2f}" for m in ranking.order)
    return Figure(
        name=f"ranks-{name}",
        title=f"Ranks of losses by {metric.title}",
        caption=(
            f"Mean ranks by {metric.title} over {len(ranking.datasets)} datasets (1 is best). Losses under one bar are "
            f"not told apart by Nemenyi's test (critical difference {ranking.critical_difference:.2f}, alpha {ALPHA}). "
            f"{p[0].upper()}{p[1:]}.{note_on_encoders(results.outline)}"
        ),
        alt=f"Critical-difference diagram. Mean ranks: {order}.",
        canvas=canvas,
    )


def _axis(ax: Axes, ranking: Ranking) -> None:
    most = len(ranking.methods)
    ax.set_axis_off()
    ax.set_xlim(most + 0.28 * most, 1 - 0.28 * most)
    ax.plot([1, most], [0, 0], color=style.INK, linewidth=0.8)
    for rank in range(1, most + 1):
        ax.plot([rank, rank], [0, 0.12], color=style.INK, linewidth=0.8)
        ax.text(rank, 0.2, str(rank), ha="center", va="bottom")
    ax.errorbar(
        most - ranking.critical_difference / 2 if ranking.critical_difference < most else (most + 1) / 2,
        1.05, xerr=min(ranking.critical_difference, most - 1) / 2, capsize=3, color=style.INK, linewidth=1,
    )  # fmt: skip
    ax.text(
        most - min(ranking.critical_difference, most - 1) / 2,
        1.2,
        "critical difference",
        ha="center",
        va="bottom",
    )


def _bars(ax: Axes, ranking: Ranking, groups: list[tuple[str, ...]]) -> None:
    for i, group in enumerate(groups):
        ranks = [ranking.ranks[m] for m in group]
        y = -0.35 - 0.35 * i
        ax.plot(
            [min(ranks) - 0.06, max(ranks) + 0.06],
            [y, y],
            color=style.INK,
            linewidth=3,
            solid_capstyle="butt",
        )


def _names(ax: Axes, ranking: Ranking, titles: dict[str, str], below: float) -> None:
    """The better half at the right, where rank 1 is; the others at the left; each with a line to its rank."""
    order = ranking.order
    half = (len(order) + 1) // 2
    right, left = order[:half], order[half:][::-1]
    step = 0.03 * len(order)
    for names, x, align in ((right, 1 - step, "left"), (left, len(order) + step, "right")):
        for i, name in enumerate(names):
            y = -below - 0.2 - 0.6 * i
            rank = ranking.ranks[name]
            ax.plot([rank, rank, x], [0, y, y], color=style.FAINT, linewidth=0.7)
            ax.text(
                x + (-0.06 if align == "left" else 0.06),
                y,
                f"{titles[name]}  {rank:.2f}",
                ha=align,
                va="center",
            )
    ax.set_ylim(-below - 0.3 - 0.6 * half, 1.75)
