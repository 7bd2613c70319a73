"""Gets published files over HTTP: resumed after a cut, retried, checked, and only then put in place."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.checksums import content_digest
from data_prep.errors import DataError
from data_prep.source import RawFile

if TYPE_CHECKING:
    import requests

RECORD = ".downloads.json"
BLOCK = 1 << 16
AT_ONCE = 3  # files fetched in parallel

Progress = Callable[[str, int, int | None], None]
"""Called with a file's path, the bytes that are there, and the bytes of the whole where they are known."""


@dataclass(frozen=True)
class Patience:
    """How hard to try: rounds over all mirrors, seconds before the second round (doubled each time), timeouts.

    `unreachable_rounds`: after so many rounds in which no mirror even answered there is no network: give up.
    """

    rounds: int = 6
    backoff: float = 0.5
    longest_wait: float = 30.0
    connect_seconds: float = 5.0
    silence_seconds: float = 30.0
    unreachable_rounds: int = 2


class _WrongError(Exception):
    """This mirror will not do: an answer like 404, or bytes that are not the published ones."""


class _CutError(Exception):
    """A transfer broke off or was refused for now: worth another try; `wait` in seconds where the server says."""

    def __init__(self, reason: str, wait: float = 0.0, answered: bool = True) -> None:
        super().__init__(reason)
        self.wait, self.answered = wait, answered


def download(
    files: Sequence[RawFile], folder: Path, patience: Patience | None = None, progress: Progress | None = None
) -> None:
    """Fetch the files into a folder, several at once; those that are there already are left alone.

    A file appears under its name only when it is complete and, where that is published, has the right size and
    checksum. Broken transfers stay in `<name>.part` and are resumed by the next call.

    Raises:
        DataError: a file could not be fetched; the message says from where and why, for each mirror.
    """
    show = progress or Printed()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(fetch, file, folder, patience or Patience(), show) for file in files]
        errors = [error for future in futures if isinstance(error := future.exception(), DataError)]
        for future in futures:
            if future.exception() is not None and not isinstance(future.exception(), DataError):
                future.result()
    if errors:
        others = f" (and {len(errors) - 1} more of {len(files)} files)" if len(errors) > 1 else ""
        raise DataError(f"{errors[0]}{others}")


def fetch(file: RawFile, folder: Path, patience: Patience, progress: Progress) -> Path:
    """Fetch one file; returns where it lies."""
    from filelock import FileLock

    target = folder / file.path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock")):
            if not target.exists():
                _make_room(file, target)
                _try_mirrors(_Transfer(file, target, progress), patience)
                _remember(file, folder)
    except OSError as error:
        raise DataError(f"{file.path} cannot be written to {target.parent} ({error})") from None
    return target


def recorded(folder: Path, file: RawFile, sha256: str) -> bool:
    """Whether this content is what an earlier download of the file recorded (for files without a published one)."""
    with suppress(OSError, ValueError, AttributeError):
        return bool(json.loads((folder / RECORD).read_text(encoding="utf-8")).get(file.path) == sha256)
    return False


def _try_mirrors(transfer: _Transfer, patience: Patience) -> None:
    """Rounds over all mirrors, with longer and longer waits between them."""
    problems: dict[str, str] = {}
    wrong: set[str] = set()
    unreachable = 0
    for round_number in range(patience.rounds):
        wait, answered = 0.0, False
        for url in [url for url in transfer.file.urls if url not in wrong]:
            try:
                return transfer.run(url, patience)
            except _WrongError as problem:
                problems[url], answered = str(problem), True
                wrong.add(url)
            except _CutError as problem:
                problems[url], wait = str(problem), max(wait, problem.wait)
                answered = answered or problem.answered
        unreachable = 0 if answered else unreachable + 1
        if len(wrong) == len(transfer.file.urls) or unreachable == patience.unreachable_rounds:
            break
        if round_number + 1 < patience.rounds:
            time.sleep(min(max(wait, patience.backoff * 2**round_number), patience.longest_wait))
    listed = "; ".join(f"{url}: {problem}" for url, problem in problems.items())
    raise DataError(f"{transfer.file.path} could not be downloaded ({listed})")


