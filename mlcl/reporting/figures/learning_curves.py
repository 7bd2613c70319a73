"""Learning curves: training loss over epochs, one figure a dataset and encoder."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import numpy as np
from numpy.typing import NDArray

from mlcl.reporting.figures import style
from mlcl.reporting.figures.style import Figure, names_in_a_line, shared_legend
from mlcl.reporting.results import Results

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Epochs, loss."""


def draw(results: Results) -> Iterator[Figure]:
    outline = results.outline
    for dataset, encoder in outline.columns():
        curves = {
            loss: loss_curves
            for loss in outline.losses
            if (loss_curves := _curves(results, dataset, encoder, loss))
        }
        if curves:
            yield _one(results, dataset, encoder, curves)


def _curves(results: Results, dataset: str, encoder: str, loss: str) -> list[Curve]:
    of_seeds = results.curves.get((dataset, encoder, loss), {})
    return [(np.array(list(curve)), np.array(list(curve.values()))) for curve in of_seeds.values()]


def _one(results: Results, dataset: str, encoder: str, curves: dict[str, list[Curve]]) -> Figure:
    outline = results.outline
    looks = style.looks(outline)
    lines = ceil(len(curves) / names_in_a_line(list(curves), style.ONE_COLUMN))
    canvas = style.new_canvas(style.ONE_COLUMN, 2.1 + 0.16 * lines)
    with style.in_use():
        ax = canvas.subplots()
        for loss, loss_curves in curves.items():
            epochs, values = _relative(loss_curves)
            mean = values.mean(axis=0)
            look = looks[loss]
            ax.plot(epochs, mean, color=look.colour, linestyle=look.line, marker=look.marker,
                    markevery=max(1, len(epochs) // 6), label=outline.title_of(loss))  # fmt: skip
            if len(values) > 1:
                ax.fill_between(
                    epochs, values.min(axis=0), values.max(axis=0), color=look.colour, alpha=0.15, linewidth=0
                )
        ax.set_xlabel("epoch")
        ax.set_ylabel("training loss / its first value")
        shared_legend(canvas, [ax])
    where = f"{outline.datasets[dataset].title}, {encoder}"
    ends = ", ".join(
        f"{outline.title_of(loss)} {_relative(loss_curves)[1].mean(axis=0)[-1]:.2f}"
        for loss, loss_curves in curves.items()
    )
    several = any(len(loss_curves) > 1 for loss_curves in curves.values())
    band = "; mean over seeds, the band from the lowest to the highest seed" if several else ""
    return Figure(
        name=f"learning-{dataset}-{encoder}",
        title=f"Learning curves on {where}",
        caption=(
            f"{where}: training loss over epochs, divided by its first value, since the values of different losses "
            f"cannot be compared{band}."
        ),
        alt=f"Line plot. Training loss at the end, relative to its first value: {ends}.",
        canvas=canvas,
        dataset=dataset,
    )


def _relative(curves: list[Curve]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Epochs and (seeds, epochs) losses relative to each seed's first value, as far as all seeds go."""
    shortest = min(len(epochs) for epochs, _ in curves)
    values = np.array([losses[:shortest] / _first(losses) for _, losses in curves])
    return curves[0][0][:shortest], values


def _first(losses: NDArray[np.float64]) -> float:
    return float(losses[0]) if losses[0] != 0 else 1.0
