"""The trials of a search: quality on validation against each numeric setting, by loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from matplotlib.axes import Axes

from mlcl.records.outline import SearchOutline
from mlcl.reporting.figures import style
from mlcl.reporting.figures.style import Figure, column_title, shared_legend, small_multiples
from mlcl.reporting.metric_info import MetricInfo, metric_info
from mlcl.reporting.results import Results

Points = dict[str, list[tuple[float, float]]]
"""loss -> (setting, value on validation) of its trials"""


def draw(results: Results) -> Iterator[Figure]:
    search = results.outline.search
    if search is None:
        return
    for setting in search.space:
        by_column = _points(results, setting)
        if by_column:
            yield _one(results, search, setting, by_column)


def _points(results: Results, setting: str) -> dict[tuple[str, str], Points]:
    """(dataset, encoder) -> the points of a setting that is a number; empty for others."""
    by_column: dict[tuple[str, str], Points] = {}
    trials = results.trials
    assert trials is not None
    trials = trials[(trials["setting"] == setting) & (trials["value"] != "")]
    columns = (trials[name].tolist() for name in ("dataset", "encoder", "loss", "setting_value", "value"))
    for dataset, encoder, loss, drawn, value in zip(*columns, strict=True):
        try:
            point = (float(drawn), float(value))
        except ValueError:
            continue
        by_column.setdefault((dataset, encoder), {}).setdefault(loss, []).append(point)
    return by_column


def _one(
    results: Results, search: SearchOutline, setting: str, by_column: Mapping[tuple[str, str], Points]
) -> Figure:
    metric, title = metric_info(search.metric), setting.replace("_", " ")
    with style.in_use():
        titles = [column_title(results.outline, *column) for column in by_column]
        canvas, axes = small_multiples(titles, [*results.outline.losses])
        for ax, points in zip(axes, by_column.values(), strict=True):
            _panel(ax, results, metric, points)
            ax.set_xlabel(title)
        axes[0].set_ylabel(style.axis_label(metric))
        shared_legend(canvas, axes)
    best = "; ".join(
        f"{name}: " + ", ".join(f"{loss} {max(own, key=lambda p: p[1])[0]:g}" for loss, own in points.items())
        for name, points in zip(titles, by_column.values(), strict=True)
    )
    return Figure(
        name=f"search-{setting.replace('_', '-')}",
        title=f"Trials: {metric.title} against {title}",
        caption=(
            f"{metric.title} on validation of each trial of the search against its {title} (readout {search.readout}, "
            f"one seed a trial); the other settings of the space differ between trials, too."
        ),
        alt=f"Scatter plots of {metric.title} on validation against {title}. Highest value at: {best}.",
        canvas=canvas,
    )


def _panel(ax: Axes, results: Results, metric: MetricInfo, points: Points) -> None:
    looks: Any = style.looks(results.outline)
    for loss, own in points.items():
        x, y = zip(*sorted(own), strict=True)
        shown = [value * metric.scale for value in y]
        ax.plot(
            x, shown, color=looks[loss].colour, linestyle="none", marker=looks[loss].marker,
            label=results.outline.title_of(loss),
        )  # fmt: skip
    values = [value for own in points.values() for value, _ in own]
    if min(values) > 0 and max(values) / min(values) >= 4:
        style.use_log_scale(ax, "x")
