"""What a prepared dataset depends on, as one hash.

Settings, the code that makes the content (comments, docstrings and the `ABOUT` text stripped), the versions of
the packages that are themselves the raw material, and the content of the raw files. The place of the data
root, file times and the order of settings play no part.
"""

import ast
import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from data_prep import syntax

PACKAGE = Path(__file__).parent
# Only these make content; planning, downloading and command line do not.
CONTENT = ("sources", "readers", "writer", "format")


def fingerprint(
    stem: str, settings: Mapping[str, Any], versions: Mapping[str, str], raw: Mapping[str, str]
) -> str:
    """The sha256 (hex) of a dataset made by source module `stem`."""
    parts = {
        "source": stem,
        "settings": settings,
        "code": {module: code_digest(module) for module in content_modules(stem)},
        "versions": versions,
        "raw": raw,
    }
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def content_modules(stem: str) -> list[str]:
    """The modules of this package that the source's content passes through, found by following imports."""
    found: set[str] = set()
    todo = [f"sources.{stem}", "writer", "format"]
    while todo:
        module = todo.pop()
        if module in found:
            continue
        found.add(module)
        todo.extend(_own_imports(module))
    return sorted(found)


@cache
def code_digest(module: str) -> str:
    """The hash of a module's syntax tree: comments, docstrings, layout and `ABOUT` take no part."""
    tree = _parse(module)
    tree.body = [node for node in tree.body if not _is_about(node)]
    return syntax.digest(tree)


@cache
def _own_imports(module: str) -> tuple[str, ...]:
    nodes = [node for node in ast.walk(_parse(module)) if isinstance(node, ast.Import | ast.ImportFrom)]
    return tuple(sorted(name for node in nodes for name in _imported(node) if _makes_content(name)))


def _imported(node: ast.Import | ast.ImportFrom) -> Iterable[str]:
    if isinstance(node, ast.Import):
        candidates = [alias.name for alias in node.names]
    else:
        candidates = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    for name in candidates:
        if name.startswith("data_prep."):
            yield name.removeprefix("data_prep.")


def _makes_content(module: str) -> bool:
    return module.split(".")[0] in CONTENT and _file(module).is_file()


def _file(module: str) -> Path:
    return PACKAGE.joinpath(*module.split(".")).with_suffix(".py")


def _parse(module: str) -> ast.Module:
    return ast.parse(_file(module).read_text(encoding="utf-8"))


def _is_about(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["ABOUT"]
