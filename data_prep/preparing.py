"""Carries out a recipe: raw files -> prepared dataset, in a folder of its own name first, then renamed into place.

A workflow that is stopped deletes outputs that it did not see finish: Snakemake takes `card.json` away. A prepared
folder therefore holds its card a second time (`format.CARD_COPY`), knows itself by it, and gets its card back.
"""

import errno
import json
import os
import platform
import shutil
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data_prep import format as form
from data_prep.download import download
from data_prep.errors import DataError
from data_prep.planning import Plan, Recipe, make_plan
from data_prep.rawfiles import missing_message
from mlcl.digests import first_defect, is_sealed

FULL = (errno.ENOSPC, errno.EDQUOT)


def prepare(recipe: Recipe, data_root: Path, out: Path) -> None:
    """Write the prepared dataset of `recipe` to the folder `out`.

    Works beside it, in a hidden folder, and renames at the end, under a lock: a killed run leaves nothing that is
    taken for a dataset, and two processes may prepare the same `out` at once (the second finds it done). A dataset
    with another fingerprint in its place is replaced, and so is a damaged one.

    Raises:
        DataError: raw files that are missing, wrong or cannot be downloaded, or that changed since the recipe
            was made; rows that cannot be read; a full disk.
    """
    from filelock import FileLock

    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(out.with_name(f".{out.name}.lock")):
        _restore_card(out)
        if stored_fingerprint(out) == recipe.fingerprint and _is_whole(out):
            return
        _refuse_foreign(out)
        plan = make_plan(recipe.source, recipe.settings, Path(data_root), recipe.accept_local)
        if plan.recipe.fingerprint != recipe.fingerprint:
            raise DataError(
                f"dataset {recipe.source}: raw files or code changed since it was planned; start again"
            )
        plan = _with_all_files(plan, Path(data_root))
        work = out.with_name(f".{out.name}.mlcl-preparing")
        shutil.rmtree(work, ignore_errors=True)
        with _disk_errors(out), _missing_packages(recipe.source), _removed_on_failure(work):
            _write(plan, work)
            _put_in_place(work, out)


def _with_all_files(plan: Plan, data_root: Path) -> Plan:
    """The plan after files that are not there were downloaded."""
    absent = [
        item.file for item in plan.raw if item.state == "absent" and item.file.urls and not item.file.optional
    ]
    if not absent:
        return plan
    try:
        download(absent, plan.folder)
    except DataError as error:
        raise DataError(
            f"{missing_message(plan.recipe.source, absent, plan.folder, plan.about)}; download failed: {error}"
        ) from None
    return make_plan(plan.recipe.source, plan.recipe.settings, data_root, plan.recipe.accept_local)


def stored_fingerprint(folder: Path) -> str | None:
    """The fingerprint of the prepared dataset in a folder; None where there is none, or one of another format."""
    try:
        card = json.loads((folder / form.CARD).read_text(encoding="utf-8"))
        return str(card["fingerprint"]) if card["format"] in form.READABLE and is_sealed(card) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_whole(folder: Path) -> bool:
    """Are all files what the card, which is sealed, says?"""
    files = json.loads((folder / form.CARD).read_text(encoding="utf-8"))["files"]
    return first_defect(folder, {name: entry["sha256"] for name, entry in files.items()}) is None


def _write(plan: Plan, work: Path) -> None:
    import numpy as np

    from data_prep.unknown_labels import card_entries
    from data_prep.writer import DatasetWriter

    paths = {item.file.path: item.path for item in plan.raw if item.state != "absent"}
    with DatasetWriter(work, plan.recipe.modality) as writer:
        # Numbers beyond float32 are an error of the writer, with their row; numpy's warning says no row.
        with _reader_errors(plan.recipe.source), np.errstate(over="ignore"):
            plan.source.prepare(plan.settings, paths, writer)
        writer.finish({**_about(plan), **card_entries(writer)})
    _sync(work)


def _about(plan: Plan) -> dict[str, Any]:
    about = plan.about
    return {
        "name": plan.recipe.source,
        "title": about.title,
        "citation": about.citation,
        "homepage": about.homepage,
        "terms": about.licence,
        "fingerprint": plan.recipe.fingerprint,
        "settings": dict(plan.recipe.settings),
        "versions": {**plan.versions, "numpy": version("numpy"), "python": platform.python_version()},
        "raw_files": [
            {"path": item.file.path, "state": item.state, "identity": item.identity} for item in plan.raw
        ],
        "published": dict(about.published),
        "published_from": about.published_from,
    }


def _restore_card(out: Path) -> None:
    """Put the card back where it was deleted and its copy fits the files that are there."""
    card, copy = out / form.CARD, out / form.CARD_COPY
    if card.exists() or not copy.is_file():
        return
    try:
        content = copy.read_text(encoding="utf-8")
        stored = json.loads(content)
        listed = stored["files"]
        complete = is_sealed(stored) and all(
            (out / name).stat().st_size == entry["bytes"] for name, entry in listed.items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return
    if complete:
        aside = out / f"{form.CARD}.mlcl-restored"
        aside.write_text(content, encoding="utf-8")
        aside.replace(card)


def _refuse_foreign(out: Path) -> None:
    """A folder that holds something else is never replaced."""
    known = any((out / name).is_file() for name in (form.CARD, form.CARD_COPY))
    if out.exists() and not known and (not out.is_dir() or any(out.iterdir())):
        raise DataError(
            f"{out}: holds something that is no prepared dataset; choose another place or empty it"
        )


def _put_in_place(work: Path, out: Path) -> None:
    """Swap folders by renaming: at every moment there is the old dataset, the new one, or none."""
    old = out.with_name(f".{out.name}.mlcl-replaced")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    work.rename(out)
    _sync_entry(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Have the operating system write all files to the disk, so that a name never stands for less than its content."""
    for path in sorted(folder.rglob("*")):
        _sync_entry(path)
    _sync_entry(folder)


def _sync_entry(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot do so for folders
            raise
    finally:
        os.close(descriptor)


@contextmanager
def _reader_errors(source: str) -> Iterator[None]:
    """What a reader did not foresee is an error of the dataset, too, in one line that names the place in the code."""
    try:
        yield
    except (DataError, ModuleNotFoundError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DataError(
            f"dataset {source}: its raw files cannot be read ({reason}, in {place}); if they "
            "are as their publisher distributes them, report this as a fault of the reader"
        ) from error


@contextmanager
def _removed_on_failure(work: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


@contextmanager
def _missing_packages(source: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        reason = f"dataset {source} needs the package {error.name}, which is not installed"
        raise DataError(f"{reason}; install the extra: pip install 'mlcl[data]'") from None


@contextmanager
def _disk_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DataError(f"no space left while writing {out}; free some and start again") from None
        raise
