"""Losses for multi-label learning: every published contrastive loss on one kernel, and the usual baselines.

    from mlcl import losses
    loss = losses.create("reg", num_labels=54, embedding_dim=256, temperature=0.1)
    loss = losses.Reg(54, 256, temperature=0.1)                                       # the same
    value = loss(embeddings, labels)

One file defines one loss (`docs/add_a_loss.md`). Listing, describing and validating never import torch; the
classes are imported when they are first asked for. `__init__.pyi` shows them to editors and type checkers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mlcl.losses._citations import citation
from mlcl.losses._classes import load as _load
from mlcl.losses._classes import refuse_import as _refuse_import
from mlcl.losses._declarations import LossInfo
from mlcl.losses._errors import LossError, LossInputError
from mlcl.losses._registry import class_names, create, describe, names, validate

if TYPE_CHECKING:  # also how a cell's code is followed through this module (`data_prep.definitions`)
    from mlcl.losses._base import ClassificationLoss as ClassificationLoss
    from mlcl.losses._base import across_processes as across_processes
    from mlcl.losses._base import learn_from_training as learn_from_training
    from mlcl.losses._pairs import Pairs as Pairs
    from mlcl.losses._weighting import LabelWeighting as LabelWeighting
    from mlcl.losses._weighting import PairWeighting as PairWeighting
    from mlcl.losses.kmcl import kmcl_terms as kmcl_terms

_LAZY = {
    "ClassificationLoss": "_base",
    "LabelWeighting": "_weighting",
    "PairWeighting": "_weighting",
    "Pairs": "_pairs",
    "across_processes": "_base",
    "learn_from_training": "_base",
    "kmcl_terms": "kmcl",
}

__all__ = [
    "names",
    "describe",
    "validate",
    "create",
    "citation",
    "LossInfo",
    "LossError",
    "LossInputError",
    *_LAZY,
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"mlcl.losses.{_LAZY[name]}"), name)
    if name[:1].isupper():
        if (found := _load(name)) is not None:
            return found
        _refuse_import(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *class_names()})
