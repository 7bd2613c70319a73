"""The publication of a loss: `CITATION` in its file, fields of BibTeX, read without running the file."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from mlcl.losses._errors import LossError
from mlcl.losses._registry import FOLDER, describe

FIELDS: dict[str, type] = {
    "author": str, "title": str, "year": int, "journal": str, "booktitle": str, "volume": str, "howpublished": str,
    "eprint": str, "url": str, "note": str,
}  # fmt: skip
REQUIRED = ("title", "year")


def citation(name: str, file: str | Path | None = None) -> dict[str, Any] | None:
    """The publication of a loss as fields of BibTeX; None where its file has no `CITATION`.

    Raises LossError with file and line for a `CITATION` that is no literal, has an unknown field, or lacks title or
    year.
    """
    describe(name, file)
    path = FOLDER / f"{name}.py" if file is None else Path(file)
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and _names(statement) == ["CITATION"]:
            return _checked(f"{path}:{statement.lineno}", statement.value)
    return None


def _names(statement: ast.Assign) -> list[str]:
    return [target.id for target in statement.targets if isinstance(target, ast.Name)]


def _checked(where: str, node: ast.expr) -> dict[str, Any]:
    try:
        found = ast.literal_eval(node)
    except ValueError as error:
        raise LossError(f"{where}: CITATION must be a plain literal, since it is read unrun") from error
    if not isinstance(found, dict) or not all(
        isinstance(found.get(key), FIELDS.get(key, ())) for key in found
    ):
        allowed = ", ".join(f"{key} ({kind.__name__})" for key, kind in FIELDS.items())
        raise LossError(f"{where}: CITATION must be a dict with these fields of BibTeX: {allowed}")
    if missing := [key for key in REQUIRED if not found.get(key)]:
        raise LossError(f"{where}: CITATION lacks {' and '.join(missing)}")
    return found
