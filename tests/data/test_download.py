"""Downloads from a server on this machine that misbehaves in every way we know."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from data_prep import DataError
from data_prep.download import Patience, download, recorded
from data_prep.source import RawFile

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PATIENCE = Patience(rounds=6, backoff=0.01, longest_wait=0.05, connect_seconds=2, silence_seconds=2)


class Server(ThreadingHTTPServer):
    """Serves CONTENT; the path says how it misbehaves. `seen` holds (path, Range header) of every request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str | None]] = []
        self.closing = False
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def requests_of(self, path: str) -> list[str | None]:
        return [ranges for seen, ranges in self.seen if seen == path]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        ranges = self.headers.get("Range")
        self.server.seen.append((self.path, ranges))
        count = len(self.server.requests_of(self.path))
        start = int(ranges.removeprefix("bytes=").rstrip("-")) if ranges else 0
        match self.path:
            case "/missing":
                self.answer(404, b"")
            case "/busy" if count < 3:
                self.answer(503, b"busy", {"Retry-After": "0"})
            case "/elsewhere":
                self.answer(302, b"", {"Location": "/good"})
            case "/wrong":
                self.answer(200, CONTENT[:-1] + b"X")
            case "/error-page":
                self.answer(200, b"<html>please log in</html>")
            case "/cut" | "/changed" if count < 4:
                etag = f'"{count}"' if self.path == "/changed" else '"same"'
                self.partial(0 if self.path == "/changed" else start, etag, cut_after=300_000)
            case "/cut-no-ranges" if count < 3:
                self.partial(0, None, cut_after=300_000)
            case "/lies":
                self.partial(start, '"same"', cut_after=300_000 if count == 1 else None, claimed=start and 5)
            case "/endless":
                self.drip(block=b"x" * 4096, pause=0.0)
            case "/drip":
                self.drip(block=b"x", pause=0.02)
            case "/slow-headers":
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                self.drip_raw(b"X-Slow: 1\r\n", pause=0.05)
            case "/packed":
                self.answer(200, CONTENT, {"Content-Encoding": "gzip"})
            case "/cut-no-ranges" | "/changed":
                self.answer(200, CONTENT)
            case _:
                self.partial(start, '"same"')

    def drip(self, block: bytes, pause: float) -> None:
        """An answer of unknown length that does not end."""
        self.send_response(200)
        self.end_headers()
        self.drip_raw(block, pause)

    def drip_raw(self, block: bytes, pause: float) -> None:
        self.close_connection = True
        with suppress(OSError):
            while not self.server.closing:
                self.wfile.write(block)
                self.wfile.flush()
                time.sleep(pause)

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def partial(
        self, start: int, etag: str | None, cut_after: int | None = None, claimed: int | None = None
    ) -> None:
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        if etag:
            self.send_header("ETag", etag)
        if start:
            self.send_header("Content-Range", f"bytes {claimed or start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.end_headers()
        self.wfile.write(CONTENT[start:][:cut_after])
        if cut_after:
            self.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield running
    running.closing = True
    running.shutdown()
    running.server_close()


def published(server: Server, *paths: str, name: str = "file.bin") -> RawFile:
    return RawFile(name, tuple(f"{server.url}{path}" for path in paths), len(CONTENT), SHA256)


def unpublished(server: Server, *paths: str, name: str = "file.bin") -> RawFile:
    return RawFile(name, tuple(f"{server.url}{path}" for path in paths))


def get(files: list[RawFile], folder: Path) -> None:
    download(files, folder, PATIENCE, progress=lambda *_: None)


@pytest.mark.parametrize(
    "path", ["/good", "/elsewhere", "/busy", "/cut", "/cut-no-ranges", "/changed", "/lies"]
)
@pytest.mark.parametrize("pinned", [True, False])
def test_the_file_arrives_whatever_the_server_does(
    server: Server, tmp_path: Path, path: str, pinned: bool
) -> None:
    get([(published if pinned else unpublished)(server, path)], tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert not list(tmp_path.glob("*.part*"))


def test_a_cut_transfer_is_resumed_where_it_broke_off(server: Server, tmp_path: Path) -> None:
    get([published(server, "/cut")], tmp_path)
    first, *others = server.requests_of("/cut")
    assert first is None
    starts = [int(str(ranges).removeprefix("bytes=").rstrip("-")) for ranges in others]
    assert len(starts) == 3
    assert starts == sorted(starts)
    assert starts[0] > 200_000  # at most a block of what had arrived is asked for again


def test_a_part_of_an_earlier_run_is_resumed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1000])
    get([published(server, "/good")], tmp_path)
    assert server.requests_of("/good") == ["bytes=1000-"]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_part_that_does_not_fit_is_given_up(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(b"other bytes")
    get([published(server, "/good", "/elsewhere")], tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("path", ["/wrong", "/error-page", "/missing"])
def test_a_bad_mirror_is_left_for_the_next(server: Server, tmp_path: Path, path: str) -> None:
    get([published(server, path, "/good")], tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert len(server.requests_of(path)) == 1


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/wrong", "sent other bytes: sha256"), ("/error-page", "offers"), ("/missing", "status 404")],
)
def test_wrong_bytes_never_take_the_files_place(
    server: Server, tmp_path: Path, path: str, reason: str
) -> None:
    with pytest.raises(
        DataError, match=rf"file\.bin could not be downloaded \({server.url}{path}: .*{reason}"
    ):
        get([published(server, path)], tmp_path)
    assert [file.name for file in tmp_path.iterdir() if not file.name.endswith(".lock")] == []


def test_a_good_file_is_left_alone(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(b"mine")
    get([published(server, "/good")], tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == b"mine"
    assert server.seen == []


def test_no_network_is_found_out_in_a_moment(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(DataError, match="could not be downloaded"):
        download([RawFile("file.bin", ("http://127.0.0.1:9/file.bin",))], tmp_path, progress=lambda *_: None)
    assert time.monotonic() - start < 5


def test_several_files_come_in_parallel_and_one_that_fails_is_named(server: Server, tmp_path: Path) -> None:
    files = [published(server, "/good", name=f"sub/{number}.bin") for number in range(5)]
    with pytest.raises(DataError, match=r"sub/bad\.bin could not"):
        get([*files, published(server, "/missing", name="sub/bad.bin")], tmp_path)
    assert sorted(path.name for path in (tmp_path / "sub").glob("*.bin")) == [
        f"{number}.bin" for number in range(5)
    ]


def test_two_processes_do_not_fetch_twice(server: Server, tmp_path: Path) -> None:
    file = published(server, "/good")
    threads = [threading.Thread(target=get, args=([file], tmp_path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests_of("/good")) == 1


def test_the_checksum_of_a_first_download_is_recorded(server: Server, tmp_path: Path) -> None:
    file = unpublished(server, "/good")
    get([file], tmp_path)
    assert recorded(tmp_path, file, SHA256)
    assert not recorded(tmp_path, file, "0" * 64)
    assert not recorded(tmp_path / "nowhere", file, SHA256)


def test_a_full_disk_is_noticed_before_anything_is_fetched(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shutil import _ntuple_diskusage

    monkeypatch.setattr("shutil.disk_usage", lambda _: _ntuple_diskusage(10, 5, 5))
    with pytest.raises(DataError, match=r"needs 1024000 bytes, .* has 5 left"):
        get([published(server, "/good")], tmp_path)
    assert server.seen == []


def test_a_folder_that_cannot_be_written_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot be written to .*file"):
        get([published(server, "/good")], tmp_path / "file")


def test_a_dataset_is_downloaded_and_its_plan_stays_valid(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way: plan without files, download, prepare, plan again."""
    import data_prep
    from data_prep.sources import goemotions

    texts = {
        "/train.tsv": b"a\t0\t1\n",
        "/dev.tsv": b"b\t1\t2\n",
        "/test.tsv": b"c\t0\t3\n",
        "/emotions.txt": b"joy\nanger",
    }

    def serve(handler: Handler) -> None:
        server.seen.append((handler.path, None))
        handler.answer(200, texts[handler.path])

    monkeypatch.setattr(Handler, "do_GET", serve)
    monkeypatch.setenv("MLCL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLCL_OFFLINE", raising=False)
    for name in ("TRAIN", "VAL", "TEST", "EMOTIONS"):
        path = getattr(goemotions, name).path
        file = RawFile(path, (f"{server.url}/{Path(path).name}",))
        monkeypatch.setattr(goemotions, name, file)
    root = tmp_path / "raw"
    recipe = data_prep.plan("goemotions", {}, root, accept_local=False)
    data_prep.prepare(recipe, root, tmp_path / "out")
    assert data_prep.plan("goemotions", {}, root, accept_local=False).fingerprint == recipe.fingerprint
    assert len(server.seen) == 4
    (root / "goemotions/data/dev.tsv").write_bytes(b"d\t1\t2\n")
    assert data_prep.plan("goemotions", {}, root, accept_local=False).fingerprint != recipe.fingerprint


LIMITED = Patience(
    rounds=2, backoff=0.01, connect_seconds=2, silence_seconds=2, answer_seconds=0.5, total_seconds=2.0,
    slow_seconds=0.3, slow_bytes=1000, most_bytes=200_000,
)  # fmt: skip


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/endless", "sends more than"),
        ("/drip", r"only \d+ bytes in"),
        ("/slow-headers", "no complete answer within"),
        ("/packed", "sends gzip"),
    ],
)
def test_a_transfer_is_bounded_in_bytes_and_time(
    server: Server, tmp_path: Path, path: str, reason: str, pinned: bool
) -> None:
    file = RawFile("file.bin", (f"{server.url}{path}",), 5000 if pinned and path == "/endless" else None)
    start = time.monotonic()
    with pytest.raises(DataError, match=reason):
        download([file], tmp_path, LIMITED, progress=lambda *_: None)
    assert time.monotonic() - start < 8
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 210_000


@pytest.mark.parametrize("damage", ["flipped", "longer", "unnoted"])
def test_a_damaged_part_is_not_completed(server: Server, tmp_path: Path, damage: str) -> None:
    """Of a file without a published checksum nothing else would tell."""
    once = Patience(rounds=1, connect_seconds=2, silence_seconds=2)
    with pytest.raises(DataError, match="could not be downloaded"):
        download([unpublished(server, "/cut")], tmp_path, once, progress=lambda *_: None)
    part, noted = tmp_path / "file.bin.part", tmp_path / "file.bin.part.json"
    arrived = part.read_bytes()
    assert json.loads(noted.read_text(encoding="utf-8"))["bytes"] == len(arrived)
    if damage == "flipped":
        part.write_bytes(arrived[:1000] + bytes([arrived[1000] ^ 1]) + arrived[1001:])
    elif damage == "longer":
        part.write_bytes(arrived + b"half a block")
    else:
        noted.unlink()
    get([unpublished(server, "/cut")], tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    resumed = server.requests_of("/cut")[1]
    assert resumed == (f"bytes={len(arrived)}-" if damage == "longer" else None)
