"""The trials of a search: quality on validation against each numeric setting, by loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from matplotlib.axes import Axes

from mlcl.records.outline import SearchOutline, Trial
from mlcl.records.search import value_of
from mlcl.records.status import trial_statuses
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
        by_column: dict[tuple[str, str], Points] = {}
        for status in trial_statuses(results.outline, results.paths):
            trial, record = status.cell, status.counted_record
            value = value_of(record, search) if record is not None else None
            drawn = trial.settings.get(setting) if isinstance(trial, Trial) else None
            if value is None or isinstance(drawn, bool) or not isinstance(drawn, int | float):
                continue
            points = by_column.setdefault((trial.id.dataset, trial.id.encoder), {})
            points.setdefault(trial.id.loss, []).append((float(drawn), value))
        if by_column:
            yield _one(results, search, setting, by_column)


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
        ax.set_xscale("log")
