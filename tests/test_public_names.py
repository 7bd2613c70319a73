"""Tests use the public names of the code, so that what is private can be renamed without touching them.

One exception: modules `mlcl.losses._*`, the kernel that all losses share, may be imported, since each of its forms is
tested against the others and the package gives out losses only. Their private names may not be used either.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("mlcl", "data_prep", "benchmarks")
SHARED_KERNEL = "mlcl.losses._"
BY_NAME = {"setattr", "getattr", "delattr", "hasattr"}
"""Functions that take an attribute's name, also as methods of pytest's monkeypatch."""


def is_private(name: str) -> bool:
    """Names that end with an underscore, too, are of a protocol: `__len__`, or IPython's `_repr_html_`."""
    return name.startswith("_") and not name.endswith("_")


@cache
def private_names() -> frozenset[str]:
    """Private functions, classes, variables and attributes that the code defines."""
    names = set()
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                match node:
                    case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                        names.add(name)
                    case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                        names.add(name)
    return frozenset(filter(is_private, names))


def uses_of_private_names(tree: ast.AST, private: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Line and name of each use."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=aliases) if module.split(".")[0] in PACKAGES:
                for full in (f"{module}.{alias.name}" for alias in aliases):
                    inside = full.removeprefix(SHARED_KERNEL) if full.startswith(SHARED_KERNEL) else full
                    if any(map(is_private, inside.split("."))):
                        yield node.lineno, full
            case ast.Import(names=aliases):
                for full in (alias.name for alias in aliases if alias.name.split(".")[0] in PACKAGES):
                    if not full.startswith(SHARED_KERNEL) and any(map(is_private, full.split("."))):
                        yield node.lineno, full
            case ast.Attribute(value=value, attr=name) if name in private:
                if not (isinstance(value, ast.Name) and value.id in ("self", "cls")):
                    yield node.lineno, ast.unparse(node)
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=arguments) if (
                called in BY_NAME
            ):
                texts = [each.value for each in arguments[:2] if isinstance(each, ast.Constant)]
                for text in filter(lambda text: isinstance(text, str), texts):
                    if text.rsplit(".", 1)[-1] in private:
                        yield node.lineno, text


@pytest.mark.parametrize("file", sorted((ROOT / "tests").rglob("*.py")), ids=lambda file: file.stem)
def test_tests_use_public_names_only(file: Path) -> None:
    assert list(uses_of_private_names(ast.parse(file.read_text()), private_names())) == []


@pytest.mark.parametrize(
    "code",
    [
        "from mlcl.evaluation.linear import _train",
        "from data_prep.sources import _own",
        "from data_prep.sources._own import anything",
        "import data_prep.sources._own",
        "from mlcl.losses._fused import _padded",
        "linear._train(1)",
        "model.part._train",
        "monkeypatch.setattr(linear, '_train', None)",
        "monkeypatch.setattr('mlcl.evaluation.linear._train', None)",
        "getattr(linear, '_train')",
    ],
)
def test_each_way_to_a_private_name_is_found(code: str) -> None:
    assert len(list(uses_of_private_names(ast.parse(code), frozenset({"_train"})))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "from mlcl.losses import _fused",
        "from mlcl.losses._fused import blocks_for",
        "import mlcl.losses._fused",
        "from shutil import _ntuple_diskusage",
        "self._train = 1",
        "rows._replace(ids=1)",
        "text.replace('mlcl.losses._kernel', 'x')",
    ],
)
def test_public_names_and_those_of_others_are_left_alone(code: str) -> None:
    assert list(uses_of_private_names(ast.parse(code), frozenset({"_train"}))) == []


def test_the_code_has_private_names() -> None:
    assert len(private_names()) > 200
