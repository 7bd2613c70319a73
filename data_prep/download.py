"""Gets published files over HTTP: resumed after a cut, retried, checked, and only then put in place.

Whatever a server sends, a transfer is bounded: in bytes (the published size, what the answer states, or
`Patience.most_bytes`), in time (`Patience.total_seconds`), and in how slow it may be.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.checksums import content_digest
from data_prep.errors import DataError
from data_prep.source import RawFile

if TYPE_CHECKING:
    import requests

RECORD = ".downloads.json"
BLOCK = 1 << 16
CHECKPOINT = 1 << 23  # bytes after which the hash of what has arrived is written down
AT_ONCE = 3  # files fetched in parallel

Progress = Callable[[str, int, int | None], None]
"""Called with a file's path, the bytes that are there, and the bytes of the whole where they are known."""


@dataclass(frozen=True)
class Patience:
    """How hard to try.

    Attributes:
        rounds: over all mirrors; `backoff` seconds before the second one, doubled each time up to `longest_wait`.
        connect_seconds, silence_seconds: timeouts of a connection, and of a server that sends nothing.
        answer_seconds: until the headers of an answer are complete.
        total_seconds: for one file, all rounds together.
        slow_seconds, slow_bytes: a transfer with less than this many bytes in this time is cut.
        most_bytes: of a file whose size neither we nor the server know.
        unreachable_rounds: after so many rounds in which no mirror even answered there is no network: give up.
    """

    rounds: int = 6
    backoff: float = 0.5
    longest_wait: float = 30.0
    connect_seconds: float = 5.0
    silence_seconds: float = 30.0
    answer_seconds: float = 120.0
    total_seconds: float = 12 * 3600.0
    slow_seconds: float = 60.0
    slow_bytes: int = 30_000
    most_bytes: int = 1 << 37
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
    deadline = time.monotonic() + patience.total_seconds
    for round_number in range(patience.rounds):
        wait, answered = 0.0, False
        for url in [url for url in transfer.file.urls if url not in wrong]:
            try:
                return transfer.run(url, patience, deadline)
            except _WrongError as problem:
                problems[url], answered = str(problem), True
                wrong.add(url)
            except _CutError as problem:
                problems[url], wait = str(problem), max(wait, problem.wait)
                answered = answered or problem.answered
        unreachable = 0 if answered else unreachable + 1
        if len(wrong) == len(transfer.file.urls) or unreachable == patience.unreachable_rounds:
            break
        if time.monotonic() > deadline:
            problems["all mirrors"] = f"not finished within {patience.total_seconds:.0f} seconds"
            break
        if round_number + 1 < patience.rounds:
            time.sleep(min(max(wait, patience.backoff * 2**round_number), patience.longest_wait))
    listed = "; ".join(f"{url}: {problem}" for url, problem in problems.items())
    raise DataError(f"{transfer.file.path} could not be downloaded ({listed})")