class _Transfer:
    """One file on its way: what is there so far lies in `<name>.part`, its origin in `<name>.part.json`."""

    def __init__(self, file: RawFile, target: Path, progress: Progress) -> None:
        self.file, self.target, self.progress = file, target, progress
        self.part = target.with_name(f"{target.name}.part")
        self.origin = target.with_name(f"{target.name}.part.json")

    def run(self, url: str, patience: Patience) -> None:
        """Get what is missing from one mirror, check, put in place. Raises _WrongError or _CutError."""
        import requests

        timeout = (patience.connect_seconds, patience.silence_seconds)
        try:
            with requests.get(url, headers=self._headers(url), stream=True, timeout=timeout) as answer:
                total = self._prepare(answer, url)
                self._receive(answer, total)
        except (requests.ConnectionError, requests.Timeout) as error:
            reached = self.part.exists() and self.part.stat().st_size > 0
            raise _CutError(_short(error), answered=reached) from None
        except requests.RequestException as error:
            raise _CutError(_short(error)) from None
        self._check()
        self.part.replace(self.target)
        self.origin.unlink(missing_ok=True)

    def _headers(self, url: str) -> dict[str, str]:
        """Ask for the rest where a part is there and can only be continued by the same content."""
        plain = {"Accept-Encoding": "identity"}
        if not self.part.exists() or self.part.stat().st_size == 0:
            return plain
        stored = {}
        with suppress(OSError, ValueError):
            stored = json.loads(self.origin.read_text(encoding="utf-8"))
        validator = stored.get("validator") if stored.get("url") == url else None
        if validator is None and not self.file.pinned:
            self._restart()  # nothing could tell whether both halves belong together
            return plain
        headers = {**plain, "Range": f"bytes={self.part.stat().st_size}-"}
        return {**headers, "If-Range": validator} if validator else headers

    def _prepare(self, answer: requests.Response, url: str) -> int | None:
        """Judge the answer, set the part to where it begins; returns the size of the whole where it is known."""
        have = self.part.stat().st_size if self.part.exists() else 0
        if answer.status_code in (429, 500, 502, 503, 504):
            raise _CutError(f"status {answer.status_code}", _seconds(answer.headers.get("Retry-After")))
        if answer.status_code == 416:
            self._restart()
            raise _CutError("the server refused to continue; starting over")
        if answer.status_code == 206 and _range_start(answer) != have:
            self._restart()
            raise _CutError("the server continued at another place; starting over")
        if answer.status_code not in (200, 206):
            raise _WrongError(f"status {answer.status_code}")
        if answer.status_code == 200:
            self._restart()
            have = 0
            validator = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
            strong = validator if validator and not validator.startswith("W/") else None
            self.origin.write_text(json.dumps({"url": url, "validator": strong}), encoding="utf-8")
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        if total is not None and self.file.size is not None and total != self.file.size:
            self._restart()
            raise _WrongError(f"offers {total} bytes, the published file has {self.file.size}")
        return total

    def _receive(self, answer: requests.Response, total: int | None) -> None:
        with self.part.open("ab") as file:
            for block in answer.iter_content(BLOCK):
                file.write(block)
                self.progress(self.file.path, file.tell(), total)
        have = self.part.stat().st_size
        if total is not None and have < total:
            raise _CutError(f"cut off after {have} of {total} bytes")

    def _check(self) -> None:
        size = self.part.stat().st_size
        problem = None
        if self.file.size is not None and size != self.file.size:
            problem = f"{size} bytes, the published file has {self.file.size}"
        elif self.file.pinned:
            algorithm, expected = ("sha256", self.file.sha256) if self.file.sha256 else ("md5", self.file.md5)
            digest = content_digest(self.part, algorithm)[0]
            problem = None if digest == expected else f"{algorithm} {digest}, published is {expected}"
        if problem:
            self._restart()
            raise _WrongError(f"sent other bytes: {problem}")

    def _restart(self) -> None:
        self.part.unlink(missing_ok=True)
        self.origin.unlink(missing_ok=True)


class Printed:
    """Progress as lines on standard error, for each file at most one in five seconds."""

    def __init__(self, every_seconds: float = 5.0) -> None:
        self._every, self._shown = every_seconds, dict[str, float]()

    def __call__(self, path: str, have: int, total: int | None) -> None:
        """Show how far a file is."""
        now = time.monotonic()
        if now - self._shown.setdefault(path, now) < self._every:
            return
        self._shown[path] = now
        share = f" of {total / 1e6:.0f} MB ({have / total:.0%})" if total else " MB"
        print(f"{path}: {have / 1e6:.0f}{share}", file=sys.stderr, flush=True)


def _make_room(file: RawFile, target: Path) -> None:
    free = shutil.disk_usage(target.parent).free
    if file.size is not None and file.size > free:
        raise DataError(
            f"{file.path} needs {file.size} bytes, {target.parent} has {free} left; free some space"
        )


def _remember(file: RawFile, folder: Path) -> None:
    """Record the checksum of a first download where none is published."""
    if file.pinned:
        return
    from filelock import FileLock

    with FileLock(folder / f"{RECORD}.lock"):
        known: dict[str, str] = {}
        with suppress(OSError, ValueError):
            known = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        known[file.path] = content_digest(folder / file.path)[0]
        aside = folder / f"{RECORD}.tmp"
        aside.write_text(json.dumps(known, indent=1), encoding="utf-8")
        aside.replace(folder / RECORD)


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after and retry_after.isdigit() else 0.0


def _range_start(answer: requests.Response) -> int:
    """Where a partial answer begins, from `Content-Range: bytes 10-99/100`; -1 where it does not say."""
    first = answer.headers.get("Content-Range", "").removeprefix("bytes ").split("-")[0]
    return int(first) if first.isdigit() else -1


def _short(error: Exception) -> str:
    text = str(error)
    for known in ("Name or service not known", "Temporary failure in name resolution", "Failed to resolve"):
        if known in text:
            return "the host's name cannot be resolved; is there a network?"
    return f"{type(error).__name__}: {text[:200]}"
