"""Per-frequency curves: how losses do on frequent, medium and rare labels."""

from __future__ import annotations

from collections.abc import Iterator

from mlcl.reporting.figures import style
from mlcl.reporting.figures.style import Figure, column_title, shared_legend, small_multiples
from mlcl.reporting.metric_info import metric_info
from mlcl.reporting.ranking import primary_metric
from mlcl.reporting.results import Results

BANDS = ("head", "medium", "tail")


def draw(results: Results) -> Iterator[Figure]:
    outline = results.outline
    base = primary_metric(results) if primary_metric(results) in ("macro_f1", "map") else "macro_f1"
    metric = metric_info(base)
    curves = {column: by_loss for column in outline.columns() if (by_loss := _curves(results, *column, base))}
    if not curves:
        return
    looks = style.looks(outline)
    with style.in_use():
        canvas, axes = small_multiples(
            [column_title(outline, *column) for column in curves], [*outline.losses]
        )
        for ax, by_loss in zip(axes, curves.values(), strict=True):
            for loss, values in by_loss.items():
                look = looks[loss]
                ax.plot(range(3), [v * metric.scale for v in values], color=look.colour, linestyle=look.line,
                        marker=look.marker, label=outline.title_of(loss))  # fmt: skip
            ax.set_xticks(range(3), BANDS)
            ax.set_xlim(-0.2, 2.2)
        axes[0].set_ylabel(style.axis_label(metric))
        shared_legend(canvas, axes)
    yield Figure(
        name="frequency",
        title=f"{metric.title} by label frequency",
        caption=(
            f"{metric.title} on the {outline.split} split over the most frequent third of the labels (head), the "
            f"middle and the rarest third (tail) by their frequency in training; mean over seeds."
        ),
        alt="Line plots. On the tail, best first: " + _tail_in_words(results, curves) + ".",
        canvas=canvas,
    )


def _curves(results: Results, dataset: str, encoder: str, base: str) -> dict[str, list[float]]:
    """loss -> its value on head, medium, tail, where all three are there."""
    curves = {}
    for loss in results.outline.losses:
        row = (dataset, encoder, loss, "base")
        means = [results.mean_sd_n(row, results.outline.split, f"{base}_{band}") for band in BANDS]
        values = [summary[0] for summary in means if summary is not None]
        if len(values) == len(BANDS):
            curves[loss] = values
    return curves


def _tail_in_words(results: Results, curves: dict[tuple[str, str], dict[str, list[float]]]) -> str:
    sentences = []
    for column, by_loss in curves.items():
        best = max(by_loss, key=lambda loss: by_loss[loss][2])
        sentences.append(f"{results.outline.title_of(best)} on {column_title(results.outline, *column)}")
    return ", ".join(sentences)