class _Transfer:
    """One file on its way: what is there so far lies in `<name>.part`.

    `<name>.part.json` says where it comes from, and how many of its bytes have which hash: a part that was damaged
    since is not completed.
    """

    def __init__(self, file: RawFile, target: Path, progress: Progress) -> None:
        self.file, self.target, self.progress = file, target, progress
        self.part = target.with_name(f"{target.name}.part")
        self.origin = target.with_name(f"{target.name}.part.json")
        self._source: dict[str, str | None] = {}
        self._hash = hashlib.sha256()

    def run(self, url: str, patience: Patience, deadline: float) -> None:
        """Get what is missing from one mirror, check, put in place. Raises _WrongError or _CutError."""
        import requests
        import urllib3

        try:
            with _answer(url, self._headers(url), patience) as answer:
                total = self._prepare(answer, url)
                self._receive(answer, total, patience, deadline)
        except (requests.ConnectionError, requests.Timeout) as error:
            reached = self.part.exists() and self.part.stat().st_size > 0
            raise _CutError(_short(error), answered=reached) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            raise _CutError(_short(error)) from None
        self._check()
        self.part.replace(self.target)
        self.origin.unlink(missing_ok=True)

    def _headers(self, url: str) -> dict[str, str]:
        """Ask for the rest where a part is there, is undamaged, and can only be continued by the same content."""
        plain = {"Accept-Encoding": "identity"}
        if not self.part.exists() or self.part.stat().st_size == 0:
            return plain
        stored: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            stored = json.loads(self.origin.read_text(encoding="utf-8"))
        validator = stored.get("validator") if stored.get("url") == url else None
        if (validator is None and not self.file.pinned) or not self._is_undamaged(stored):
            self._restart()  # nothing could tell whether both halves belong together
            return plain
        self._source = {"url": stored.get("url"), "validator": stored.get("validator")}
        headers = {**plain, "Range": f"bytes={self.part.stat().st_size}-"}
        return {**headers, "If-Range": validator} if validator else headers

    def _is_undamaged(self, stored: Mapping[str, Any]) -> bool:
        """Whether the part has the hash that was written down; bytes that came after that are cut off.

        Without such a note the checksum of the whole decides in the end, where one is published.
        """
        size = stored.get("bytes", self.part.stat().st_size if self.file.pinned else None)
        if not isinstance(size, int) or not 0 < size <= self.part.stat().st_size:
            return False
        with self.part.open("rb+") as file:
            file.truncate(size)
            self._hash = hashlib.sha256()
            while block := file.read(BLOCK):
                self._hash.update(block)
        return "bytes" not in stored or self._hash.hexdigest() == stored.get("sha256")

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
            self._source = {"url": url, "validator": strong}
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise _WrongError(f"sends {answer.headers['Content-Encoding']}, plain content was asked for")
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        if total is not None and self.file.size is not None and total != self.file.size:
            self._restart()
            raise _WrongError(f"offers {total} bytes, the published file has {self.file.size}")
        if total is not None and total - have > shutil.disk_usage(self.part.parent).free:
            raise _WrongError(f"offers {total} bytes, more than the free space of {self.part.parent}")
        return total

    def _receive(
        self, answer: requests.Response, total: int | None, patience: Patience, deadline: float
    ) -> None:
        known = self.file.size if self.file.size is not None else total
        most = known if known is not None else patience.most_bytes
        pace = _Pace(patience)
        with self.part.open("ab") as file:
            written = have = file.tell()
            try:
                while block := answer.raw.read1(BLOCK, decode_content=False):
                    have += len(block)
                    if have > most:
                        break
                    file.write(block)
                    self._hash.update(block)
                    if have - written >= CHECKPOINT:
                        file.flush()
                        written = self._note(have)
                    self.progress(self.file.path, have, total)
                    pace.check(len(block))
                    if time.monotonic() > deadline:
                        raise _CutError(f"not finished within {patience.total_seconds:.0f} seconds")
            finally:
                file.flush()
                if have <= most:
                    self._note(file.tell())
        if have > most:
            self._restart()
            raise _WrongError(f"sends more than {most} bytes")
        if total is not None and have < total:
            raise _CutError(f"cut off after {have} of {total} bytes")

    def _note(self, size: int) -> int:
        """Write down that the first `size` bytes of the part have this hash."""
        noted = {**self._source, "bytes": size, "sha256": self._hash.hexdigest()}
        aside = self.origin.with_name(f"{self.origin.name}.new")
        aside.write_text(json.dumps(noted), encoding="utf-8")
        aside.replace(self.origin)
        return size

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
        self._hash = hashlib.sha256()


class _Pace:
    """Cuts a transfer that is alive and does not come forward."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._since, self._bytes = time.monotonic(), 0

    def check(self, received: int) -> None:
        """Count bytes. Raises _CutError where too few arrived in the last stretch of time."""
        self._bytes += received
        seconds = time.monotonic() - self._since
        if seconds < self._patience.slow_seconds:
            return
        if self._bytes < self._patience.slow_bytes:
            raise _CutError(f"only {self._bytes} bytes in {seconds:.0f} seconds")
        self._since, self._bytes = time.monotonic(), 0


def _answer(url: str, headers: Mapping[str, str], patience: Patience) -> requests.Response:
    """The answer once its headers are there. Timeouts of a socket start anew with each byte: a thread does not."""
    import requests

    found: list[requests.Response | Exception] = []
    timeout = (patience.connect_seconds, patience.silence_seconds)

    def ask() -> None:
        try:
            found.append(requests.get(url, headers=dict(headers), stream=True, timeout=timeout))
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(patience.answer_seconds)
    if not found:
        raise _CutError(f"no complete answer within {patience.answer_seconds:.0f} seconds")
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


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
