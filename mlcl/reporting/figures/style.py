"""One style for all figures: widths, fonts, and a colour, marker, line and hatch for each loss.

The colours are those of Okabe and Ito, which the colour-blind can tell apart; markers, lines and hatches do the
same in grey. A loss looks the same in every figure of a study.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.font_manager import FontProperties, findfont, get_font, get_font_names

from mlcl.records.files import atomic_file
from mlcl.records.outline import Outline
from mlcl.reporting.metric_info import MetricInfo
from mlcl.reporting.visible import visible

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

_OTHER_SCRIPTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "WenQuanYi Zen Hei", "IPAGothic",
    "Droid Sans Fallback", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "PingFang SC", "Hiragino Sans",
    "Arial Unicode MS", "Noto Sans Devanagari", "Noto Sans Thai",
)  # fmt: skip
"""Fonts for what DejaVu Sans, which comes with matplotlib, lacks: those that are installed are used."""
FONTS = ["DejaVu Sans", *sorted(set(_OTHER_SCRIPTS) & set(get_font_names()), key=_OTHER_SCRIPTS.index)]

PARAMETERS: dict[Any, Any] = {
    "font.family": FONTS,
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
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Figure:
    """`name` is the stem of its files. `alt` says in words what is to be seen. `dataset`: if it shows only one."""

    name: str
    title: str
    caption: str
    alt: str
    canvas: Canvas
    dataset: str | None = None


@dataclass(frozen=True)
class Look:
    """How a loss is drawn."""

    colour: str
    marker: str
    line: str | tuple[int, tuple[int, ...]]
    hatch: str


def looks(outline: Outline) -> dict[str, Look]:
    """A look for each loss and baseline of the study; baselines are grey."""
    result = {name: look(i) for i, name in enumerate(outline.losses)}
    greys = ("#666666", "#8a8a8a", "#a8a8a8")
    for i, name in enumerate(outline.baselines):
        result[name] = Look(
            greys[i % 3], ("|", "x", "+")[i % 3], _LINES[3], _HATCHES[(i + 1) % len(_HATCHES)]
        )
    return result


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


def png(canvas: Canvas) -> bytes:
    """The picture as PNG, for a page that holds its pictures."""
    buffer = io.BytesIO()
    with mpl.rc_context(PARAMETERS):
        canvas.savefig(buffer, format="png", dpi=PNG_DPI, metadata={"Software": None})
    return buffer.getvalue()


def axis_label(metric: MetricInfo) -> str:
    """A metric beside a small panel: what stands in brackets on a line of its own."""
    return metric.title.replace(" (", "\n(") + (" in %" if metric.is_percentage else "")


def drawable(text: str) -> str:
    """The text with characters that no installed font has shown by their numbers, such as [U+4E2D]."""
    glyphs = _glyphs()
    return "".join(c if ord(c) in glyphs else f"[U+{ord(c):04X}]" for c in visible(text))


@cache
def _glyphs() -> frozenset[int]:
    fonts = (get_font(findfont(FontProperties(family=[family]))) for family in FONTS)
    return frozenset().union(*(font.get_charmap() for font in fonts))


def use_log_scale(ax: Axes, which: Literal["x", "y"]) -> None:
    """A logarithmic axis with plain numbers at 1, 2 and 5 of each decade.

    matplotlib's own labels are mathematics, which is not parsed here, since names of labels may hold a `$`.
    """
    ax.set(**{f"{which}scale": "log"})
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")


def shorten(name: str, longest: int = 24) -> str:
    """A name that fits beside an axis; a cut one ends in an ellipsis."""
    name = drawable(name)
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def in_use() -> AbstractContextManager[None]:
    """Axes and artists take the style when they are made: draw inside `with style.in_use():`."""
    return mpl.rc_context(PARAMETERS)


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
    width = ONE_COLUMN if across == 1 else TWO_COLUMNS
    legend = 0.15 + 0.16 * ceil(len(names) / names_in_a_line(names, width))
    canvas = new_canvas(width, legend + (height + 0.4 if across == 1 else height) * down)
    axes = canvas.subplots(down, across, squeeze=False).ravel().tolist()
    for ax in axes[len(titles) :]:
        ax.remove()
    for ax, title in zip(axes, titles, strict=False):
        ax.set_title(title)
    return canvas, axes[: len(titles)]


def shared_legend(canvas: Canvas, axes: Sequence[Axes]) -> None:
    """Each name once, in the order in which the panels first show it."""
    handles: dict[str, Artist] = {}
    for ax in axes:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    if handles:
        columns = names_in_a_line(list(handles), canvas.get_figwidth())
        canvas.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns)


def names_in_a_line(names: Sequence[str], width: float) -> int:
    """How many names of a legend fit side by side into so many inches."""
    longest = max(map(len, names), default=0)
    return max(1, min(MOST_IN_A_LINE, len(names), int(width / (KEY_WIDTH + LETTER_WIDTH * longest))))


def column_title(outline: Outline, dataset: str, encoder: str) -> str:
    """As the outline's, without characters that cannot be drawn."""
    return drawable(outline.column_title(dataset, encoder))
