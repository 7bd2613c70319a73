"""Dot plots of losses: the mean over seeds with its interval, one figure a dataset and encoder."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.axes import Axes

from mlcl.records.outline import NO_ENCODER, Outline
from mlcl.reporting.figures import style
from mlcl.reporting.figures.style import Figure
from mlcl.reporting.metric_info import MetricInfo, metric_info
from mlcl.reporting.ranking import primary_metric
from mlcl.reporting.results import Results, RowKey
from mlcl.reporting.statistics.seeds import mean_interval


def draw(results: Results) -> Iterator[Figure]:
    for dataset, encoder in results.outline.columns():
        names = [n for n in results.outline.row_names if _has_values(results, dataset, encoder, n)]
        if names:
            yield _one(results, dataset, encoder, names)


def _what_is_shown(outline: Outline) -> str:
    if len(outline.seeds) == 1:
        return "one seed, so nothing tells how much seeds differ."
    return "mean over seeds with its 95 % t-interval over seeds; small points are single seeds."


def _has_values(results: Results, dataset: str, encoder: str, loss: str) -> bool:
    row = results.row_for(dataset, encoder, loss)
    outline = results.outline
    return row is not None and any(results.values(row, outline.split, metric) for metric in outline.metrics)


def _one(results: Results, dataset: str, encoder: str, names: list[str]) -> Figure:
    outline = results.outline
    # What losses are judged by stands first, and beside it what the study's table shows.
    metrics = [metric_info(name) for name in dict.fromkeys([primary_metric(results), *outline.metrics])]
    canvas = style.new_canvas(style.TWO_COLUMNS, 0.75 + 0.2 * len(names))
    with style.in_use():
        axes = canvas.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for ax, metric in zip(axes, metrics, strict=True):
            _panel(ax, results, dataset, encoder, names, metric)
        axes[0].set_yticks(range(len(names)), [outline.title_of(name) for name in names])
        axes[0].invert_yaxis()
    where = outline.datasets[dataset].title + ("" if encoder == NO_ENCODER else f", {encoder}")
    return Figure(
        name=f"comparison-{dataset}" + ("" if encoder == NO_ENCODER else f"-{encoder}"),
        title=f"Losses on {where}",
        caption=(
            f"{where}, {outline.split} split: {_what_is_shown(outline)} Baselines are grey. Hollow marks: not all "
            f"seeds have a current result."
        ),
        alt=_in_words(results, dataset, encoder, names, metrics),
        canvas=canvas,
        dataset=dataset,
    )


def _panel(
    ax: Axes, results: Results, dataset: str, encoder: str, names: list[str], metric: MetricInfo
) -> None:
    """Few artists for many losses: intervals and single seeds are one each, since drawing takes its time."""
    looks = style.looks(results.outline)
    bars: list[tuple[int, float, float, str]] = []
    seeds: list[tuple[float, float, str]] = []
    for y, name in enumerate(names):
        row = results.row_for(dataset, encoder, name)
        values = _values(results, row, metric)
        if row is None or not values:
            continue
        look, mean = looks[name], mean_interval(values)
        if mean.is_known:
            bars.append((y, mean.low, mean.high, look.colour))
        if len(results.outline.seeds) > 1:
            seeds += [(value, y - 0.3, look.colour) for value in values]
        complete = results.rows[row].complete
        ax.plot(
            mean.value,
            y,
            look.marker,
            color=look.colour,
            markerfacecolor=look.colour if complete else "white",
        )
    if bars:
        places, starts, ends, colours = zip(*bars, strict=True)
        ax.hlines(places, starts, ends, colors=colours, linewidth=1.2)
    if seeds:
        across, down, colours = zip(*seeds, strict=True)
        ax.scatter(across, down, c=colours, s=4, linewidths=0)
    title = metric.title.replace(" (", "\n(")  # a panel is narrow
    ax.set_title(f"{title} {metric.arrow}" + (" in %" if metric.is_percentage else ""))
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    if metric.is_percentage:
        low, high = ax.get_xlim()
        ax.set_xlim(max(low, -1), min(high, 101))


def _values(results: Results, row: RowKey | None, metric: MetricInfo) -> list[float]:
    if row is None:
        return []
    return [
        value * metric.scale for value in results.values(row, results.outline.split, metric.name).values()
    ]


def _in_words(
    results: Results, dataset: str, encoder: str, names: list[str], metrics: list[MetricInfo]
) -> str:
    sentences = []
    for metric in metrics:
        means = {
            results.outline.title_of(name): sum(values) / len(values)
            for name in names
            if (values := _values(results, results.row_for(dataset, encoder, name), metric))
        }
        order = sorted(means.items(), key=lambda item: item[1], reverse=metric.higher_is_better)
        sentences.append(
            f"{metric.title}: " + ", ".join(f"{name} {mean:.{metric.decimals}f}" for name, mean in order)
        )
    return "Dot plot. " + "; ".join(sentences) + "."
