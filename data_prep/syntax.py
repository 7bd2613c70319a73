"""What a piece of source code does, as a hash: comments, docstrings and layout play no part."""

import ast
import hashlib
import json
from typing import Any


def digest(tree: ast.Module) -> str:
    """The sha256 (hex) of a syntax tree, the same for all versions of Python; the tree loses its docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [child for child in node.body if not _is_text(child)]
    return hashlib.sha256(json.dumps(_canonical(tree)).encode()).hexdigest()


def _is_text(node: ast.stmt) -> bool:
    """A docstring, or a string below an attribute that documents it."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _canonical(node: Any) -> Any:
    """A syntax tree as nested lists.

    `ast.dump` is not the same for all versions: later ones know fields that earlier ones do not, and leave out
    empty ones.
    """
    if isinstance(node, list):
        return [_canonical(item) for item in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [
        [name, _canonical(value)]
        for name, value in ast.iter_fields(node)
        if value is not None and value != [] and not isinstance(value, ast.expr_context)
    ]
    return [type(node).__name__, *fields]
