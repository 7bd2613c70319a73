"""Imports go down the floors only (docs/architecture.md), and light modules stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MAY_IMPORT = {
    "mlcl.errors": set(),
    "mlcl.suggest": set(),
    "mlcl.offline": set(),
    # These stand alone: of mlcl they use the ground floor only, and their errors are their own.
    "data_prep": {"mlcl.suggest", "mlcl.offline"},
    "mlcl.losses": {"mlcl.suggest"},
    "mlcl.encoders": {"mlcl.suggest", "mlcl.offline"},
    "mlcl.data": {"mlcl.suggest", "mlcl.offline", "data_prep"},
    "mlcl.evaluation": {"mlcl.errors"},
    "mlcl.training": {"mlcl.suggest", "mlcl.errors", "mlcl.data", "mlcl.encoders", "mlcl.evaluation", "mlcl.losses"},
    "mlcl.model": {
        "mlcl.suggest", "mlcl.errors", "data_prep", "mlcl.data", "mlcl.encoders", "mlcl.evaluation",
        "mlcl.training",
    },
    "mlcl.records": {"mlcl.errors", "mlcl.evaluation"},
    "mlcl.study": {
        "mlcl.suggest", "mlcl.errors", "data_prep", "mlcl.data", "mlcl.encoders", "mlcl.evaluation", "mlcl.losses",
        "mlcl.training", "mlcl.model", "mlcl.records",
    },
    "mlcl.reporting": {"mlcl.errors", "mlcl.data", "mlcl.records", "mlcl.evaluation"},
    "mlcl.cli": {
        "mlcl.suggest", "mlcl.errors", "data_prep", "mlcl.losses", "mlcl.encoders", "mlcl.study", "mlcl.reporting",
        "mlcl.data", "mlcl.model", "mlcl.records", "mlcl.training",
    },
    "mlcl.__main__": {"mlcl.cli"},
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


@pytest.mark.parametrize(
    "module",
    [
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
    ],
)
def test_importing_is_light(module: str) -> None:
    heavy = ("torch", "pandas", "sklearn", "matplotlib")
    check = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
