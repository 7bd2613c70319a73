"""Finds a dataset's raw files in the data root and judges them: published, local, or missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_prep.checksums import content_digest, is_gzip
from data_prep.download import recorded
from data_prep.errors import DataError
from data_prep.source import About, RawFile
from mlcl.offline import offline

PATHS_HINT = (
    "check the paths in the dataset's settings, and the folder that they start from: --data-root, or data_root in the "
    "study"
)

State = Literal["published", "local", "unpinned", "absent"]


@dataclass(frozen=True)
class Found:
    """One raw file as it was found.

    Attributes:
        state: `published` (its content is the published one), `local` (it is not, by checksum), `unpinned` (no
            checksum is known to judge it by), `absent`.
        identity: what enters the fingerprint; the same for a plain and a gzipped copy.
    """

    file: RawFile
    path: Path
    state: State
    identity: str


def locate(
    name: str, files: Sequence[RawFile], folder: Path, about: About, accept_local: bool
) -> list[Found]:
    """Every raw file of a dataset, judged.

    Files that may be downloaded and are not there are `absent`. Raises DataError, in one message for all of
    them, for files that are missing and may not be downloaded (or `MLCL_OFFLINE` is set), and for files that
    are not the published ones unless `accept_local`.
    """
    raw_files = [judge(file, folder) for file in files]
    missing = [item.file for item in raw_files if item.state == "absent" and not item.file.optional]
    if missing and (not all(file.urls for file in missing) or offline()):
        raise DataError(missing_message(name, missing, folder, about))
    local = [item for item in raw_files if item.state == "local"]
    if local and not accept_local:
        raise DataError(_refusal(name, local))
    return raw_files


def missing_message(name: str, missing: Sequence[RawFile], folder: Path, about: About) -> str:
    """Which files are missing, where they were looked for, and where to get them."""
    listed = ", ".join(file.path for file in missing)
    urls = [file.urls[0] for file in missing if file.urls]
    ways = [about.by_hand] if about.by_hand else []
    ways += [f"download {' '.join(urls)}"] if urls else []
    ways += [f"see {about.homepage}"] if about.homepage else []
    hint = f"to get them: {'; '.join(ways)}" if ways else PATHS_HINT
    return f"dataset {name}: raw files are missing: {listed}; looked for in {folder}; {hint}"


def judge(file: RawFile, folder: Path) -> Found:
    """Whether one raw file is there, and whether its content is the published one."""
    path = _present(file, folder)
    if path is None:
        # The same identity as after the download, so that a plan stays valid.
        return Found(file, folder / file.path, "absent", _published_identity(file) if file.urls else "absent")
    unpack = path.is_file() and is_gzip(path) and not file.path.endswith((".gz", ".tgz"))
    if file.pinned:
        algorithm, expected = ("sha256", file.sha256) if file.sha256 else ("md5", file.md5)
        # A size that differs settles it without reading many gigabytes.
        if (file.size is None or unpack or path.stat().st_size == file.size) and (
            content_digest(path, algorithm, unpack)[0] == expected
        ):
            return Found(file, path, "published", _published_identity(file))
    digest = content_digest(path, unpack=unpack)[0]
    if not file.pinned and file.urls and recorded(folder, file, digest):
        return Found(file, path, "unpinned", _published_identity(file))
    return Found(file, path, "local" if file.pinned else "unpinned", f"sha256:{digest}")


def _published_identity(file: RawFile) -> str:
    if file.sha256:
        return f"sha256:{file.sha256}"
    return f"md5:{file.md5}" if file.md5 else f"url:{file.urls[0]}"


def _present(file: RawFile, folder: Path) -> Path | None:
    for path in (folder / file.path, folder / f"{file.path}.gz"):
        if path.is_file() or path.is_dir():
            return path
        if path.exists():
            raise DataError(f"{path}: is neither a file nor a folder")
    return None


def _refusal(name: str, local: Sequence[Found]) -> str:
    listed = ", ".join(str(item.path) for item in local)
    return (
        f"dataset {name}: not the published file by checksum: {listed}; to use it all the same (a subset, a repacked "
        f"archive) say accept_local: true (--accept-local), otherwise remove it and fetch the published one"
    )
