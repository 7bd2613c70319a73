"""Where a study stands while it runs: what is shown, and that a look costs little."""

from __future__ import annotations

import os
import re
import time
from html.parser import HTMLParser

import pytest
from typer.testing import CliRunner

from mlcl.cli import app
from mlcl.records import live
from mlcl.records.live import PROGRESS, Watcher, read_progress, write_page
from mlcl.records.paths import CellId
from mlcl.records.running import Running
from tests.synthetic import edit_record

RUNNING = CellId("docs", "transformer", "reg", "base", 2)
WAITING = CellId("docs", "transformer", "reg", "base", 1)
FAILED = CellId("scenes", "cnn", "bce", "base", 0)


@pytest.fixture
def half_done(grid):
    grid.plan().make_all()
    for cell in (RUNNING, WAITING):
        grid.paths.record(cell).unlink()
    grid.fail(FAILED, "oom", "out of memory: <b>batch</b> of 64")
    return grid


def progress(grid, *lines):
    folder = grid.paths.unfinished(RUNNING)
    folder.mkdir(exist_ok=True)
    (folder / PROGRESS).write_text("".join(f"{line}\n" for line in lines))
    return folder


def test_a_look_tells_what_is_done_runs_failed_and_waits(half_done):
    with Running(progress(half_done, "1,2.5,30.0", "2,1.25,20.0")):
        look = Watcher(half_done.opened).look()
    assert (look.done, look.waiting, look.status.counts.failed) == (28, 1, 1)
    assert [one.cell for one in look.running] == [RUNNING]
    assert (look.running[0].losses, look.running[0].seconds_left) == ([2.5, 1.25], 20.0)
    text = look.render()
    assert re.search(rf"runs     {RUNNING}: \d+ s, epoch 2, loss 1\.2500, training 20 s left", text)
    assert f"failed   {FAILED}: oom: out of memory" in text
    assert "snakemake retry_failed --cores all --config study=config/tiny.yaml" in text
    assert "left     about" in text


def test_the_page_says_the_same_and_takes_no_text_for_markup(half_done, tmp_path):
    with Running(progress(half_done, "1,2.5,30.0", "2,1.25,20.0")):
        write_page(Watcher(half_done.opened).look(), tmp_path / "live.html", every=5)
    page = (tmp_path / "live.html").read_text()
    HTMLParser().feed(page)
    for part in (
        str(RUNNING),
        str(FAILED),
        "<polyline",
        "2.5 to 1.25 in 2 epochs",
        'content="5"',
        "retry_failed",
    ):
        assert part in page
    assert "<b>batch</b>" not in page
    assert "<script" not in page
    assert not re.search(r'(src|href)="', page)


def test_a_record_that_did_not_change_is_read_once(half_done, monkeypatch):
    read = []
    original = live.find_record
    monkeypatch.setattr(
        live, "find_record", lambda path, cell=None: read.append(path) or original(path, cell)
    )
    watcher = Watcher(half_done.opened)
    watcher.look()
    assert len(read) == 28
    read.clear()
    half_done.make(WAITING)
    assert watcher.look().done == 29
    assert read == [half_done.paths.record(WAITING)]


def test_the_rate_is_that_of_the_last_half_hour(half_done):
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 900))
    old = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 90000))
    cells = [cell for cell in half_done.cells() if half_done.paths.record(cell).exists()]
    for k, cell in enumerate(cells):
        edit_record(half_done.paths.cell(cell), "run", "finished", value=now if k < 10 else old)
    assert Watcher(half_done.opened).look().per_hour == pytest.approx(20, abs=0.1)


def test_cells_that_take_far_longer_than_their_like_are_named(half_done):
    edit_record(
        half_done.paths.cell(CellId("scenes", "cnn", "reg", "base", 1)), "run", "wall_seconds", value=500.0
    )
    slowest = Watcher(half_done.opened).look().slowest
    assert [str(cell) for cell, *_ in slowest] == ["scenes/cnn/reg/base/seed1"]


def test_progress_of_a_resumed_or_writing_cell(tmp_path):
    assert read_progress(tmp_path) == ([], None)
    (tmp_path / PROGRESS).write_text("1,2.0,9.0\n2,1.5,8.0\n2,1.4,8.0\n3,1.")
    assert read_progress(tmp_path) == ([2.0, 1.4], 8.0)


def test_watching_ends_when_all_is_done(grid):
    grid.plan().make_all()
    done = CliRunner().invoke(app, ["status", "tiny", "--watch", "--every", "0.1", "--as-planned"])
    assert done.exit_code == 0, done.output
    assert "30 of 30 (100 %)" in done.output
    assert grid.paths.live_page.exists()


def test_a_mark_that_a_dead_process_left_is_not_shown_as_running(half_done):
    folder = progress(half_done)
    with Running(folder):
        mark = (folder / "running.json").read_text()
    (folder / "running.json").write_text(mark.replace(str(os.getpid()), "999999999"))
    assert Watcher(half_done.opened).look().running == []
