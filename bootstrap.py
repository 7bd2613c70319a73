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
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
LOCK = ROOT / "requirements.lock"
STAMP = ENVIRONMENT / "mlcl.stamp"
VERSIONS = ((3, 11), (3, 13))


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
    print(f"making the environment in {ENVIRONMENT} (6 GB; a few minutes)", file=sys.stderr, flush=True)
    STAMP.unlink(missing_ok=True)
    if shutil.which("uv"):
        pip = ["uv", "pip"]
        if not PYTHON.exists():
            run("uv", "venv", "--quiet", "--python", sys.executable, str(ENVIRONMENT))
        # Compiled at once: without bytecode, importing torch takes six seconds instead of two, in every cell.
        run(*pip, "sync", "--python", str(PYTHON), "--require-hashes", "--compile-bytecode", str(LOCK))
        run(*pip, "install", "--python", str(PYTHON), "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    else:
        run(sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT))
        pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
        run(*pip, "--require-hashes", "-r", str(LOCK))
        run(*pip, "--no-deps", "--no-build-isolation", "-e", str(ROOT))


def run(*command: str) -> None:
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit(f"making the environment failed at: {' '.join(command)}")


if __name__ == "__main__":
    main()
