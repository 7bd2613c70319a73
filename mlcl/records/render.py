"""A record in words: what was trained, how it ended, what it cost (`mlcl show`)."""

from __future__ import annotations

from pathlib import Path

from mlcl.errors import RecordError
from mlcl.records.diagnosis import edges, untrained
from mlcl.records.nested import flatten
from mlcl.records.record import FILES, RECORD, Record, read_record
from mlcl.records.status import duration

SHOWN = ("micro_f1", "macro_f1", "micro_f1_tuned", "macro_f1_tuned", "map", "ece")
PARTS = ("dataset", "encoder", "loss", "training")


def show(path: Path) -> str:
    """The record in this folder, or of this `metrics.json`. Raises RecordError if there is none, or it is damaged."""
    file = path / RECORD if path.is_dir() else path
    try:
        record = read_record(file)
    except FileNotFoundError:
        raise RecordError(f"{file}: there is no record; give its folder, results/<study>/<cell>") from None
    return render(record, file.parent)


def render(record: Record, folder: Path) -> str:
    """Several lines; settings that are None are left out."""
    result, run = record.result, record.run
    lines = [f"{result['id']} of the study {result['study']}: {record.status}"]
    if record.reason:
        lines.append(f"  {record.reason}")
    lines.append(f"fingerprint  {record.fingerprint[:12]}, attempt {record.attempt}")
    settings = result.get("settings") or {}
    lines.append(f"protocol     {settings.get('protocol')}, seed {settings.get('seed', result.get('seed'))}")
    for part in PARTS:
        if values := flatten(settings.get(part) or {}):
            listed = ", ".join(f"{key} {value}" for key, value in values.items() if value is not None)
            lines.append(f"{part:<12} {listed}")
    if examples := (result.get("dataset") or {}).get("examples"):
        lines.append(f"{'rows':<12} {', '.join(f'{split} {count}' for split, count in examples.items())}")
    for readout, splits in record.metrics.items():
        for split, metrics in splits.items():
            values = {name: metrics[name] for name in SHOWN if metrics.get(name) is not None}
            chosen = values or dict(list(metrics.items())[:6])
            listed = ", ".join(f"{name} {value:.4f}" for name, value in chosen.items())
            lines.append(f"{readout + ', ' + split:<12} {listed} ({len(metrics)} in all)")
    lines += [f"remark       {text}" for text in (*untrained(record.diagnostics), *edges(record.diagnostics))]
    costs = [f"{duration(run['wall_seconds'])}"] if "wall_seconds" in run else []
    costs += [f"{run[key]:,.0f} MB {name}" for key, name in _MEMORY.items() if run.get(key)]
    where = [str(run[key]) for key in ("device", "host", "finished", "commit") if run.get(key)]
    lines.append(f"{'made':<12} {'; '.join([*costs, *where])}")
    lines.append(f"{'files':<12} {', '.join(name for name in FILES if (folder / name).exists())}")
    return "\n".join(lines)


_MEMORY = {"peak_memory_mb": "memory", "peak_device_memory_mb": "GPU memory"}
