"""One style for all figures: widths, fonts, and a colour, marker, line and hatch for each loss.

The colours are those of Okabe and Ito, which the colour-blind can tell apart; markers, lines and hatches do the
same in grey. A loss looks the same in every figure of a study.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from mlcl.records.files import atomic_file
from mlcl.records.outline import Outline

ONE_COLUMN = 3.35
TWO_COLUMNS = 6.9
"""Widths in inches, as papers with two columns have them."""

INK = "#222222"
FAINT = "#767676"
GRID = "#dddddd"
PNG_DPI = 200

_COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#8C6D00",
    "#5B3FA6",
    "#882255",
    "#44AA99",
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "h", "p")
_LINES: tuple[str | tuple[int, tuple[int, ...]], ...] = (
    "-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 2, 2, 2)), (0, (9, 2)),
    (0, (4, 2, 1, 2, 1, 2)),
)  # fmt: skip
_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "ooo", "---", "+++", "**", "//")

PARAMETERS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "hatch.linewidth": 0.5,
    "pdf.fonttype": 42,
    "svg.hashsalt": "mlcl",
}


@dataclass(frozen=True)
class Look:
    """How a loss is drawn."""

    colour: str
    marker: str
    line: str | tuple[int, tuple[int, ...]]
    hatch: str


def looks(outline: Outline) -> dict[str, Look]:
    """A look for each loss and baseline of the study; baselines are grey."""
    found = {name: look(i) for i, name in enumerate(outline.losses)}
    greys = ("#666666", "#8a8a8a", "#a8a8a8")
    for i, name in enumerate(outline.baselines):
        found[name] = Look(greys[i % 3], ("|", "x", "+")[i % 3], _LINES[3], _HATCHES[(i + 1) % len(_HATCHES)])
    return found


def look(i: int) -> Look:
    """The i-th look; with more losses than colours, line and marker go on in another rhythm."""
    n = len(_COLOURS)
    shift = i // n
    return Look(
        _COLOURS[i % n], _MARKERS[(i + shift) % n], _LINES[(i + shift) % n], _HATCHES[(i + shift) % n]
    )


def new_canvas(width: float, height: float) -> Canvas:
    """An empty figure in the style. Made without pyplot: there is no global state and no display."""
    with mpl.rc_context(PARAMETERS):
        return Canvas(figsize=(width, height), layout="constrained")


def save(canvas: Canvas, stem: Path) -> None:
    """`stem`.pdf and `stem`.png: the same picture gives the same bytes, since no time of day is kept."""
    save_png(canvas, stem.with_name(f"{stem.name}.png"))
    with mpl.rc_context(PARAMETERS):
        # The layout is worked out once for both files: it takes as long as drawing.
        canvas.set_layout_engine("none")
        with atomic_file(stem.with_name(f"{stem.name}.pdf")) as aside:
            canvas.savefig(
                aside, metadata={"CreationDate": None, "ModDate": None, "Producer": None, "Creator": None}
            )


def save_png(canvas: Canvas, file: Path) -> None:
    with mpl.rc_context(PARAMETERS), atomic_file(file) as aside:
        canvas.savefig(aside, dpi=PNG_DPI, metadata={"Software": None})


def in_use() -> AbstractContextManager[None]:
    """Axes and artists take the style when they are made: draw inside `with style.in_use():`."""
    return mpl.rc_context(PARAMETERS)
