"""A figure with what a reader needs beside the picture."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure as Canvas


@dataclass(frozen=True)
class Figure:
    """`name` is the stem of its files. `alt` says in words what is to be seen. `dataset`: if it shows only one."""

    name: str
    title: str
    caption: str
    alt: str
    canvas: Canvas
    dataset: str | None = None
