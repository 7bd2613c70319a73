"""Documented objects of installed packages, read from their source files without importing them."""

from __future__ import annotations

import ast
import gc
import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

SKIPPED_FOLDERS = {
    "tests",
    "testing",
    "externals",
    "_vendor",
    "_vendored",
    "extern",
    "array_api_compat",
    "array_api_extra",
}

Documentable = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
# Without meaning for what a piece of code does, and most of what a tree holds.
SKIPPED_TYPES = {ast.Load, ast.Store, ast.Del, ast.Name, ast.Constant, ast.alias}


@dataclass(frozen=True)
class Documented:
    """A class or function with its docstring.

    Attributes:
        file: `package/sub/module.py`.
        name: qualified name within the module, such as `Rotation.from_quat`.
        doc: the docstring, indentation removed.
        node: its syntax tree.
        in_class: whether it is a member of a class.
        constructs: the types of syntax that occur in it.
    """

    file: str
    name: str
    doc: str
    node: Documentable
    in_class: bool
    constructs: frozenset[type[ast.AST]]


def package_files(package: str) -> list[tuple[str, Path]]:
    """The package's Python files as (`package/sub/module.py`, path), sorted; tests and vendored code left out."""
    spec = find_spec(package)  # of a top-level name: finds the folder, imports nothing
    if spec is None or not spec.submodule_search_locations:
        return []
    root = Path(next(iter(spec.submodule_search_locations)))
    named = ((path.relative_to(root.parent).as_posix(), path) for path in root.rglob("*.py"))
    return sorted((name, path) for name, path in named if not SKIPPED_FOLDERS & set(Path(name).parts))


def documented(name: str, path: Path) -> list[Documented]:
    """Everything documented in one file, in order; nothing where the file is not valid Python."""
    code = path.read_bytes()
    if b'"""' not in code and b"'''" not in code:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            tree = ast.parse(code)
            return list(_members(tree, name, "", False, {}))
    except (SyntaxError, ValueError):
        return []


_Known = dict[int, set[type[ast.AST]]]


def _members(parent: ast.AST, file: str, prefix: str, in_class: bool, known: _Known) -> Iterator[Documented]:
    for node in ast.iter_child_nodes(parent):
        if not isinstance(node, Documentable):
            continue
        name = f"{prefix}{node.name}"
        raw = ast.get_docstring(node, clean=False)
        if raw:
            constructs = frozenset(_constructs(node, known))
            yield Documented(file, name, inspect.cleandoc(raw), node, in_class, constructs)
        if isinstance(node, ast.ClassDef):
            yield from _members(node, file, f"{name}.", True, known)


def _constructs(node: ast.AST, known: _Known) -> set[type[ast.AST]]:
    """The types of all nodes below; what was found for a function is remembered for the class around it."""
    if id(node) in known:
        return known[id(node)]
    found: set[type[ast.AST]] = set()
    for field in node._fields:
        value = getattr(node, field, None)
        for child in value if isinstance(value, list) else (value,):
            if isinstance(child, ast.AST) and type(child) not in SKIPPED_TYPES:
                found.add(type(child))
                found |= _constructs(child, known)
    if isinstance(node, Documentable):
        known[id(node)] = found
    return found


@contextmanager
def collector_paused() -> Iterator[None]:
    """No search for garbage: syntax trees are large and hold no cycles, it would cost a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
