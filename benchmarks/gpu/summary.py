"""What the campaign found, on at most sixty lines."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.gpu import results

MOST_LINES = 60


def write(out: Path, contents: Path) -> str:
    """Writes summary.md from the results so far; returns its text."""
    lines = [*_head(out, contents), *_tests(out), *_losses(out), *_training(out), *_cells(out), *_study(out)]
    text = "\n".join(lines[:MOST_LINES]) + "\n"
    (out / "summary.md").write_text(text, encoding="utf-8")
    return text


def _lines(out: Path, step: str) -> list[dict[str, Any]]:
    return list(results.read(out / results.FILE, step))


def _head(out: Path, contents: Path) -> list[str]:
    commit = json.loads(contents.read_text(encoding="utf-8"))["commit"] if contents.exists() else None
    machine = (_lines(out, "machine") or [{}])[-1]
    steps = ", ".join(f"{s['name']} {s['state']} {s['seconds']:.0f} s" for s in _lines(out, "step"))
    ceilings = ", ".join(
        f"{c['what']} {c['value'] / 1e12:.2f} {'TB/s' if c['unit'] == 'B/s' else 'TFLOP/s'}"
        for c in _lines(out, "ceiling")
    )
    return [
        f"# {machine.get('device')}, torch {machine.get('torch')}, Python {machine.get('python')}, commit {commit}",
        f"steps: {steps}",
        f"ceilings: {ceilings}",
    ]


def _tests(out: Path) -> list[str]:
    entries = _lines(out, "tests")
    count = Counter(test["outcome"] for test in entries)
    failed = [test for test in entries if test["outcome"] == "failed"]
    return [
        f"tests: {', '.join(f'{n} {outcome}' for outcome, n in count.items()) or 'none'}",
        *(f"  FAILED {t['test'].removeprefix('tests/gpu/')}: {t['message'][:110]}" for t in failed[:12]),
        *([f"  ... and {len(failed) - 12} more"] if len(failed) > 12 else []),
    ]


def _losses(out: Path) -> list[str]:
    entries = _lines(out, "losses")
    if not entries:
        return []
    lines = [f"losses: {len(entries)} cases; loss, form, B, L: ms, MB, share of the ceiling"]
    chosen = [f for f in entries if f.get("loss") in ("mulsupcon", "supcon_any", "reg")]
    largest = sorted(chosen, key=lambda f: (-f["rows"], -f["labels"]))[:14]
    for f in largest:
        cost = (
            f"{1e3 * f['seconds']:.2f} ms, {f['megabytes']:.0f} MB"
            if f.get("seconds")
            else f.get("reason", "-")
        )
        share = (
            f", {f['fp32_share']:.0%} of fp32, {f['tf32_share']:.0%} of tf32" if f.get("fp32_share") else ""
        )
        lines.append(f"  {f['loss']} {f['form']} {f['rows']} x {f['labels']}: {cost}{share}")
    return lines


def _training(out: Path) -> list[str]:
    return [
        f"  training {f['case']}: {f['examples_per_second']:.0f} examples/s, loss {f['loss_share']:.1%}, "
        f"data {f['data_share']:.1%}, {f['flop_rate_share']:.1%} of the rate"
        for f in _lines(out, "training")
    ]


def _cells(out: Path) -> list[str]:
    return [
        f"  cells, {f['at_once']} at once: {f['cells']} made, {f['failed']} failed, {f['per_minute']} a minute"
        for f in _lines(out, "cells")
    ]


def _study(out: Path) -> list[str]:
    entries = _lines(out, "study")
    if not entries:
        return []
    count = Counter(cell["status"] for cell in entries)
    lines = [f"study: {', '.join(f'{n} {status}' for status, n in count.items())}; test mAP, mean over seeds"]
    rows: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell in entries:
        dataset, _, loss, *_ = cell["cell"].split("/")
        if cell.get("map") is not None:
            rows[loss][dataset].append(cell["map"])
    lines += [
        f"  {loss}: "
        + ", ".join(f"{name} {mean(v):.3f} ({len(v)})" for name, v in sorted(by_dataset.items()))
        for loss, by_dataset in rows.items()
    ]
    reasons = Counter(
        cell["reason"].splitlines()[-1][:110] for cell in entries if cell["status"] != "ok" and cell["reason"]
    )
    return lines + [f"  {n} x {reason}" for reason, n in reasons.most_common(3)]
