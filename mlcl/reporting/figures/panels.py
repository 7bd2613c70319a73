"""Small multiples: one panel for each dataset and encoder, one legend for all."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from mlcl.reporting.figures import style
from mlcl.reporting.outline import NO_ENCODER, Outline

ACROSS = 3
IN_A_LINE = 6
"""Names of a legend below two columns; below one it is half of them."""


def small_multiples(titles: Sequence[str], names: int, height: float = 1.7) -> tuple[Canvas, list[Axes]]:
    """A canvas with a titled panel for each title, and room for a legend of so many names.

    One column wide if there is one panel, two if there are more.
    """
    across = min(ACROSS, len(titles))
    down = ceil(len(titles) / across)
    width = style.ONE_COLUMN if across == 1 else style.TWO_COLUMNS
    legend = 0.15 + 0.16 * ceil(names / (IN_A_LINE // 2 if across == 1 else IN_A_LINE))
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
    columns = IN_A_LINE // 2 if len(axes) == 1 else IN_A_LINE
    if found:
        canvas.legend(
            list(found.values()), list(found), loc="outside lower center", ncols=min(columns, len(found))
        )


def column_title(outline: Outline, dataset: str, encoder: str) -> str:
    """A dataset's name, with the encoder where the study has several for it."""
    several = sum(d == dataset for d, _ in outline.columns()) > 1
    title = outline.datasets[dataset].title
    return f"{title}, {encoder}" if several and encoder != NO_ENCODER else title
