"""Costs: time and memory against quality, with the Pareto front; the parts of a training step as stacked bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from matplotlib.axes import Axes

from mlcl.records.collect import STEP
from mlcl.records.outline import Outline
from mlcl.reporting.cost_means import compute_seconds, costs_by_encoder, mean_costs, step_parts
from mlcl.reporting.figures import style
from mlcl.reporting.figures.style import Figure, column_title, shared_legend, small_multiples
from mlcl.reporting.metric_info import MetricInfo, metric_info
from mlcl.reporting.ranking import complete_means, primary_metric
from mlcl.reporting.results import Results

COSTS: dict[str, tuple[str, Callable[[Results], dict[tuple[str, ...], float]]]] = {
    "time": ("compute seconds of a cell", compute_seconds),
    "memory": ("peak memory in MB", lambda results: mean_costs(results, "peak_memory_mb")),
}
"""Name -> label of the axis, values of rows."""
Point = tuple[float, float]
"""Cost, quality."""


def draw_trade_off(results: Results) -> Iterator[Figure]:
    metric = metric_info(primary_metric(results))
    means = complete_means(results, metric.name)
    for short, (label, costs_of) in COSTS.items():
        costs = costs_of(results)
        points = {
            column: by_loss
            for column in results.outline.columns()
            if len(
                by_loss := {
                    loss: (costs[*column, loss, "base"], values[column] * metric.scale)
                    for loss, values in means.items()
                    if column in values and (*column, loss, "base") in costs
                }
            )
            > 1
        }
        if points:
            yield _one(results, metric, points, short, label)


def pareto_front(points: Mapping[str, Point], higher_is_better: bool) -> list[str]:
    """The names that no other beats in one and equals or beats in the other, cheapest first."""
    sign = 1 if higher_is_better else -1
    front: list[str] = []
    best: float | None = None
    for name, (_, quality) in sorted(points.items(), key=lambda item: (item[1][0], -sign * item[1][1])):
        if best is None or sign * quality > best:
            front.append(name)
            best = sign * quality
    return front


def _one(
    results: Results,
    metric: MetricInfo,
    points: dict[tuple[str, str], dict[str, Point]],
    short: str,
    label: str,
) -> Figure:
    outline = results.outline
    fronts = {
        column: pareto_front(column_points, metric.higher_is_better)
        for column, column_points in points.items()
    }
    with style.in_use():
        canvas, axes = small_multiples(
            [column_title(outline, *column) for column in points], [*outline.losses]
        )
        for ax, (column, column_points) in zip(axes, points.items(), strict=True):
            _panel(ax, results, column_points, fronts[column])
            ax.set_xlabel(label)
        axes[0].set_ylabel(style.axis_label(metric))
        shared_legend(canvas, axes)
    orders = ", ".join(
        f"{column_title(outline, *column)}: {' then '.join(outline.title_of(loss) for loss in front)}"
        for column, front in fronts.items()
    )
    return Figure(
        name=f"costs-{short}",
        title=f"{metric.title} against {short}",
        caption=(
            f"{metric.title} on the {outline.split} split against {label} (training and evaluation), means over seeds. "
            f"A line joins the Pareto front (dark edges): what no other beats in both. Costs depend on the machine."
        ),
        alt=f"Scatter plots. Pareto fronts, cheapest first: {orders}.",
        canvas=canvas,
    )


def _panel(ax: Axes, results: Results, points: dict[str, Point], front: list[str]) -> None:
    looks = style.looks(results.outline)
    ax.plot(*zip(*(points[loss] for loss in front), strict=True), color=style.FAINT, linewidth=0.8, zorder=1)
    for loss, (cost, quality) in points.items():
        look = looks[loss]
        edge = style.INK if loss in front else look.colour
        ax.plot(cost, quality, look.marker, color=look.colour, linestyle="none", markeredgecolor=edge)
        ax.plot(
            [], [], look.marker, color=look.colour, linestyle="none", label=results.outline.title_of(loss)
        )


def draw_step_parts(results: Results) -> Iterator[Figure]:
    outline = results.outline
    parts = {part: costs_by_encoder(results, STEP + part) for part in step_parts(results)}
    encoders = [
        encoder for encoder in outline.encoders if any(encoder in by_encoder for by_encoder in parts.values())
    ]
    if not encoders:
        return
    with style.in_use():
        canvas, axes = small_multiples(encoders, list(parts), height=0.45 + 0.16 * len(outline.losses))
        for ax, encoder in zip(axes, encoders, strict=True):
            _bars(ax, outline, {part: by_encoder.get(encoder, {}) for part, by_encoder in parts.items()})
        shared_legend(canvas, axes)
    yield Figure(
        name="step-parts",
        title="Parts of a training step",
        caption=(
            "Where the time of a training step goes, in milliseconds: means over seeds and over the datasets on which "
            "all losses are complete. Costs depend on the machine."
        ),
        alt="Stacked bars. " + _longest_steps(parts, encoders),
        canvas=canvas,
    )


def _bars(ax: Axes, outline: Outline, parts: Mapping[str, Mapping[str, float]]) -> None:
    losses = [loss for loss in outline.losses if any(loss in by_loss for by_loss in parts.values())]
    starts = [0.0] * len(losses)
    for i, (part, by_loss) in enumerate(parts.items()):
        look = style.look(i)
        widths = [1000 * by_loss.get(loss, 0.0) for loss in losses]
        ax.barh(
            range(len(losses)), widths, 0.72, starts, color=look.colour, hatch=look.hatch, edgecolor="white",
            linewidth=0.3, label=part,
        )  # fmt: skip
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    ax.set_yticks(range(len(losses)), [outline.title_of(loss) for loss in losses])
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("ms a step")


def _longest_steps(parts: Mapping[str, Mapping[str, Mapping[str, float]]], encoders: list[str]) -> str:
    """The longest step with each encoder, and how it is split."""
    sentences = []
    for encoder in encoders:
        steps: dict[str, float] = {}
        for by_encoder in parts.values():
            for loss, seconds in by_encoder.get(encoder, {}).items():
                steps[loss] = steps.get(loss, 0.0) + seconds
        longest = max(steps, key=steps.__getitem__)
        shares = ", ".join(
            f"{part} {100 * by_encoder[encoder][longest] / steps[longest]:.0f} %"
            for part, by_encoder in parts.items()
            if longest in by_encoder.get(encoder, {}) and steps[longest]
        )
        sentences.append(
            f"{encoder}: the longest step is that of {longest}, {1000 * steps[longest]:.1f} ms ({shares})"
        )
    return "; ".join(sentences) + "."
