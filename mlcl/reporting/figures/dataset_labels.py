"""Label frequencies: the share of each split's examples that has each label, one figure for each dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from mlcl.reporting.figures import style
from mlcl.reporting.figures.style import Figure
from mlcl.reporting.results import Results

MOST_NAMES = 20
"""With more labels, the horizontal axis shows ranks in place of names."""
SPLITS = ("train", "val", "test")


def draw(results: Results) -> Iterator[Figure]:
    for dataset, card in results.cards.items():
        # The card names the data; the study may call it otherwise.
        yield label_frequencies(dataset, card | {"title": results.outline.datasets[dataset].title})


def label_frequencies(dataset: str, card: Mapping[str, Any]) -> Figure:
    """The figure of one dataset, from its card: labels in the order of their frequency in training."""
    names: list[str] = card["labels"]
    shares = {split: _shares(card["splits"][split], names) for split in SPLITS if split in card["splits"]}
    order = np.argsort(-shares["train"], kind="stable")
    few = len(names) <= MOST_NAMES
    canvas = style.new_canvas(style.ONE_COLUMN, 0.9 + 0.16 * len(names) if few else 2.2)
    with style.in_use():
        ax = canvas.subplots()
        if few:
            _named(ax, [names[i] for i in order], {split: share[order] for split, share in shares.items()})
        else:
            _ranked(ax, {split: share[order] for split, share in shares.items()})
        _legend(canvas, ax, list(shares))
    train = card["splits"]["train"]
    most, least = names[order[0]], names[order[-1]]
    return Figure(
        name=f"labels-{dataset}",
        title=f"Label frequencies of {card['title']}",
        caption=(
            f"{card['title']}: share of the examples of each split that have a label; {len(names)} labels, "
            f"{train['cardinality']:.2f} for each training example on average, ordered by training frequency."
        ),
        alt=(
            f"Share of examples with each of {len(names)} labels. The most frequent in training is {most} "
            f"({100 * shares['train'][order[0]]:.1f} %), the rarest {least} ({100 * shares['train'][order[-1]]:.1f} %)."
        ),
        canvas=canvas,
        dataset=dataset,
    )


def _shares(split: Mapping[str, Any], names: list[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    counts = np.array([split["label_counts"][name] for name in names], dtype=float)
    return counts / max(split["examples"], 1)


def _named(ax: Axes, names: list[str], shares: dict[str, Any]) -> None:
    for i, (split, share) in enumerate(shares.items()):
        look = style.look(i)
        if split == "train":
            ax.barh(range(len(names)), 100 * share, height=0.7, color="#c9dceb", edgecolor=look.colour,
                    linewidth=0.6, label=split)  # fmt: skip
        else:
            ax.plot(
                100 * share, range(len(names)), look.marker, color=look.colour, label=split, markersize=3.5
            )
    ax.set_yticks(range(len(names)), [style.shorten(name) for name in names])
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("examples with the label in %")


def _ranked(ax: Axes, shares: dict[str, Any]) -> None:
    for i, (split, share) in enumerate(shares.items()):
        look = style.look(i)
        ranks = np.arange(1, len(share) + 1)
        visible = np.where(share > 0, 100 * share, np.nan)
        if split == "train":
            ax.plot(ranks, visible, color=look.colour, drawstyle="steps-mid", label=split, zorder=3)
        else:
            ax.plot(ranks, visible, look.marker, color=look.colour, label=split, markersize=2, alpha=0.6)
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("")
    ax.set_xlabel("label, by training frequency")
    ax.set_ylabel("examples with the label in %")


def _legend(canvas: Canvas, ax: Axes, splits: list[str]) -> None:
    """In the order of the splits: by itself a legend puts lines before bars."""
    handles = dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
    canvas.legend([handles[split] for split in splits], splits, loc="outside lower center", ncols=3)
