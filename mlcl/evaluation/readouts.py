"""Readouts: the ways in which scores are made of a trained encoder. Names and their order; no torch.

`head`    the linear head that was trained together with the encoder, where the loss trains one
`linear`  linear heads trained on the frozen features (`mlcl.evaluation.linear`)
`knn`     nearest neighbours of the frozen features (`mlcl.evaluation.knn`)

Results of different readouts are not comparable, so every table, figure and claim is about one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

Readout = Literal["head", "linear", "knn"]
READOUTS: tuple[Readout, ...] = get_args(Readout)
NO_READOUT = "none"
"""Of what no encoder has a part in: scores of baselines without one, and metrics of the features themselves."""
OWN = "own"
"""Each loss by its own readout, as papers compare them: its head where it has one, otherwise linear heads, or kNN."""
COMPARABLE: tuple[Readout, ...] = ("linear", "knn", "head")
"""In this order one is chosen that all losses have."""


def preference(readout: str) -> tuple[str, ...]:
    """The readouts of which the first that a cell has is meant. What has no readout stands beside every one."""
    return (*READOUTS, NO_READOUT) if readout == OWN else (readout, NO_READOUT)


def common(cells: Iterable[Sequence[str]], fallback: Sequence[str]) -> str:
    """The readout by which all cells can be compared, given the readouts of each; without cells, of `fallback`.

    `linear` before `knn` before `head`; `own` where there is none that all cells have.
    """
    each = [set(readouts) for readouts in cells]
    shared = set.intersection(*each) if each else set(fallback)
    return next((readout for readout in COMPARABLE if readout in shared), OWN)


def in_words(readout: str) -> str:
    """For captions and messages."""
    return {
        "head": "the head trained with the encoder",
        "linear": "linear heads on frozen features",
        "knn": "nearest neighbours of frozen features",
        OWN: "each loss by its own readout: its head where it has one, otherwise a probe of frozen features",
        NO_READOUT: "no readout",
    }[readout]
