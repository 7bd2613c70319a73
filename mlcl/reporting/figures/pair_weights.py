"""Pair weights: what each pairwise loss makes of one batch whose label sets relate in all the ways there are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from mlcl.errors import MlclError
from mlcl.reporting.figures import style
from mlcl.reporting.figures.heat_map import SHADES
from mlcl.reporting.figures.style import Figure
from mlcl.reporting.results import Results

ACROSS = 4
"""Panels beside each other, at most."""
SCALE = PowerNorm(0.5, 0, 1)
"""Weights are shares of an anchor; the square root lets small ones be seen."""


@dataclass(frozen=True)
class Weighting:
    """Losses with one and the same matrix: rows are `anchors`, columns `references`, groups of items each."""

    losses: tuple[str, ...]
    anchors: tuple[str, ...]
    references: tuple[str, ...]
    weights: NDArray[np.float64]


def draw(results: Results) -> Iterator[Figure]:
    file = results.paths.pair_weights
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        labels, by_loss = content["labels"], content["losses"]
        groups = weightings({loss: by_loss[loss] for loss in results.outline.losses if loss in by_loss})
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        raise MlclError(f"{file}: holds no pair weights; aggregate the study's records again") from None
    if not groups:
        return
    sets = [_label_set(row) for row in labels]
    alike = "; ".join(" and ".join(w.losses) for w in groups if len(w.losses) > 1)
    yield Figure(
        name="pair-weights",
        title="Pair weights",
        caption=(
            f"What each pairwise loss, with the study's settings, weighs on one made-up batch: the darker, the more "
            f"the anchor (row) is drawn to the reference (column); shades by the square root. Rows and columns are "
            f"named by their label sets: to the first, the others are equal, a subset, a superset, overlapping, "
            f"disjoint and empty. c1 to c{len(labels[0])} are the prototypes of labels."
            + (f" With the same weights: {alike}." if alike else "")
        ),
        alt="Matrices of pair weights. " + _in_words(groups, sets),
        canvas=picture(labels, groups),
    )


def weightings(losses: Mapping[str, Mapping[str, Any]]) -> list[Weighting]:
    """Losses brought together by their matrices, as `mlcl.study.pair_weights.example` gives them."""
    groups: dict[str, Weighting] = {}
    for name, matrix in losses.items():
        anchors, references = tuple(matrix["anchors"]), tuple(matrix["references"])
        weights = np.array(matrix["weights"], dtype=np.float64)
        key = json.dumps([anchors, references, weights.round(6).tolist()])
        names = (*groups[key].losses, name) if key in groups else (name,)
        groups[key] = Weighting(names, anchors, references, weights)
    return list(groups.values())


def picture(labels: Sequence[Sequence[int]], groups: Sequence[Weighting]) -> Canvas:
    """One matrix a panel, all on one scale of shades."""
    down = ceil(len(groups) / ACROSS)
    across = ceil(len(groups) / down)
    names = {
        "batch": [_label_set(row) for row in labels],
        "prototypes": [f"c{i + 1}" for i in range(len(labels[0]))],
    }
    canvas = style.new_canvas(style.TWO_COLUMNS, 0.3 + 1.75 * down)
    with style.in_use():
        axes = canvas.subplots(down, across, squeeze=False).ravel().tolist()
        for ax in axes[len(groups) :]:
            ax.remove()
        for ax, weighting in zip(axes, groups, strict=False):
            image = _matrix(ax, weighting, names)
        bar = canvas.colorbar(image, ax=axes[: len(groups)], shrink=0.5, aspect=25, pad=0.02, panchor=False)
        bar.set_label("weight of a pair")
        bar.outline.set_visible(False)
    return canvas


def _matrix(ax: Axes, weighting: Weighting, names: Mapping[str, list[str]]) -> Any:
    rows, columns = (
        [name for group in side for name in names[group]]
        for side in (weighting.anchors, weighting.references)
    )
    image = ax.imshow(weighting.weights, cmap=SHADES, norm=SCALE)
    ax.set_title("\n".join(weighting.losses), fontsize=7.5)
    ax.set_anchor("N")
    ax.set_xticks(range(len(columns)), columns, rotation=90, fontsize=5.5)
    ax.set_yticks(range(len(rows)), rows, fontsize=5.5)
    ax.set_xticks(np.arange(len(columns) - 1) + 0.5, minor=True)
    ax.set_yticks(np.arange(len(rows) - 1) + 0.5, minor=True)
    ax.grid(visible=False, which="major")
    ax.grid(visible=True, which="minor", color=style.GRID, linewidth=0.4)
    ax.tick_params(which="both", length=0, pad=1.5)
    ax.spines[:].set_visible(True)
    for line, side in ((ax.axvline, weighting.references), (ax.axhline, weighting.anchors)):
        if len(side) == 2:
            line(len(names[side[0]]) - 0.5, color=style.INK, linewidth=0.7)
    return image


def _label_set(row: Sequence[int]) -> str:
    return ",".join(str(i + 1) for i, has in enumerate(row) if has) or "none"


def _in_words(groups: Sequence[Weighting], sets: Sequence[str]) -> str:
    """The first anchor's weights of the batch's other rows, for the losses that weigh such pairs."""
    sentences = [
        f"{' and '.join(w.losses)} {', '.join(f'{weight:.2f}' for weight in w.weights[0, 1 : len(sets)])}"
        for w in groups
        if w.anchors[0] == w.references[0] == "batch"
    ]
    if not sentences:
        return f"None of the {len(groups)} weighs pairs of examples."
    return f"Of an anchor with labels {sets[0]}, to {' / '.join(sets[1:])}: {'; '.join(sentences)}."
