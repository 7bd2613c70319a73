"""Imports go down the floors only (docs/architecture.md) and never in a circle; light modules stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MAY_IMPORT = {
    "mlcl.errors": set(),
    "mlcl.suggest": set(),
    "mlcl.offline": set(),
    "mlcl.cache": set(),
    "mlcl.machine": set(),
    "mlcl.doctor": {"mlcl.cache", "mlcl.machine", "mlcl.offline"},
    "mlcl.scaffold": {"mlcl.errors"},
    "mlcl.digests": {"mlcl.cache"},
    "mlcl.published": {"mlcl.cache", "mlcl.digests", "mlcl.offline", "mlcl.suggest"},
    # These stand alone: of mlcl they use the ground floor only, and their errors are their own.
    "data_prep": {"mlcl.suggest", "mlcl.offline", "mlcl.cache", "mlcl.digests"},
    "mlcl.losses": {"mlcl.suggest"},
    "mlcl.encoders": {"mlcl.suggest", "mlcl.offline", "mlcl.digests", "mlcl.published"},
    "mlcl.data": {"mlcl.suggest", "mlcl.offline", "mlcl.digests", "mlcl.published", "data_prep"},
    "mlcl.evaluation": {"mlcl.errors"},
    "mlcl.training": {
        "mlcl.suggest", "mlcl.errors", "mlcl.digests", "mlcl.data", "mlcl.encoders", "mlcl.evaluation", "mlcl.losses",
    },
    "mlcl.model": {
        "mlcl.suggest", "mlcl.errors", "mlcl.digests", "data_prep", "mlcl.data", "mlcl.encoders", "mlcl.evaluation",
        "mlcl.training",
    },
    "mlcl.records": {"mlcl.errors", "mlcl.digests", "mlcl.evaluation"},
    "mlcl.study": {
        "mlcl.suggest", "mlcl.errors", "mlcl.digests", "mlcl.machine", "mlcl.published", "data_prep", "mlcl.data",
        "mlcl.encoders", "mlcl.evaluation", "mlcl.losses", "mlcl.training", "mlcl.model", "mlcl.records",
    },
    "mlcl.api": {
        "mlcl.suggest", "mlcl.errors", "mlcl.cache", "data_prep", "mlcl.data", "mlcl.losses", "mlcl.evaluation",
        "mlcl.training", "mlcl.model", "mlcl.records", "mlcl.study",
    },
    "mlcl.reporting": {"mlcl.errors", "mlcl.digests", "data_prep", "mlcl.data", "mlcl.records", "mlcl.evaluation"},
    "mlcl.cli": {
        "mlcl.suggest", "mlcl.digests", "mlcl.errors", "data_prep", "mlcl.losses", "mlcl.encoders", "mlcl.study",
        "mlcl.doctor", "mlcl.scaffold",
        "mlcl.reporting", "mlcl.data", "mlcl.model", "mlcl.records", "mlcl.training", "mlcl.published",
        "mlcl.work",
    },
    "mlcl.worker": {"data_prep", "mlcl.cli", "mlcl.encoders", "mlcl.study", "mlcl.training"},
    "mlcl.handover": set(),
    "mlcl.work": {"mlcl.errors", "mlcl.handover", "mlcl.machine", "mlcl.records", "mlcl.study", "mlcl.training"},
    "mlcl.__main__": {"mlcl.cli", "mlcl.handover"},
}  # fmt: skip


def floor(module: str) -> str | None:
    """The floor a module lies on; None for modules that are not ours."""
    parts = module.split(".")
    if parts[0] == "data_prep":
        return "data_prep"
    return ".".join(parts[:2]) if parts[0] == "mlcl" and len(parts) > 1 else None


def imports(file: Path) -> set[str]:
    """The floors that a file imports from, its own left out, wherever in the file it does so."""
    module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {
                f"{node.module}.{alias.name}" if node.module == "mlcl" else node.module
                for alias in node.names
            }
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{file}: relative import; write it out")
    return {floor(name) for name in found} - {floor(module), None}


@pytest.mark.parametrize("above", MAY_IMPORT)
def test_imports_go_down_only(above: str) -> None:
    base = ROOT / above.replace(".", "/")
    files = sorted(base.rglob("*.py")) if base.is_dir() else [base.with_suffix(".py")]
    assert files
    for file in files:
        assert imports(file) <= MAY_IMPORT[above], file


def test_every_module_lies_on_a_floor() -> None:
    for file in (ROOT / "mlcl").rglob("*.py"):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        assert module == "mlcl.__init__" or floor(module) in MAY_IMPORT, module


def modules() -> dict[str, Path]:
    """All modules of both packages, by name; a package is its `__init__`."""
    return {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
        for package in ("mlcl", "data_prep")
        for file in (ROOT / package).rglob("*.py")
    }


def module_graph() -> dict[str, set[str]]:
    """Module -> the modules that it imports, wherever in the file, for type checking too.

    A name that a package only passes on counts as imported from the module that defines it.
    """
    files = modules()
    trees = {module: ast.parse(file.read_text()) for module, file in files.items()}
    passed_on = {
        (module, alias.name): node.module
        for module, tree in trees.items()
        if files[module].stem == "__init__"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in files
        for alias in node.names
    }

    def imported(node: ast.AST) -> set[str]:
        if isinstance(node, ast.Import):
            return {alias.name for alias in node.names}
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            return set()
        return {
            inner
            if (inner := f"{node.module}.{alias.name}") in files
            else passed_on.get((node.module, alias.name)) or node.module
            for alias in node.names
        }

    return {
        module: {name for node in ast.walk(tree) for name in imported(node)} & files.keys() - {module}
        for module, tree in trees.items()
    }


def test_no_module_imports_itself_in_a_circle() -> None:
    try:
        TopologicalSorter(module_graph()).prepare()
    except CycleError as error:
        pytest.fail(f"circle of imports: {' -> '.join(reversed(error.args[1]))}")


def test_a_circle_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail, also for imports in functions and for type checking."""
    package = tmp_path / "mlcl"
    (tmp_path / "data_prep").mkdir()
    package.mkdir()
    (package / "__init__.py").write_text("from mlcl.low import helper\n")
    (package / "low.py").write_text("def helper():\n    from mlcl import high\n")
    (package / "high.py").write_text("from mlcl import other\n")
    (package / "other.py").write_text(
        "import typing\nif typing.TYPE_CHECKING:\n    from mlcl import helper\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert module_graph() == {
        "mlcl": {"mlcl.low"}, "mlcl.low": {"mlcl.high"}, "mlcl.high": {"mlcl.other"}, "mlcl.other": {"mlcl.low"},
    }  # fmt: skip
    with pytest.raises(pytest.fail.Exception, match="circle of imports: mlcl"):
        test_no_module_imports_itself_in_a_circle()


def test_data_needs_numpy_only() -> None:
    """To open and read any prepared dataset. Libraries for tokenizing, sparse labels and strata load on use."""
    names = sorted(module for module in modules() if module.startswith("mlcl.data"))
    code = (
        "import sys, numpy, data_prep; before = set(sys.modules)\n"
        f"import {', '.join(names)}\n"
        "print({name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ast.literal_eval(done.stdout) == {"mlcl"}
    heavy = "[name for name in ('torch', 'pandas', 'scipy', 'sklearn') if name in sys.modules]"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {', '.join(names)}; print({heavy})"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "module",
    [
        "mlcl",
        "mlcl.api.fitting",
        "mlcl.losses",
        "mlcl.encoders",
        "mlcl.records.collect",
        "mlcl.records.status",
        "mlcl.study.plan",
        "mlcl.cli",
        "mlcl.reporting",
        "data_prep",
        "mlcl.data",
        "mlcl.model",
        "mlcl.study.export",
        "mlcl.training.events",
        "mlcl.training.inputs.transforms",
        "mlcl.training.protocols",
        "mlcl.training.settings",
    ],
)
def test_importing_is_light(module: str) -> None:
    heavy = ("torch", "pandas", "sklearn", "matplotlib")
    check = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
