"""Which labels the best loss of a dataset takes for which, one matrix a dataset."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mlcl.reporting.figures import style
from mlcl.reporting.figures.heat_map import SHADES
from mlcl.reporting.figures.style import Figure
from mlcl.reporting.label_results import (
    LabelConfusion,
    label_confusion,
    rule_of_confusion,
    title_of_confusion,
)
from mlcl.reporting.results import Results

MOST_NUMBERED = 15
"""With more labels the fields of pairs are too small for numbers."""


def draw(results: Results) -> Iterator[Figure]:
    for dataset in results.outline.datasets:
        confusion = label_confusion(results, dataset)
        if confusion is not None and len(confusion.labels) > 1:
            yield _one(results, confusion)


def _one(results: Results, confusion: LabelConfusion) -> Figure:
    k = len(confusion.labels)
    shares, columns = confusion.shares, [*confusion.labels, "another label", "none"]
    if not _is_printed(shares[:, k]).any():
        shares, columns = np.delete(shares, k, axis=1), [*confusion.labels, "none"]
    pairs = shares.copy()  # what has a colour: all but the diagonal and the columns of no label
    pairs[:, k:] = pairs[np.diag_indices(k)] = np.nan
    darkest = max(float(np.nanmax(pairs)), 0.01)
    numbered = k <= MOST_NUMBERED
    canvas = style.new_canvas(
        style.TWO_COLUMNS if k > 8 else 4.6, 1.5 + (0.24 if numbered else 0.17) * max(k, 5)
    )
    with style.in_use():
        ax = canvas.subplots()
        ax.set_facecolor("#e3e3e3")
        image = ax.imshow(100 * pairs, cmap=SHADES, aspect="auto", vmin=0, vmax=100 * darkest)
        ax.axvline(k - 0.5, color=style.FAINT, linewidth=0.8)
        for i, j in np.argwhere(_is_printed(shares) & (numbered | np.isnan(pairs))):
            ax.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", fontsize=6 if numbered else 5,
                    color="white" if pairs[i, j] > 0.45 * darkest else style.INK)  # fmt: skip
        names = [style.shorten(name, 18) for name in columns]
        ax.set_xticks(range(len(columns)), names, rotation=55, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(k), names[:k])
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_tick_params(length=0, labelsize=6.5 if numbered else 6)
        ax.set_xlabel("predicted instead")
        ax.set_ylabel("label that is missed")
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        bar = canvas.colorbar(image, ax=ax, shrink=0.9, pad=0.02)
        bar.set_label("rows with the label in %")
        bar.outline.set_visible(False)
    which = (
        ""
        if k == confusion.number_of_labels
        else f" The {k} most confused of {confusion.number_of_labels} labels."
    )
    return Figure(
        name=f"label-confusions-{confusion.dataset}",
        title=f"Confused labels of {results.outline.datasets[confusion.dataset].title}",
        caption=(
            f"{title_of_confusion(results.outline, confusion)}: of the rows with a label, the share in which it is "
            f"missed and another is predicted instead, or none; on the diagonal, the share in which it is found, so "
            f"that a row sums to 100 %.{which} Labels by frequency. {rule_of_confusion(results.outline, confusion)}"
        ),
        alt=_in_words(confusion),
        canvas=canvas,
        dataset=confusion.dataset,
    )


def _is_printed(shares: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Less than half a percent is printed as nothing."""
    return shares > 0.005


def _in_words(confusion: LabelConfusion) -> str:
    pairs = ", ".join(
        f"{confusion.labels[j]} in place of {confusion.labels[i]} ({100 * confusion.shares[i, j]:.0f} % of its rows)"
        for i, j in confusion.most_confused(5)
    )
    return f"Matrix of {len(confusion.labels)} labels. Predicted most often: {pairs or 'no label in place of another'}."
