"""`mlcl doctor`: is this machine fit for a study? One line for each thing that studies meet, and what to do."""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from mlcl.cache import cache_folder
from mlcl.machine import cores
from mlcl.offline import SWITCHES, offline

Verdict = Literal["ok", "note", "bad"]
"""`note`: something is done without; `bad`: studies fail."""
PYTHONS = ((3, 11), (3, 13))
FREE_GB = 10
"""Room for records, prepared data and caches of small studies; `mlcl plan` says what a study takes."""
LATEX = ("pdflatex", "lualatex", "xelatex", "tectonic")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `todo` is empty where all is well."""

    name: str
    verdict: Verdict
    found: str
    todo: str = ""

    def render(self) -> str:
        return f"{self.verdict:<5} {self.name:<10} {self.found}{f' -> {self.todo}' if self.todo else ''}"


def examine(data_root: Path) -> Iterator[Check]:
    """Looks at this machine, from the working directory; imports torch, writes nothing that stays."""
    looks: tuple[Callable[[], Check], ...] = (
        _python,
        _cores,
        _torch,
        _gpu,
        _workflow,
        lambda: _disk("disk", Path.cwd(), "results/ and its prepared data"),
        _cache,
        lambda: _data_root(data_root),
        _network,
        lambda: _program("LaTeX", LATEX, "tables are not compiled to PDF; .tex, .md and .csv are written"),
        lambda: _program("browser", BROWSERS, "only a test of the report needs one"),
    )
    for look in looks:
        yield look()


def _python() -> Check:
    here = f"{platform.python_version()} ({sys.executable})"
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return Check("Python", "ok", here)
    return Check("Python", "bad", here, "install Python 3.11, 3.12 or 3.13, then python3 bootstrap.py")


def _cores() -> Check:
    count = cores()
    return Check("cores", "ok", f"{count}; as many cells run side by side as compute.threads go into them")


def _torch() -> Check:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Check(
            "torch", "bad", f"cannot be imported ({error})", "python3 bootstrap.py makes the environment"
        )
    return Check("torch", "ok", torch.__version__)


def _gpu() -> Check:
    try:
        import torch

        if torch.cuda.is_available():
            names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
            return Check("GPU", "ok", ", ".join(names))
    except (ImportError, OSError, RuntimeError) as error:
        return Check(
            "GPU", "note", f"cannot be asked ({' '.join(str(error).split())[:100]})", "see the driver"
        )
    driver = " although nvidia-smi is there" if shutil.which("nvidia-smi") else ""
    todo = "a torch that fits the driver" if driver else "small studies need none; for large ones docs/gpu.md"
    return Check("GPU", "note", f"torch finds none{driver}", todo)


def _workflow() -> Check:
    try:
        return Check("Snakemake", "ok", version("snakemake"))
    except PackageNotFoundError:
        return Check("Snakemake", "note", "is not installed", "pip install 'mlcl[workflow]', to run studies")


def _disk(name: str, folder: Path, what: str) -> Check:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free / 1e9
    found = f"{free:,.0f} GB free in {folder}, for {what}"
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return Check(
            name, "bad", f"{folder}: cannot be written ({error.strerror})", "another folder, or its rights"
        )
    if free < FREE_GB:
        return Check(name, "note", found, "make room; mlcl plan STUDY says what a study takes")
    return Check(name, "ok", found)


def _cache() -> Check:
    folder = cache_folder()
    if folder is None:
        return Check("cache", "note", "this user has no home", "set MLCL_CACHE to a folder")
    return _disk("cache", folder, "published models, digests and data in memory ($MLCL_CACHE)")


def _data_root(folder: Path) -> Check:
    if not folder.is_dir():
        todo = "set MLCL_DATA_ROOT or --data-root where raw files lie; the default study needs none"
        return Check("data root", "note", f"{folder} is not there", todo)
    count = sum(path.is_dir() for path in folder.iterdir())
    return Check(
        "data root", "ok", f"{folder}, {count} folders; python -m data_prep --list says what they are"
    )


def _network() -> Check:
    if why := offline():
        return Check("network", "note", why, f"unset {' and '.join(SWITCHES)} to download data and weights")
    return Check("network", "ok", "downloads are allowed (nothing was tried)")


def _program(name: str, names: tuple[str, ...], without: str) -> Check:
    found = next((path for each in names if (path := shutil.which(each))), None)
    return (
        Check(name, "ok", found) if found else Check(name, "note", f"none of {', '.join(names)}: {without}")
    )
