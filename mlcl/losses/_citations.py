"""The publication of a loss: `CITATION` in its file, read without running the file."""

from __future__ import annotations

import ast
from pathlib import Path

from mlcl.losses._errors import LossError
from mlcl.losses._registry import FOLDER, describe


def citation(name: str, file: str | Path | None = None) -> str | None:
    """A key of `mlcl/study/references.bib`, or a BibTeX entry of the file's own; None where it has no `CITATION`.

    Raises LossError with file and line for a `CITATION` that is no text.
    """
    describe(name, file)
    path = FOLDER / f"{name}.py" if file is None else Path(file)
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and _names(statement) == ["CITATION"]:
            match statement.value:
                case ast.Constant(value=str(text)):
                    return text
            raise LossError(
                f"{path}:{statement.lineno}: CITATION must be a BibTeX entry in quotes, since it is read unrun"
            )
    return None


def _names(statement: ast.Assign) -> list[str]:
    return [target.id for target in statement.targets if isinstance(target, ast.Name)]
