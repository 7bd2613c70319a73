"""Reporting and metrics work where torch is not installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

EVERYTHING = (
    "import sys, pkgutil, importlib, mlcl.reporting as r;"
    "[importlib.import_module(m.name) for m in pkgutil.walk_packages(r.__path__, 'mlcl.reporting.')];"
    "import mlcl.evaluation.metrics, mlcl.records as records;"
    "[importlib.import_module(m.name) for m in pkgutil.iter_modules(records.__path__, 'mlcl.records.')];"
    "[getattr(r, name) for name in r.ENTRY_POINTS];"
    "sys.exit('torch' in sys.modules)"
)
EACH_FIRST = """
import importlib, pkgutil, sys, mlcl.reporting as package
names = [module.name for module in pkgutil.walk_packages(package.__path__, "mlcl.reporting.")]
for name in names:
    for loaded in [loaded for loaded in sys.modules if loaded.partition(".")[0] == "mlcl"]:
        del sys.modules[loaded]
    importlib.import_module(name)
"""


def test_each_module_can_be_the_first_that_is_imported():
    """Importing one runs the `__init__` of its package, which may lead back to it."""
    done = subprocess.run([sys.executable, "-c", EACH_FIRST], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_module_of_reporting_imports_torch():
    assert subprocess.run([sys.executable, "-c", EVERYTHING], check=False).returncode == 0


@pytest.mark.parametrize("module", ["pandas", "matplotlib", "numpy", "jinja2"])
def test_importing_the_package_alone_imports_nothing_heavy(module):
    code = f"import sys, mlcl.reporting; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_entry_point_is_an_attribute_error():
    import mlcl.reporting

    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = mlcl.reporting.nonsense
