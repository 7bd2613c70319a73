"""Builds both distributions and runs their tests on the installed wheels, without this repository's packages.

    python distributions/check.py                                  # with the packages of this environment: two minutes
    python distributions/check.py --python 3.11 3.12 3.13          # a new environment for each, all installed
    python distributions/check.py mlcl-losses --python 3.10 --torch 2.9.0
    python distributions/check.py mlcl --all-tests --python 3.12

The tests lie in a folder that holds what the repository has but for the packages `mlcl` and `data_prep`, so that these
are those of the wheel. A wheel that is built from the sdist must hold the same files. New environments are made by uv
and removed afterwards; of the suite they have the versions of requirements.lock. A version of Python may be a path.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import build

ROOT = Path(__file__).parents[1]
PACKAGES = ("mlcl", "data_prep")
TESTS = {
    # From Python and from the command line, from data to tables, and what is stored.
    "mlcl": ("tests/api", "tests/cli", "tests/records", "tests/evaluation", "tests/docs/test_howto.py"),
    "mlcl-losses": (
        "tests/losses/test_brute_force.py", "tests/losses/test_classes.py", "tests/losses/test_contract.py",
        "tests/losses/test_distributed.py", "tests/losses/test_fused.py", "tests/losses/test_gma_scl.py",
        "tests/losses/test_golden.py", "tests/losses/test_properties.py", "tests/losses/test_registry.py",
        "tests/losses/test_triton.py", "tests/losses/test_unknown_labels.py",
    ),
}  # fmt: skip
MORE_TESTS = (
    "tests/data", "tests/encoders", "tests/faults", "tests/model", "tests/reporting", "tests/training",
    *TESTS["mlcl-losses"],
)  # fmt: skip
"""Of the suite, with --all-tests: what is left looks at the repository itself, or is the workflow, which runs in it."""
EXTRAS = "[workflow,data,encoders,statistics,share,dev]"
TEST_TOOLS = ("pytest", "pytest-timeout", "hypothesis", "numpy")


@dataclass(frozen=True)
class Environment:
    """A Python in which a wheel is installed."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin/python"

    def call(self, *arguments: str, cwd: Path, check: bool = True) -> str:
        """Runs this Python where it sees nothing of the repository; returns what it prints."""
        hidden = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")
        environment = {key: value for key, value in os.environ.items() if key not in hidden}
        environment["PATH"] = f"{self.folder / 'bin'}{os.pathsep}{environment['PATH']}"
        done = subprocess.run(
            [str(self.python), *arguments], cwd=cwd, env=environment, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if check and done.returncode:
            raise SystemExit(f"{' '.join(arguments[:6])} failed:\n{done.stdout[-6000:]}")
        return done.stdout


def beside_this_one(folder: Path, wheel: Path) -> Environment:
    """The wheel, and the packages that this Python has; what it has in development mode is not seen."""
    environment = Environment(folder)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = (
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-index",
        str(wheel),
    )
    environment.call(*pip, cwd=folder)
    own = environment.call("-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    # The folder is put on the path; its own .pth files, such as those of editable installs, are not read.
    (Path(own) / "packages_of_another.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment


def new(folder: Path, python: str, requirements: list[str], constraints: Path | None) -> Environment:
    """A new environment with all that the requirements need, installed by uv."""
    environment = Environment(folder)
    uv = shutil.which("uv")
    if uv is None:
        raise SystemExit("new environments are made by uv, which is not installed: pip install uv")
    subprocess.run([uv, "venv", "--quiet", "--python", python, str(folder)], check=True)
    limits = ["--constraints", str(constraints)] if constraints else []
    command = [uv, "pip", "install", "--quiet", "--python", str(environment.python), *limits, *requirements]
    subprocess.run(command, check=True)
    return environment


def tests_alone(folder: Path) -> Path:
    """What git knows of this repository, but for the packages."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if name.split("/")[0] not in PACKAGES and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def require_same_files(wheel: Path, sdist: Path, folder: Path) -> None:
    """Raises SystemExit unless a wheel that is built from the sdist holds the files of the wheel."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=source, check=True, stdout=subprocess.DEVNULL
    )
    (again,) = folder.glob("*.whl")
    names = [set(zipfile.ZipFile(file).namelist()) for file in (wheel, again)]
    if names[0] != names[1]:
        raise SystemExit(
            f"{sdist}: its wheel has other files than {wheel}: {sorted(names[0] ^ names[1])[:5]}"
        )


def check(name: str, environment: Environment, tests: tuple[str, ...], folder: Path) -> str:
    """Runs the tests; returns a line on what ran with what. Raises SystemExit if one fails."""
    place = environment.call("-c", "import mlcl.losses; print(mlcl.losses.__file__)", cwd=folder).strip()
    if not place.startswith(str(environment.folder.resolve())):
        raise SystemExit(f"{name}: {place} is imported, not the wheel")
    begun = time.perf_counter()
    printed = environment.call(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *tests, cwd=folder, check=False
    )
    last = printed.strip().splitlines()[-1]
    if not re.search(r"\d+ passed", last) or re.search(r"failed|error", last):
        raise SystemExit(f"{name}: {last}\n{printed[-8000:]}")
    facts = "import json, sys, torch; print(json.dumps([sys.version.split()[0], torch.__version__]))"
    python, torch = json.loads(environment.call("-c", facts, cwd=folder).splitlines()[-1])
    return f"{name}: Python {python}, torch {torch}: {last.strip('= ')} ({time.perf_counter() - begun:.0f} s)"


def first_steps(environment: Environment, folder: Path) -> None:
    """What a reader of the README does first with an installed suite."""
    for command in (["--help"], ["new", "study", "first"], ["plan", "first.yaml"], ["cite", "first.yaml"]):
        environment.call("-m", "mlcl", *command, cwd=folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="mlcl, mlcl-losses. Default: both.")
    parser.add_argument("--python", nargs="+", default=[], help="Default: this one, with its packages.")
    parser.add_argument("--torch", default="", help="A version, for mlcl-losses.")
    parser.add_argument("--all-tests", action="store_true", help="Of the suite: all that need no repository.")
    arguments = parser.parse_args()
    more = {"mlcl": MORE_TESTS} if arguments.all_tests else {}
    if unknown := set(arguments.names) - set(build.NAMES):
        parser.error(f"{min(unknown)}: is no distribution; there are {' and '.join(build.NAMES)}")
    for name in arguments.names or build.NAMES:
        tests = TESTS[name] + more.get(name, ())
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            wheel, sdist = build.build(name, folder / "dist")
            (folder / "again").mkdir()
            require_same_files(wheel, sdist, folder / "again")
            for number, python in enumerate(arguments.python or [None]):
                place = folder / f"environment{number}"
                if python is None:
                    environment = beside_this_one(place, wheel)
                elif name == "mlcl":
                    wanted = [f"{name}{EXTRAS} @ {wheel.as_uri()}"]
                    environment = new(place, python, wanted, ROOT / "requirements.lock")
                else:
                    torch = [f"torch=={arguments.torch}"] if arguments.torch else []
                    environment = new(place, python, [str(wheel), *torch, *TEST_TOOLS], None)
                with tempfile.TemporaryDirectory() as empty:
                    if name == "mlcl":
                        first_steps(environment, Path(empty))
                    print(check(name, environment, tests, tests_alone(Path(empty))), flush=True)
                shutil.rmtree(place)


if __name__ == "__main__":
    main()
