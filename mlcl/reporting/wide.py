"""The short form of `metrics.csv` and `costs.csv` in kept results: a column for each metric or cost.

The long form names the cell in every row, which is most of its size.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd

DIGITS = 6
"""Decimals of a fraction, significant digits of a number above 1: tables print three or four."""


def widen(frame: pd.DataFrame, file: Path) -> None:
    """Writes a frame of the long form, whose last two columns are the name and the value; rows stay in their order."""
    *keys, name, _ = frame.columns
    names = list(dict.fromkeys(frame[name]))
    rows: dict[tuple[object, ...], dict[str, str]] = {}
    for *key, column, value in zip(*(frame[c].tolist() for c in frame.columns), strict=True):
        rows.setdefault(tuple(key), {})[column] = shortened(value)
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow([*keys, *names])
        writer.writerows(
            [*key, *(values.get(column, "") for column in names)] for key, values in rows.items()
        )


def narrow(frame: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    """The long form, with these columns, of a frame of texts as `widen` wrote it; empty texts are no values.

    A frame that is not of that form is given back as it is."""
    *keys, name, value = columns
    names = list(frame.columns[len(keys) :])
    if list(frame.columns[: len(keys)]) != keys or {name, value} & set(names):
        return frame
    texts = frame[names].to_numpy(dtype=object)
    rows, places = np.nonzero(texts != "")
    long = frame[keys].iloc[rows].reset_index(drop=True)
    long[name] = np.array(names, dtype=object)[places]
    long[value] = texts[rows, places]
    return long


def shortened(value: float) -> str:
    """Without digits that no table prints."""
    return f"{value:.{DIGITS}g}" if abs(value) >= 1 else f"{round(value, DIGITS)!r}"
