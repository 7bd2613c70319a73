"""The classes of the built-in losses by name: imported when they are asked for, with what `help` shows of them."""

from __future__ import annotations

import importlib
import inspect
import sys

from mlcl.losses._declarations import CALLED_WITH, LossInfo
from mlcl.losses._registry import class_names, describe
from mlcl.suggest import closest

SHAPES = {"embeddings": "(B, D)", "logits": "(B, L)", "features": "(B, M)", "labels": "(B, L) of 0 and 1"}


def load(name: str) -> type | None:
    """The class; None for a name that is no loss's class. Imports torch."""
    loss = class_names().get(name)
    if loss is None:
        return None
    module = importlib.import_module(f"mlcl.losses.{loss}")
    found: type = getattr(module, name)
    info, own = describe(loss), found.__doc__ or ""
    if not own.startswith(info.summary):
        found.__doc__ = documentation(
            info, f"{inspect.cleandoc(module.__doc__ or '')}\n\n{inspect.cleandoc(own)}"
        )
    return found


def refuse_import(name: str) -> None:
    """Raises ImportError with the names that are meant, where `from mlcl.losses import name` asks for the name.

    `hasattr` and `losses.name` are to get an AttributeError. An import would replace that by a text of its own, without
    these names.
    """
    asked_by = sys._getframe(2).f_globals.get("__name__")  # the function below is the package's __getattr__
    if asked_by == "importlib._bootstrap":
        raise ImportError(f"cannot import name {name!r} from 'mlcl.losses': {_meant(name)}")


def _meant(name: str) -> str:
    """The closest classes, whatever the case: Asl and asl for ASL, SupConAny for SupconAny."""
    by_letters = {_letters(known): known for known in class_names()}
    exact = by_letters.get(_letters(name))
    return f"did you mean {exact}?" if exact else closest(name, by_letters.values())


def _letters(name: str) -> str:
    return name.lower().replace("_", "")


def documentation(info: LossInfo, text: str) -> str:
    """The docstring of a loss's class: that of its file (summary, equation), its paper, settings and shapes."""
    given = ", ".join(f"{name} {SHAPES[name]}" for name in CALLED_WITH[info.inputs])
    if info.accepts_references:
        given += "; references=(embeddings (Q, D), labels (Q, L)) in the batch's stead"
    if info.elementwise:
        given += "; a label of -1 is unknown and left out"
    own_parameters = info.prototypes or info.inputs in ("features", "both")
    width = {
        "both": "D, the width of the embeddings; needed by parts with prototypes",
        "features": "M, the width of the features",
    }.get(info.inputs, "D, the width of the embeddings" if info.prototypes else "not needed")
    settings = [
        f"    {name}: {type(default).__name__} = {default!r}{_condition(info, name)}"
        for name, default in info.hyperparameters.items()
    ]
    return "\n".join([
        text.strip(),
        "",
        f"Paper: {info.paper}",
        "",
        "Built with:",
        "    num_labels: L",
        f"    embedding_dim: {width}",
        *settings,
        *(["    generator: draws prototypes and heads; None: torch's own"] if own_parameters else []),
        "",
        f"Called with {given}; returns a scalar.",
        f"By name: losses.create({info.name!r}, num_labels, embedding_dim, ...)",
    ])  # fmt: skip


def _condition(info: LossInfo, name: str) -> str:
    if name in info.parts:
        return f"  (a loss on {info.parts[name]}: its name, or {{name: ..., its hyperparameters}})"
    return f"  ({info.allowed[name]})" if name in info.allowed else ""
