"""Sensitivity: quality against a setting that variants change, such as fraction, temperature or batch size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from matplotlib.axes import Axes

from mlcl.records.outline import Outline
from mlcl.reporting.figures import style
from mlcl.reporting.figures.style import Figure, column_title, shared_legend, small_multiples
from mlcl.reporting.metric_info import MetricInfo, metric_info
from mlcl.reporting.ranking import primary_metric
from mlcl.reporting.results import Results, RowKey
from mlcl.reporting.statistics.seeds import Estimate, mean_interval

TITLES = {
    ("dataset", "fraction"): "fraction of the training data",
    ("loss", "temperature"): "temperature",
    ("training", "batch_size"): "batch size",
    ("training", "learning_rate"): "learning rate",
}
Setting = tuple[str, str]
"""Its section and name, as in a study file."""
Curve = list[tuple[float, RowKey]]


def draw(results: Results) -> Iterator[Figure]:
    for setting, variants in swept_settings(results.outline).items():
        curves = {
            column: by_loss
            for column in results.outline.columns()
            if (by_loss := curves_by_loss(results, *column, setting, variants))
        }
        if curves:
            yield _one(results, setting, curves)


def swept_settings(outline: Outline) -> dict[Setting, dict[str, float]]:
    """setting -> variant -> its value, for variants that change one numeric setting and nothing else
    (`Outline.changes_of`)."""
    swept: dict[Setting, dict[str, float]] = {}
    for variant in outline.variants:
        changes = outline.changes_of(variant)
        changed = [(section, key, value) for section, part in changes.items() for key, value in part.items()]
        if (
            len(changed) == 1
            and isinstance(changed[0][2], int | float)
            and not isinstance(changed[0][2], bool)
        ):
            section, key, value = changed[0]
            swept.setdefault((section, key), {})[variant] = float(value)
    return swept


def base_value(outline: Outline, setting: Setting, dataset: str, encoder: str, loss: str) -> float | None:
    """The setting's value in the base study; None where it is not a number or not recorded."""
    section, key = setting
    places: dict[str, dict[str, Any]] = {
        "dataset": {"fraction": outline.datasets[dataset].fraction},
        "loss": outline.losses[loss].hyperparameters,
        "training": outline.training_of(loss, encoder),
        "encoder": outline.encoders[encoder].settings if encoder in outline.encoders else {},
        "linear_evaluation": outline.linear_evaluation,
    }
    value = places.get(section, {}).get(key)
    return float(value) if isinstance(value, int | float) else None


def curves_by_loss(
    results: Results, dataset: str, encoder: str, setting: Setting, variants: dict[str, float]
) -> dict[str, Curve]:
    """loss -> its points (value of the setting, row of the grid); losses with fewer than two points are left out."""
    outline = results.outline
    metric = primary_metric(results)
    curves = {}
    for loss in outline.losses:
        values = dict(variants)
        if (base := base_value(outline, setting, dataset, encoder, loss)) is not None:
            values["base"] = base
        points = [
            (value, (dataset, encoder, loss, variant))
            for variant, value in values.items()
            if results.values((dataset, encoder, loss, variant), outline.split, metric)
        ]
        if len(points) > 1:
            curves[loss] = sorted(points)
    return curves


def _one(results: Results, setting: Setting, curves: dict[tuple[str, str], dict[str, Curve]]) -> Figure:
    outline = results.outline
    metric = metric_info(primary_metric(results))
    title = TITLES.get(setting, setting[1].replace("_", " "))
    with style.in_use():
        canvas, axes = small_multiples(
            [column_title(outline, *column) for column in curves], [*outline.losses]
        )
        for ax, by_loss in zip(axes, curves.values(), strict=True):
            _panel(ax, results, metric, by_loss)
            ax.set_xlabel(title)
        axes[0].set_ylabel(style.axis_label(metric))
        shared_legend(canvas, axes)
    return Figure(
        name=f"sensitivity-{setting[1].replace('_', '-')}",
        title=f"{metric.title} against {title}",
        caption=(
            f"{metric.title} on the {outline.split} split against {title}, all else as in the study; mean over seeds "
            f"with its 95 % t-interval."
        ),
        alt=f"Line plots of {metric.title} against {title}. " + _in_words(results, metric, curves),
        canvas=canvas,
    )


def _panel(ax: Axes, results: Results, metric: MetricInfo, curves: dict[str, Curve]) -> None:
    looks = style.looks(results.outline)
    for loss, points in curves.items():
        look = looks[loss]
        estimates = [_estimate(results, metric, row) for _, row in points]
        half = [e.half_width if e.is_known else 0.0 for e in estimates]
        ax.errorbar(
            [value for value, _ in points], [e.value for e in estimates], yerr=half, color=look.colour, capsize=1.5,
            linestyle=look.line, marker=look.marker, elinewidth=0.6, label=results.outline.title_of(loss),
        )  # fmt: skip
    values = sorted({value for points in curves.values() for value, _ in points})
    if values[0] > 0 and values[-1] / values[0] >= 4:
        ax.set_xscale("log")
    ax.set_xticks(values, [f"{value:g}" for value in values])
    ax.minorticks_off()


def _estimate(results: Results, metric: MetricInfo, row: RowKey) -> Estimate:
    values = list(results.values(row, results.outline.split, metric.name).values())
    return mean_interval(values).scaled(metric.scale)


def _in_words(results: Results, metric: MetricInfo, curves: dict[tuple[str, str], dict[str, Curve]]) -> str:
    def at(point: tuple[float, RowKey]) -> str:
        return f"{_estimate(results, metric, point[1]).value:.{metric.decimals}f} at {point[0]:g}"

    sentences = []
    for column, by_loss in curves.items():
        ends = [
            f"{results.outline.title_of(loss)} from {at(points[0])} to {at(points[-1])}"
            for loss, points in by_loss.items()
        ]
        sentences.append(f"{column_title(results.outline, *column)}: {', '.join(ends)}")
    return "; ".join(sentences) + "."
