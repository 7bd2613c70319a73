"""The best losses of a dataset label by label, one figure a dataset."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mlcl.reporting.figures import style
from mlcl.reporting.figures.style import Figure, shared_legend
from mlcl.reporting.label_results import TITLES, LabelScores, caption_of_scores, label_scores
from mlcl.reporting.results import Results

PANELS = (
    ("precision_tuned", "precision"),
    ("recall_tuned", "recall"),
    ("f1_tuned", "f1"),
    ("average_precision", "average_precision"),
)
"""Of each the first measure that there is."""
APART = 0.24
"""Distance of the marks of two losses, where that of two labels is 1."""


def draw(results: Results) -> Iterator[Figure]:
    for dataset in results.outline.datasets:
        if (scores := label_scores(results, dataset)) is not None:
            yield _one(results, scores)


def _one(results: Results, scores: LabelScores) -> Figure:
    outline, looks = results.outline, style.looks(results.outline)
    measures = [next(m for m in names if m in scores.means) for names in PANELS]
    places = np.arange(len(scores.labels))
    canvas = style.new_canvas(style.TWO_COLUMNS, 0.8 + 0.2 * len(places))
    with style.in_use():
        axes = canvas.subplots(1, len(measures), sharey=True, squeeze=False)[0]
        for ax, measure in zip(axes, measures, strict=True):
            ax.barh(
                places[1::2], 100, height=1.0, color="#f3f3f3", zorder=0
            )  # every other label, to follow a line
            for i, loss in enumerate(scores.losses):
                look = looks[loss]
                ax.plot(
                    100 * scores.means[measure][loss], places + APART * (i - (len(scores.losses) - 1) / 2), look.marker,
                    color=look.colour, markersize=3.2, linestyle="none", label=outline.title_of(loss),
                )  # fmt: skip
            ax.set_title(f"{TITLES[measure]} in %")
            ax.set_xlim(-3, 103)
            ax.grid(visible=False, axis="y")
            ax.tick_params(axis="y", length=0)
        axes[0].set_yticks(places, [_label(scores, i) for i in range(len(places))])
        axes[0].set_ylim(len(places) - 0.5, -0.5)
        shared_legend(canvas, axes)
    return Figure(
        name=f"label-scores-{scores.dataset}",
        title=f"Labels of {outline.datasets[scores.dataset].title}",
        caption=caption_of_scores(outline, scores)
        + (" In brackets: training rows that have the label." if scores.train is not None else ""),
        alt=_in_words(results, scores),
        canvas=canvas,
        dataset=scores.dataset,
    )


def _label(scores: LabelScores, i: int) -> str:
    name = style.shorten(scores.labels[i])
    return name if scores.train is None else f"{name} ({scores.train[i]:,})"


def _in_words(results: Results, scores: LabelScores) -> str:
    sentences = []
    for loss, values in scores.means["average_precision"].items():
        if np.isfinite(values).any():
            best, worst = int(np.nanargmax(values)), int(np.nanargmin(values))
            sentences.append(
                f"{results.outline.title_of(loss)} from {scores.labels[worst]} {100 * values[worst]:.1f} to "
                f"{scores.labels[best]} {100 * values[best]:.1f}"
            )
    return f"Dot plots of {len(scores.labels)} labels. Average precision in %: {'; '.join(sentences)}."
