"""Small multiples: one panel for each dataset and encoder, one legend for all."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from mlcl.records.outline import NO_ENCODER, Outline
from mlcl.reporting.figures import style

ACROSS = 3
MOST_IN_A_LINE = 6
KEY_WIDTH, LETTER_WIDTH = 0.42, 0.054
"""Inches that a line and its margins take in a legend, and a letter on average."""


def small_multiples(
    titles: Sequence[str], names: Sequence[str], height: float = 1.7
) -> tuple[Canvas, list[Axes]]:
    """A canvas with a titled panel for each title, and room for a legend of these names.

    One column wide if there is one panel, two if there are more.
    """
    across = min(ACROSS, len(titles))
    down = ceil(len(titles) / across)
    width = style.ONE_COLUMN if across == 1 else style.TWO_COLUMNS
    legend = 0.15 + 0.16 * ceil(len(names) / names_in_a_line(names, width))
    canvas = style.new_canvas(width, legend + (height + 0.4 if across == 1 else height) * down)
    axes = canvas.subplots(down, across, squeeze=False).ravel().tolist()
    for ax in axes[len(titles) :]:
        ax.remove()
    for ax, title in zip(axes, titles, strict=False):
        ax.set_title(title)
    return canvas, axes[: len(titles)]


def shared_legend(canvas: Canvas, axes: Sequence[Axes]) -> None:
    """Each name once, in the order in which the panels first show it."""
    found: dict[str, Artist] = {}
    for ax in axes:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    if found:
        columns = names_in_a_line(list(found), canvas.get_figwidth())
        canvas.legend(list(found.values()), list(found), loc="outside lower center", ncols=columns)


def names_in_a_line(names: Sequence[str], width: float) -> int:
    """How many names of a legend fit side by side into so many inches."""
    longest = max(map(len, names), default=0)
    return max(1, min(MOST_IN_A_LINE, len(names), int(width / (KEY_WIDTH + LETTER_WIDTH * longest))))


def column_title(outline: Outline, dataset: str, encoder: str) -> str:
    """A dataset's name, with the encoder where the study has several for it."""
    several = sum(d == dataset for d, _ in outline.columns()) > 1
    title = outline.datasets[dataset].title
    return f"{title}, {encoder}" if several and encoder != NO_ENCODER else title
