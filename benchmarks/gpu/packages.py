"""Which distributions the package imports and the GPU machine does not have."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
MACHINE = Path(__file__).with_name("machine_packages.txt")
CODE = ("mlcl", "data_prep", "benchmarks", "tests/gpu")
ALSO = {"pytorch-metric-learning": "2.9.0"}
"""What `benchmarks/losses.py` compares with where it is there; needs nothing that the machine does not have."""
NOT_NEEDED = {
    "datasets": "reads data sets from a hub, for which there is no network",
    "snakemake": "cells are made by their train command",
}
ENVIRONMENT = {
    "python_version": "3.12",
    "python_full_version": "3.12.0",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "os_name": "posix",
    "extra": "",
}


def normalised(name: str) -> str:
    """A distribution's name as an index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def on_the_machine() -> frozenset[str]:
    """Normalised names of the distributions that the machine has."""
    lines = (line.partition("#")[0].strip() for line in MACHINE.read_text(encoding="utf-8").splitlines())
    return frozenset(normalised(line) for line in lines if line)


def imported_modules() -> set[str]:
    """Top-level modules that the code imports, wherever in a file, but for the standard library's and its own."""
    modules = set()
    for folder in CODE:
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    modules |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                    modules.add(node.module.split(".")[0])
    own_modules = {path.stem for path in (ROOT / "tests").rglob("*.py")} | {
        "mlcl",
        "data_prep",
        "benchmarks",
        "tests",
    }
    return modules - set(sys.stdlib_module_names) - own_modules


def missing() -> dict[str, str]:
    """Distribution -> version, as it is installed here, of all that has to be carried to the machine.

    Raises LookupError for an import that no installed distribution provides.
    """
    provided = metadata.packages_distributions()
    todo: list[str] = []
    for module in sorted(imported_modules()):
        if normalised(module) in ALSO:
            continue
        if module not in provided:
            raise LookupError(
                f"the code imports {module}, which no installed distribution provides; install it"
            )
        todo += provided[module]
    versions = dict(ALSO)
    while todo:
        name = normalised(todo.pop())
        if name in versions or name in on_the_machine() or name in NOT_NEEDED:
            continue
        distribution = metadata.distribution(name)
        versions[name] = distribution.version
        todo += _needed(distribution.requires or ())
    return dict(sorted(versions.items()))


def _needed(requirements: Iterable[str]) -> list[str]:
    parsed = [Requirement(text) for text in requirements]
    return [r.name for r in parsed if r.marker is None or r.marker.evaluate(ENVIRONMENT)]
