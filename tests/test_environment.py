"""The lock, `pyproject.toml` and `environment.yml` say the same, and none of them names a host."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
NOT_LOCKED = {"kubernetes"}
"""Extras that are installed by hand: see pyproject.toml for the reason."""
LOCKED_EXTRAS = PROJECT["optional-dependencies"].keys() - NOT_LOCKED
REQUIRED = [
    *PROJECT["dependencies"],
    *(r for extra in sorted(LOCKED_EXTRAS) for r in PROJECT["optional-dependencies"][extra]),
]
PYTHONS = ("3.11", "3.12", "3.13")


def pins() -> list[Requirement]:
    entries = re.findall(r"^([A-Za-z0-9][^\\\n]*?) *\\$", LOCK, re.MULTILINE)
    return [Requirement(entry) for entry in entries]


def pinned(name: str, python: str) -> Version | None:
    """The version that the lock gives a Python on Linux."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
    }
    for pin in pins():
        if normalised(pin.name) == normalised(name) and (not pin.marker or pin.marker.evaluate(environment)):
            return Version(next(iter(pin.specifier)).version)
    return None


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("requirement", REQUIRED)
def test_the_lock_pins_what_the_project_requires(requirement: str, python: str) -> None:
    wanted = Requirement(requirement)
    version = pinned(wanted.name, python)
    assert version is not None, (
        f"{wanted.name} is not in requirements.lock; see CONTRIBUTING.md on how to make it"
    )
    assert wanted.specifier.contains(version, prereleases=True)


def test_the_lock_is_made_with_all_other_extras() -> None:
    command = (ROOT / "CONTRIBUTING.md").read_text().partition("uv pip compile")[2].partition("\n\n")[0]
    assert {*re.findall(r"--extra (\w+)", command)} == LOCKED_EXTRAS


def test_every_pin_is_exact_and_has_hashes() -> None:
    blocks = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(pins())
    for block in blocks:
        assert "==" in block.splitlines()[0], block
        assert "--hash=sha256:" in block, block


def test_the_lock_names_no_host() -> None:
    assert not re.search(r"https?://|index-url|find-links", LOCK)


def test_conda_installs_python_and_the_same_lock() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, from_pip = environment["dependencies"]
    assert python.removeprefix("python=") in PYTHONS
    assert pip == "pip"
    assert from_pip == {"pip": ["-r requirements.lock"]}


def test_declared_for_these_pythons() -> None:
    from bootstrap import VERSIONS

    assert PROJECT["requires-python"] == ">=3.11,<3.14"
    assert VERSIONS == ((3, 11), (3, 13))
