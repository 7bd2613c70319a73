"""Writes mlcl/losses/__init__.pyi: the classes of the built-in losses, as editors and type checkers see them.

python docs/make_loss_stubs.py            (needs the package)
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

from mlcl import losses

STUB = Path(__file__).parents[1] / "mlcl/losses/__init__.pyi"

HEAD = """# Made by `python docs/make_loss_stubs.py`; do not edit.
from torch import Generator

from mlcl.losses._base import ClassificationLoss as ClassificationLoss
from mlcl.losses._base import Loss as _Loss
from mlcl.losses._base import across_processes as across_processes
from mlcl.losses._base import learn_from_training as learn_from_training
from mlcl.losses._citations import citation as citation
from mlcl.losses._declarations import LossInfo as LossInfo
from mlcl.losses._errors import LossError as LossError
from mlcl.losses._errors import LossInputError as LossInputError
from mlcl.losses._pairs import Pairs as Pairs
from mlcl.losses._registry import create as create
from mlcl.losses._registry import describe as describe
from mlcl.losses._registry import names as names
from mlcl.losses._registry import validate as validate
from mlcl.losses._weighting import LabelWeighting as LabelWeighting
from mlcl.losses._weighting import PairWeighting as PairWeighting
from mlcl.losses.kmcl import kmcl_terms as kmcl_terms
"""


def stub() -> str:
    """The text of the stub, bases before what derives from them."""
    classes = []
    for name in losses.names():
        info = losses.describe(name)
        classes.append((getattr(importlib.import_module(f"mlcl.losses.{name}"), info.class_name), info))
    classes.sort(key=lambda pair: (len(pair[0].__mro__), pair[0].__name__))
    return HEAD + "".join("\n" + _class(cls, info) for cls, info in classes)


def _class(cls: type, info: losses.LossInfo) -> str:
    base = cls.__bases__[0].__name__
    needs_width = info.prototypes or info.inputs == "features"
    width = "embedding_dim: int" if needs_width else "embedding_dim: int | None = None"
    lines = [f"class {cls.__name__}({'_Loss' if base == 'Loss' else base}):"]
    lines += [f'    """{info.summary}', "", f"    {info.equation}", "", f"    {info.paper}", '    """', ""]
    parameters = ["num_labels: int", width, "*"]
    for name, default in info.hyperparameters.items():
        lines.append(f"    {name}: {type(default).__name__}")
        parameters.append(f"{name}: {type(default).__name__} = {default!r}".replace("'", '"'))
    parameters.append("generator: Generator | None = None")
    lines.append("    def __init__(")
    lines += [f"        {part}," for part in ("self", *parameters)]
    lines.append("    ) -> None: ...")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    assert all(inspect.isclass(getattr(losses, losses.describe(n).class_name)) for n in losses.names())
    STUB.write_text(stub(), encoding="utf-8")
