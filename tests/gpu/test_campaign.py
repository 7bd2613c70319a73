"""The campaign on a GPU machine: what is carried, and that what it writes can be read however early it ends."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path

import pytest

from benchmarks.gpu import packages, results, summary
from benchmarks.gpu.campaign import Campaign, Step, steps
from benchmarks.gpu.cells import Archives

ROOT = Path(__file__).parents[2]

BLOCKED = """
    import importlib, importlib.metadata, pkgutil, sys
    from benchmarks.gpu import packages

    provided = importlib.metadata.packages_distributions()
    there, carried = packages.on_the_machine(), packages.missing().keys()

    def lies_in(top, distributions):
        return any(packages.normalised(name) in distributions for name in provided.get(top, ()))

    def is_ours(top):
        return top in ("mlcl", "data_prep", "benchmarks", "__main__") or lies_in(top, carried)

    class Blocker:
        # What the machine has imports what the machine's version of it needs: only our imports are judged.
        def find_spec(self, name, path=None, target=None):
            frame, top = sys._getframe(1), name.partition(".")[0]
            while "importlib" in frame.f_code.co_filename and frame.f_back:
                frame = frame.f_back
            asked = frame.f_globals.get("__name__", "__main__").partition(".")[0]
            known = top in sys.stdlib_module_names or is_ours(top) or lies_in(top, there)
            if is_ours(asked) and top in provided and not known:
                raise ModuleNotFoundError(f"{name} is not on the machine and is not carried")
            return None

    for name in [n for n in sys.modules if lies_in(n.partition(".")[0], set(packages.NOT_NEEDED))]:
        del sys.modules[name]
    sys.meta_path.insert(0, Blocker())
    for package in ("data_prep", "mlcl"):
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    for module in ("machine", "loss_sweep", "cells", "campaign", "summary"):
        importlib.import_module("benchmarks.gpu." + module)
    try:
        import snakemake
    except ModuleNotFoundError as error:
        print(error)
"""


def test_everything_is_imported_with_what_the_machine_has_and_what_is_carried() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(BLOCKED)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "snakemake is not on the machine" in done.stdout, "the block does not block"


def test_what_is_carried_is_what_the_machine_does_not_have() -> None:
    carried = packages.missing()
    assert {"pydantic", "pydantic-core", "iterative-stratification"} <= carried.keys()
    assert not carried.keys() & packages.on_the_machine()
    assert not carried.keys() & packages.NOT_NEEDED.keys()


def test_an_import_that_nothing_provides_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "imported_modules", lambda: {"no_such_module"})
    with pytest.raises(LookupError, match="imports no_such_module"):
        packages.missing()


def test_lines_of_a_step_are_read_but_for_one_that_was_cut_off(tmp_path: Path) -> None:
    file = tmp_path / results.FILE
    results.add(file, "cells", at_once=1)
    results.add(file, "step", name="cells")
    with file.open("a") as stream:
        stream.write('{"step": "cells", "at_on')
    assert list(results.read(file, "cells")) == [{"step": "cells", "at_once": 1}]
    assert list(results.read(tmp_path / "none", "cells")) == []


def test_records_go_into_archives_of_a_size_that_may_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.gpu.cells.ARCHIVE_BYTES", 40_000)
    for number in range(12):
        folder = tmp_path / "work" / f"cell{number}"
        folder.mkdir(parents=True)
        (folder / "scores.npz").write_bytes(bytes(15_000))
    archives = Archives(tmp_path)
    stored = [archives.add(tmp_path / "work", f"cell{number}") for number in range(12)]
    files = sorted(tmp_path.glob("records-*.tar"))
    names = []
    for file in files:
        with tarfile.open(file) as archive:
            names += [name for name in archive.getnames() if name.endswith("npz")]
    assert len(files) == 5
    assert len(names) == sum(stored) == 10
    assert all(file.stat().st_size < 60_000 for file in files)


def test_steps_that_are_over_their_time_are_ended_and_the_summary_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.gpu.campaign.LEAST_SECONDS", 0.5)
    slow = "import time; print('begun', flush=True); time.sleep(60)"
    given = [
        ("good", "print('hello')", 0.5),
        ("bad", "raise SystemExit(3)", 0.5),
        ("slow", slow, 0.3),
    ]
    monkeypatch.setattr(
        "benchmarks.gpu.campaign.steps",
        lambda *_: [Step(name, ["-c", code], share) for name, code, share in given],
    )
    (tmp_path / "contents.json").write_text(json.dumps({"commit": "abc"}))
    out = tmp_path / "out"
    for number in range(100):
        out.mkdir(exist_ok=True)
        results.add(out / results.FILE, "tests", test=f"t{number}", outcome="failed", message="no", seconds=0)
    Campaign(tmp_path, out, 6.0, "cpu", quick=True).run()
    states = [line["state"] for line in results.read(out / results.FILE, "step")]
    assert states == ["ok", "exit code 3", "over its time"]
    text = (out / "summary.md").read_text()
    assert "commit abc" in text
    assert "100 failed" in text
    assert len(text.splitlines()) <= summary.MOST_LINES
    assert "begun" in (out / "log.txt").read_text()


def test_the_steps_are_those_of_the_documentation() -> None:
    names = [step.name for step in steps(Path("w"), Path("o"), "cuda", quick=False)]
    text = (ROOT / "docs/gpu.md").read_text()
    assert [name for name in names if f"| `{name}` |" not in text] == []
