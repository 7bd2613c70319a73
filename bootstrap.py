"""Run a command of this repository in its own environment, which is made first if it is not there.

    python bootstrap.py snakemake --cores all     # the default study
    python bootstrap.py pytest                    # the tests

The environment lies in `.venv/` and holds exactly what `requirements.lock` pins, hash-checked, and this package.
It is made again when the lock changes. Uses uv where it is installed, venv and pip otherwise; needs nothing but
Python itself. `source .venv/bin/activate` gives the same commands without this script.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
LOCK = ROOT / "requirements.lock"
STAMP = ENVIRONMENT / "mlcl.stamp"
VERSIONS = ((3, 11), (3, 13))
NEEDED_GB = 7
"""Of disk: the environment, and what is unpacked on the way."""


def main() -> None:
    """Makes the environment if needed, then becomes the command that was asked for."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if not VERSIONS[0] <= sys.version_info[:2] <= VERSIONS[1]:
        sys.exit(f"mlcl needs Python 3.11 to 3.13; this is {sys.version.split()[0]} ({sys.executable})")
    wanted = hashlib.sha256(LOCK.read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if not STAMP.exists() or STAMP.read_text() != wanted:
        make_environment()
        STAMP.write_text(wanted)
    os.environ["VIRTUAL_ENV"] = str(ENVIRONMENT)
    os.environ["PATH"] = f"{PYTHON.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    os.chdir(ROOT)
    command = shutil.which(sys.argv[1])
    if command is None:
        sys.exit(f"there is no command '{sys.argv[1]}' in {PYTHON.parent}")
    os.execv(command, [command, *sys.argv[2:]])


def make_environment() -> None:
    """Installs the lock, each file checked against its hash, then this package from this folder."""
    free = shutil.disk_usage(ROOT).free / 1e9
    packages = len(re.findall(r"^[A-Za-z0-9]", LOCK.read_text(), re.MULTILINE))
    say(
        f"making the environment in {ENVIRONMENT}: {packages} packages, {NEEDED_GB} GB of disk, {free:.0f} GB free;"
    )
    say("a few minutes with a good connection; once, and again when requirements.lock changes")
    if free < NEEDED_GB and not PYTHON.exists():
        sys.exit(f"there is not enough room: make {NEEDED_GB} GB free in {ROOT}, or clone to another disk")
    STAMP.unlink(missing_ok=True)
    if shutil.which("uv"):
        if not PYTHON.exists():
            run("uv", "venv", "--quiet", "--python", sys.executable, str(ENVIRONMENT))
        # Compiled at once: without bytecode, importing torch takes six seconds instead of two, in every cell.
        pip = ["uv", "pip"]
        run(*pip, "sync", "--python", str(PYTHON), "--require-hashes", "--compile-bytecode", str(LOCK))
        run(*pip, "install", "--python", str(PYTHON), "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    else:
        run(sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT))
        pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check"]
        run_counted(packages, *pip, "--progress-bar", "off", "--require-hashes", "-r", str(LOCK))
        run(*pip, "--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    say("the environment is made")


def run(*command: str) -> None:
    """Runs a command that shows its own progress. Exits with one line if it fails."""
    if subprocess.run(command, check=False).returncode != 0:
        fail(command, "")


def run_counted(packages: int, *command: str) -> None:
    """Runs pip, and shows which package it is at: pip itself says nothing, or thousands of lines."""
    output: list[str] = []
    count, step = 0, "\r\x1b[K" if sys.stderr.isatty() else "\n"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            output.append(line.rstrip())
            words = line.split()
            if words[:1] == ["Collecting"]:
                count += 1
                if sys.stderr.isatty() or count % 20 == 0:
                    print(f"{step}  {count} of {packages}: {words[1]}", end="", file=sys.stderr, flush=True)
            elif words[:2] == ["Installing", "collected"]:
                print(f"{step}  installing all of them", end="", file=sys.stderr, flush=True)
    say("")
    if process.returncode != 0:
        say("\n".join(output[-15:]))
        fail(command, "\n".join(output))


def fail(command: Sequence[str], output: str) -> NoReturn:
    """Ends with one line that says what is the matter, as far as it can be told."""
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < 0.5 or "No space left" in output:
        sys.exit(f"the disk is full ({free:.1f} GB free): make {NEEDED_GB} GB free and run the command again")
    if re.search(
        r"NewConnectionError|NameResolutionError|Temporary failure in name|ProxyError|timed out", output
    ):
        sys.exit(
            "the package index cannot be reached: is there a network, or does pip need a proxy (HTTPS_PROXY)?"
        )
    sys.exit(f"making the environment failed, see above; the command was: {' '.join(command)}")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
