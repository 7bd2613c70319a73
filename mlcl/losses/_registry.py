"""Which losses there are, their settings, and how one is built from its name. Never imports torch by itself.

One file defines one loss and its stem is the loss's name; files with a leading underscore are shared code.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcl.losses._declarations import LossInfo, check_sizes, checked_value, read_declarations
from mlcl.losses._errors import LossError
from mlcl.suggest import closest

if TYPE_CHECKING:
    import torch

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Sorted names of the built-in losses."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def _is_built_in(name: str) -> bool:
    """As `name in names()`, without listing the folder: planning asks for each cell."""
    return re.fullmatch(r"[A-Za-z0-9]\w*", name) is not None and (FOLDER / f"{name}.py").is_file()


def class_names() -> dict[str, str]:
    """Class of a built-in loss -> its name."""
    return {describe(name).class_name: name for name in names()}


def describe(name: str, file: str | Path | None = None) -> LossInfo:
    """What the loss declares about itself; `file` for a loss kept outside this package.

    Raises LossError for an unknown name, a clash of names, or a file that does not follow the rules.
    """
    path = _locate(name, file)
    return read_declarations(name, path, path.stat().st_mtime_ns)


def validate(name: str, settings: Mapping[str, Any], file: str | Path | None = None) -> dict[str, Any]:
    """The loss's full hyperparameters: `settings` checked, defaults filled in.

    Raises LossError for an unknown key (with the closest names), a wrong type, or a value out of range.
    """
    info = describe(name, file)
    for key in settings:
        if key not in info.hyperparameters:
            raise LossError(
                f"loss {name!r} has no hyperparameter {key!r}: {closest(key, info.hyperparameters)}"
            )
    full = dict(info.hyperparameters)
    for key, value in settings.items():
        if key in info.parts:
            full[key] = _checked_part(name, key, value, info.parts[key])
        else:
            full[key] = checked_value(
                f"{name}.{key}", key, value, info.hyperparameters[key], info.allowed.get(key)
            )
    return full


def create(
    name: str,
    num_labels: int | None = None,
    embedding_dim: int | None = None,
    *,
    file: str | Path | None = None,
    generator: torch.Generator | None = None,
    **hyperparameters: Any,
) -> torch.nn.Module:
    """Build the loss `name` as an `nn.Module` with the attribute `num_labels`.

    `embedding_dim` is needed by losses with prototypes, which are drawn from `generator` where it is given.
    Raises LossError for whatever is wrong with the name, the file or the hyperparameters.
    """
    info = describe(name, file)
    settings = validate(name, hyperparameters, file)
    check_sizes(f"loss {name!r}", num_labels, embedding_dim)
    if embedding_dim is None and _needs_width(info, settings):
        raise LossError(
            f"loss {name!r} has parameters of its own: give embedding_dim, the width of its input"
        )
    loss_class = getattr(_module(name, file), info.class_name)
    loss: torch.nn.Module = loss_class(
        num_labels=num_labels, embedding_dim=embedding_dim, generator=generator, **settings
    )
    if not hasattr(loss, "num_labels"):
        loss.num_labels = num_labels  # type: ignore[assignment]
    return loss


def _needs_width(info: LossInfo, settings: Mapping[str, Any]) -> bool:
    """Whether the loss's parameters (prototypes, heads) depend on the width of what it is called with."""
    parts = [describe(_part(settings[key])[0]) for key in info.parts]
    return info.inputs == "features" or any(i.prototypes for i in [info, *parts])


def _locate(name: str, file: str | Path | None) -> Path:
    if file is None:
        if not _is_built_in(name):
            raise LossError(f"unknown loss {name!r}: {closest(name, names())}")
        return FOLDER / f"{name}.py"
    path = Path(file)
    if _is_built_in(name) and path.resolve() != (FOLDER / f"{name}.py").resolve():
        raise LossError(f"{path}: the name {name!r} belongs to a built-in loss; rename your file")
    if not path.is_file():
        raise LossError(f"{path}: no such file, given for the loss {name!r}")
    if path.stem != name:
        raise LossError(f"{path}: a loss is named after its file: call it {path.stem!r}, not {name!r}")
    return path


def _module(name: str, file: str | Path | None) -> Any:
    if file is None:
        return importlib.import_module(f"mlcl.losses.{name}")
    path = Path(file).resolve()
    spec = importlib.util.spec_from_file_location(f"mlcl_external_loss_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # so that the classes can be pickled
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise LossError(f"{path}: the file of loss {name!r} fails when run: {error!r}") from error
    return module


def _checked_part(name: str, key: str, value: Any, inputs: str) -> Any:
    """A part is the name of another loss, or a mapping {name: ..., its hyperparameters}."""
    if not isinstance(value, str) and not (isinstance(value, Mapping) and isinstance(value.get("name"), str)):
        raise LossError(f"{name}.{key} must be a loss's name or a mapping with the key 'name', got {value!r}")
    part, settings = _part(value)
    if _is_built_in(part) and describe(part).inputs != inputs:
        fitting = ", ".join(n for n in names() if describe(n).inputs == inputs)
        raise LossError(f"{name}.{key} must be a loss on {inputs}: {fitting}; got {part!r}")
    return {"name": part, **validate(part, settings)}


def _part(value: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(value, str):
        return value, {}
    return value["name"], {k: v for k, v in value.items() if k != "name"}
