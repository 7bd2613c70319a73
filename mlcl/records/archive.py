"""A study's results in one file, to be moved to another machine: `mlcl pack`, `mlcl unpack`.

The archive (a tar file, compressed by gzip) begins with `contents.json`, which has the size and SHA-256 of each file
and is sealed itself. Unfinished work, figures, tables and logs stay behind: they are made again.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from mlcl.digests import is_sealed, sealed, sha256_of
from mlcl.errors import MlclError
from mlcl.records.code import FOLDER as CODE
from mlcl.records.collect import collected_files, is_kept
from mlcl.records.files import atomic_file, atomic_folder
from mlcl.records.format import FORMAT, require_format
from mlcl.records.outline import OpenStudy
from mlcl.records.record import RECORD, find_record, stored_files

CONTENTS = "contents.json"
LARGEST_CONTENTS = 256 << 20
"""Bytes of the list of files that are read at most."""
CHUNK = 1 << 20


class ArchiveError(MlclError):
    """The archive is damaged, or holds what no archive of results holds. Nothing was unpacked."""


@dataclass(frozen=True)
class Archive:
    """What was packed or unpacked."""

    study: str
    place: Path
    records: int
    files: int
    bytes: int
    """Of the files, before compression."""
    left_out: tuple[str, ...] = ()
    """Damaged records, and how."""

    def render(self) -> str:
        damaged = "".join(f"\n  left out: {defect}" for defect in self.left_out)
        return (
            f"{self.study}: {self.records} records, {self.files} files, {self.bytes / 1e6:.1f} MB: "
            f"{self.place}{damaged}"
        )


@dataclass(frozen=True)
class Belongings:
    """The files that are a study's results, without what can be made of them again."""

    files: list[Path]
    records: int
    left_out: tuple[str, ...]
    """Damaged records, and how."""


def belongings(study: OpenStudy) -> Belongings:
    """Outline, whole records with their files, cards, lists of code, collected files.

    Raises MlclError if there is no record, or a file is a link.
    """
    results = study.paths.results
    left_out: list[str] = []
    files, records = [], 0
    for cell in study.outline.all_cells:
        record = study.paths.record(cell.id)
        found = find_record(record, cell.id)
        if found.damage is not None:
            left_out.append(found.damage)
        elif found.record is not None:
            records += 1
            files += [record.parent / name for name in (RECORD, *stored_files(record))]
    if not records and not is_kept(study):
        raise MlclError(f"{results}: holds no whole record; there is nothing to pack")
    files += collected_files(study, alone=True)
    files += [
        file for file in (study.paths.collected, *sorted((results / CODE).glob("*.json"))) if file.exists()
    ]
    for one in files:
        _refuse_link(one, results)
    return Belongings(files, records, tuple(left_out))


def pack(study: OpenStudy, file: Path) -> Archive:
    """Writes the archive of what belongs to the study. Raises MlclError as `belongings` does."""
    results = study.paths.results
    packed = belongings(study)
    listed: dict[str, dict[str, Any]] = {
        one.relative_to(results).as_posix(): {"bytes": one.stat().st_size, "sha256": sha256_of(one)}
        for one in packed.files
    }
    contents = sealed(
        {"format": FORMAT, "study": study.outline.study, "records": packed.records, "files": listed}
    )
    head = (json.dumps(contents, indent=1) + "\n").encode()
    with atomic_file(file) as temporary, tarfile.open(temporary, "w:gz", compresslevel=1) as archive:
        _add(archive, CONTENTS, len(head), io.BytesIO(head))
        for name, told in listed.items():
            with (results / name).open("rb") as content:
                _add(archive, name, told["bytes"], content)
    size = sum(told["bytes"] for told in listed.values())
    return Archive(study.outline.study, file, packed.records, len(listed), size, packed.left_out)


def unpack(file: Path, folder: Path) -> Archive:
    """Unpacks an archive into `folder`, which must not be there; all of it or nothing.

    Only files that the archive's own list names, with its sizes and digests, are written. Raises ArchiveError for
    anything else: damage, a file that is cut off, links, devices, paths that lead outside, files listed twice or not at
    all.
    """
    if folder.exists():
        raise ArchiveError(f"{folder}: is there already; name a new folder, then 'mlcl merge' its records")
    try:
        with tarfile.open(file, "r:gz") as archive:
            members = iter(archive)
            contents = _contents(file, archive, next(members, None))
            listed = contents["files"]
            with atomic_folder(folder) as new:
                missing = dict(listed)
                for member in members:
                    told = missing.pop(member.name, None)
                    _require_fit(file, member, told)
                    assert told is not None
                    content = archive.extractfile(member)
                    assert content is not None
                    _write(new / member.name, content, file, member.name, told["sha256"])
                if missing:
                    raise ArchiveError(f"{file}: is damaged or cut off: {next(iter(missing))} is not in it")
    except FileNotFoundError:
        raise ArchiveError(f"{file}: is not there") from None
    except (tarfile.TarError, zlib.error, OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ArchiveError(f"{file}: is damaged or no archive of results ({error})") from None
    size = sum(told["bytes"] for told in listed.values())
    return Archive(contents["study"], folder, contents["records"], len(listed), size)


def _contents(file: Path, archive: tarfile.TarFile, member: tarfile.TarInfo | None) -> Mapping[str, Any]:
    """The list of files, checked."""
    no_archive = f"{file}: is no archive of results (it does not begin with {CONTENTS})"
    if member is None or member.name != CONTENTS or not member.isreg() or member.size > LARGEST_CONTENTS:
        raise ArchiveError(no_archive)
    head = archive.extractfile(member)
    assert head is not None
    contents = json.loads(head.read().decode("utf-8"))
    if not is_sealed(contents):
        raise ArchiveError(f"{file}: its {CONTENTS} is not what was written")
    require_format(contents, file, "pack the results again")
    for name in contents["files"]:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or str(path) != name or "\\" in name or not path.parts:
            raise ArchiveError(f"{file}: lists {name!r}, which is no path below a results folder")
    return dict(contents)


def _require_fit(file: Path, member: tarfile.TarInfo, told: Mapping[str, Any] | None) -> None:
    """Raises ArchiveError unless the member is a plain file, listed once, with the size that is told."""
    if not member.isreg():
        raise ArchiveError(f"{file}: {member.name!r} is a link or no plain file; results hold none")
    if told is None:
        raise ArchiveError(f"{file}: {member.name!r} is not listed, or is there twice")
    if member.size != told["bytes"]:
        raise ArchiveError(f"{file}: {member.name!r} has another size than is listed")


def _write(path: Path, content: IO[bytes], archive: Path, name: str, digest: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    found = hashlib.sha256()
    with path.open("wb") as out:
        for chunk in _chunks(content):
            found.update(chunk)
            out.write(chunk)
    if found.hexdigest() != digest:
        raise ArchiveError(f"{archive}: {name!r} is damaged (its SHA-256 is another one)")


def _chunks(content: IO[bytes]) -> Iterator[bytes]:
    while chunk := content.read(CHUNK):
        yield chunk


def _add(archive: tarfile.TarFile, name: str, size: int, content: IO[bytes]) -> None:
    """Without times, owners and rights: the same results give the same archive."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    archive.addfile(member, content)


def _refuse_link(path: Path, results: Path) -> None:
    while path != results:
        if path.is_symlink():
            raise MlclError(f"{path}: is a link; pack the results with the files that links stand for")
        path = path.parent
