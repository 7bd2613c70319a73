"""mlcl: benchmark and reproduction suite for multi-label contrastive learning.

    import mlcl
    result = mlcl.fit("digit_scenes", encoder="cnn", loss="reg", epochs=20)
    table = mlcl.compare("digit_scenes", losses=["bce", "reg"], seeds=[0, 1])
    results = mlcl.load_results("results/default")

Importing the package is light: torch, pandas and the like are imported by the module that needs them. `__init__.pyi`
shows the names below to editors and type checkers.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "Comparison": "mlcl.api.comparing",
    "Result": "mlcl.api.fitting",
    "compare": "mlcl.api.comparing",
    "fit": "mlcl.api.fitting",
    "load_model": "mlcl.model",
    "load_results": "mlcl.reporting.results",
    "open_dataset": "mlcl.data",
    "prepare": "mlcl.api.datasets",
}
"""name -> the module that defines it."""

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
