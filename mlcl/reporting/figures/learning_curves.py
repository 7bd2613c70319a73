"""Learning curves: training loss over epochs, and where validation was looked at loss and micro-F1 there.

One figure a dataset and encoder, with all losses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from mlcl.reporting.figures import style
from mlcl.reporting.figures.style import Figure, shared_legend, small_multiples
from mlcl.reporting.results import LearningCurve, Results

PANELS = {
    "loss": ("training loss", "its first value"),
    "val_loss": ("validation loss", "its first value"),
    "val_micro_f1": ("validation micro-F1 in %", None),
}
"""Series -> title, and what its values are divided by."""
LOG_FROM = 20.0
"""Largest over smallest value of a panel from which its axis is logarithmic."""
Curves = Mapping[str, Sequence[LearningCurve]]
"""loss -> its seeds"""


def draw(results: Results) -> Iterator[Figure]:
    outline = results.outline
    for dataset, encoder in outline.columns():
        curves = {
            loss: [curve for curve in by_seed.values() if np.isfinite(curve.loss).any()]
            for loss in outline.losses
            if (by_seed := results.curves.get((dataset, encoder, loss)))
        }
        if curves := {loss: seeds for loss, seeds in curves.items() if seeds}:
            yield _one(results, dataset, encoder, curves)


def _one(results: Results, dataset: str, encoder: str, curves: Curves) -> Figure:
    outline = results.outline
    shown = {series: by_loss for series in PANELS if (by_loss := _values(curves, series))}
    with style.in_use():
        titles = [PANELS[series][0] for series in shown]
        canvas, axes = small_multiples(titles if len(shown) > 1 else [""], [*curves])
        for ax, (series, by_loss) in zip(axes, shown.items(), strict=True):
            _panel(ax, results, by_loss)
            divisor = PANELS[series][1]
            label = f"{PANELS[series][0]} / {divisor}" if len(shown) == 1 else f"divided by {divisor}"
            ax.set_ylabel(label if divisor else "")
            ax.set_xlabel("epoch")
        shared_legend(canvas, axes)
    where = f"{outline.datasets[dataset].title}, {encoder}"
    several = any(len(seeds) > 1 for seeds in curves.values())
    band = "; mean over seeds, thin lines are single seeds" if several else ""
    return Figure(
        name=f"learning-{dataset}-{encoder}",
        title=f"Learning curves on {where}",
        caption=(
            f"{where}: training loss over epochs, divided by its first value, since the values of different losses "
            f"cannot be compared{band}. {_on_validation(results, shown)}"
        ),
        alt=_in_words(results, shown),
        canvas=canvas,
        dataset=dataset,
    )


def _on_validation(results: Results, shown: Mapping[str, object]) -> str:
    if len(shown) == 1:
        return "Validation was not looked at during training."
    return (
        "Validation, for the losses whose training looks at it: the same loss, and micro-F1 at 0.5 of the loss's own "
        "head, or of nearest neighbours where it has none."
    )


def _panel(
    ax: Axes, results: Results, by_loss: Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]]
) -> None:
    looks = style.looks(results.outline)
    for loss, (epochs, values) in by_loss.items():
        look = looks[loss]
        ax.plot(epochs, values.mean(axis=0), color=look.colour, linestyle=look.line, marker=look.marker,
                markevery=max(1, len(epochs) // 6), label=results.outline.title_of(loss))  # fmt: skip
        if len(values) > 1:
            ax.plot(epochs, values.T, color=look.colour, linewidth=0.4, alpha=0.6, zorder=1.5)
    everything = np.concatenate([values.ravel() for _, values in by_loss.values()])
    lowest, highest = np.nanmin(everything), np.nanmax(everything)
    if lowest > 0 and highest / lowest >= LOG_FROM:
        style.use_log_scale(ax, "y")


def _values(curves: Curves, series: str) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """loss -> epochs, and (seeds, epochs) values as far as all seeds go; without losses that have none."""
    found = {}
    for loss, seeds in curves.items():
        values = [getattr(curve, series) for curve in seeds]
        shortest = min(_finite(one) for one in values)
        if shortest:
            rows = np.array([one[:shortest] for one in values])
            found[loss] = (
                seeds[0].epochs[:shortest],
                100 * rows if PANELS[series][1] is None else rows / _first(rows),
            )
    return found


def _finite(values: NDArray[np.float64]) -> int:
    """How many values there are before the first that is not finite."""
    bad = np.flatnonzero(~np.isfinite(values))
    return int(bad[0]) if len(bad) else len(values)


def _first(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """(seeds, 1) 1 where the first value is 0."""
    first = rows[:, :1]
    return np.where(first != 0, first, 1.0)


def _in_words(
    results: Results, shown: Mapping[str, Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]]]
) -> str:
    sentences = []
    for series, by_loss in shown.items():
        title, divisor = PANELS[series]
        ends = ", ".join(
            f"{results.outline.title_of(loss)} {values.mean(axis=0)[-1]:.{2 if divisor else 1}f}"
            for loss, (_, values) in by_loss.items()
        )
        relative = ", relative to its first value" if divisor else ""
        sentences.append(f"{title[0].upper()}{title[1:]} at the end{relative}: {ends}.")
    return f"Line plot. {' '.join(sentences)}"
