"""What a study will cost: cells, examples, time and disk, each with what the figure rests on. Reads, never writes.

Time of a cell, best basis first:

    measured    records of the same dataset, encoder and protocol in this study's results (of a cell's own row where
                there are any): their wall time, scaled by the examples that training goes through
    computed    operations / (device_tflops x UTILISATION), but at least STEP_SECONDS for each step
    none        nothing is trained or encoded
    unknown     how many examples there are is known only when the dataset is prepared

Operations: each trained example costs three forward passes of the encoder (the backward pass is about two), a second
view or a micro batch one more; then every row is encoded once, and linear heads are trained. Texts count as long as
the encoder's `max_length` allows, so that their figure is an upper bound. Features of frozen encoders are computed once
per dataset and have a figure of their own, for texts from their lengths. Left out: augmentation, reading, the loss
(small for all encoders that need a GPU).

How many examples there are stands in `mlcl.study.sizes`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mlcl import encoders
from mlcl.machine import cores
from mlcl.records.paths import CellId
from mlcl.records.status import duration
from mlcl.study.sizes import FLOAT, Size, prepared_bytes, size_of, text_lengths
from mlcl.training.settings import CellSettings, ComputeSettings, EncoderPart

if TYPE_CHECKING:
    from mlcl.study.plan import Plan, PlannedCell

DEVICE_TFLOPS = 100.0
"""10^12 operations a second of a large matrix product: modest for one data-centre GPU at mixed precision, and taken
for any GPU; a CPU's is measured (`this_machine`). A record's `device_flops_per_second` says it of the machine that
made it."""
UTILISATION = 0.3
"""Share of that rate that training reaches: a cautious value for convolutional networks and transformers of the
papers' sizes. A record's `flops_per_second` / `device_flops_per_second` is the measured one."""
STEP_SECONDS = 0.005
"""What a step takes for each view, however small its network: hundreds of kernels or small products, one by one."""
FORWARD_AND_BACKWARD = 3
HALF = 2
"""Bytes of a stored feature."""
UNKNOWN_ROWS = 10_000
"""Training rows of a dataset that is not prepared and whose size is not published."""

START_UP_SECONDS = 4.0
"""What starting Python and importing torch takes in a process of a cell's own, before its record's clock runs: measured
as 4.3 CPU seconds on a shared machine. On one machine a warm worker (`mlcl.worker`) does it once for all cells."""

MANY = 0.05
"""Share of texts that are cut from which on the plan tells of it."""

HEADER = ("dataset", "encoder", "cells", "left", "training rows", "epochs", "a cell", "in all", "basis")

Basis = Literal["measured", "computed", "none", "unknown"]


@dataclass(frozen=True)
class CellEstimate:
    """Seconds of one device (of all of them together, where a cell uses several), and bytes on the disk."""

    seconds: float | None
    basis: Basis
    record_bytes: int | None
    checkpoint_bytes: int
    """Only while the cell is being made."""


@dataclass(frozen=True)
class Line:
    """The cells of one dataset and encoder."""

    dataset: str
    encoder: str
    size: Size | None
    cells: tuple[tuple[PlannedCell, CellEstimate], ...]

    @property
    def to_make(self) -> tuple[CellEstimate, ...]:
        return tuple(estimate for planned, estimate in self.cells if planned.state != "current")

    @property
    def estimates(self) -> tuple[CellEstimate, ...]:
        return tuple(estimate for _, estimate in self.cells)

    @property
    def epochs(self) -> list[int]:
        trained = [cell.cell.settings.training for cell, _ in self.cells]
        return sorted({training["epochs"] for training in trained if training is not None})


@dataclass(frozen=True)
class Comparison:
    """Of cells that are made: what they took, and what would have been said of them without their own records."""

    cells: int
    seconds: float
    said: float

    def render(self, basis: str) -> str:
        """`12 made cells took 3 min, said from records of others: 4 min (+33 %)`."""
        off = 100 * (self.said / self.seconds - 1)
        return f"{self.cells} made cells took {duration(self.seconds)}, {basis}: {duration(self.said)} ({off:+.0f} %)"


@dataclass(frozen=True)
class Estimate:
    """All lines of a study; what its prepared datasets take on disk (None: not known)."""

    lines: tuple[Line, ...]
    prepared_bytes: Mapping[str, int | None]
    device: Device
    features: tuple[CellEstimate, ...] = ()
    """Of frozen encoders, each computed once for all cells that are to be made."""
    cut: tuple[str, ...] = ()
    """What is told of texts that are cut."""
    from_records: Comparison | None = None
    """How far off times are that rest on records of other cells of the kind; None where there are none."""
    from_operations: Comparison | None = None
    """The same of computed times."""

    def render(self) -> str:
        """The table and the totals, as text."""
        rows = [_row(line) for line in self.lines]
        everything = [estimate for line in self.lines for estimate in line.estimates]
        to_make = [estimate for line in self.lines for estimate in line.to_make]
        rows.append(("all", "", str(len(everything)), str(len(to_make)), "", "", "", _sum(everything), ""))
        lines = [
            *_aligned([HEADER, *rows]),
            "",
            f"left to do: {len(to_make)} cells, {_sum(to_make)} of {self.device.name}"
            f"{self._side_by_side(to_make)}{_start_up(len(to_make))}",
        ]
        if self.features:
            lines.append(
                f"features of frozen encoders: {_sum(self.features)} besides, once for all cells of a dataset, and "
                "nothing where they are stored already"
            )
        lines.append("disk: " + ", ".join(self._disk(everything)))
        lines += self.cut
        if any(estimate.basis == "computed" for estimate in everything):
            lines.append(
                f"computed for {self.device.name}: operations at {self.device.tflops:g} TFLOP/s (a large matrix "
                f"product; --device-tflops sets it, {DEVICE_TFLOPS:g} for a GPU) x {self.device.utilisation:g} "
                "utilisation, texts of full length"
            )
        for comparison, basis in (
            (self.from_records, "said from the records of others of their kind"),
            (self.from_operations, "computed"),
        ):
            if comparison is not None:
                lines.append(f"how far off: {comparison.render(basis)}")
        if any("?" in line for line in lines):
            lines.append("unknown (?): until the dataset is prepared; sums are without it")
        return "\n".join(lines)

    def _side_by_side(self, to_make: Sequence[CellEstimate]) -> str:
        seconds = sum(each.seconds or 0.0 for each in to_make)
        at_once = min(self.device.side_by_side, len(to_make))
        if at_once < 2 or not seconds:
            return ""
        return f" (about {duration(seconds / at_once)} with {at_once} cells at once)"

    def _disk(self, everything: list[CellEstimate]) -> list[str]:
        known = [size for size in self.prepared_bytes.values() if size is not None]
        open_sizes = len(self.prepared_bytes) - len(known)
        prepared = f"prepared data {_bytes(sum(known))}" + (
            f" + {open_sizes} not known" if open_sizes else ""
        )
        records = sum(estimate.record_bytes or 0 for estimate in everything)
        unknown = " + ?" if any(estimate.record_bytes is None for estimate in everything) else ""
        checkpoint = max((estimate.checkpoint_bytes for estimate in everything), default=0)
        return [
            prepared,
            f"records at most {_bytes(records)}{unknown}",
            f"a checkpoint of up to {_bytes(checkpoint)} while a cell runs",
        ]


@dataclass(frozen=True)
class Device:
    """What computed times are based on."""

    tflops: float = DEVICE_TFLOPS
    utilisation: float = UTILISATION
    name: str = "one device"
    side_by_side: int = 1
    """How many cells are made at once; their times are those of a cell alone."""

    def seconds(self, flops: float, steps: int = 0) -> float:
        return max(flops / (self.tflops * 1e12 * self.utilisation), steps * STEP_SECONDS)


def this_machine(compute: ComputeSettings) -> Device:
    """What a study with these settings is computed on here: a GPU, if there is one or the study asks for one, else
    the threads of a cell, whose rate is measured. Imports torch."""
    import torch

    from mlcl.training.throughput import matrix_product_rate

    if compute.device == "cuda" or (compute.device == "auto" and torch.cuda.is_available()):
        return Device(name="one GPU")
    before = torch.get_num_threads()
    torch.set_num_threads(compute.threads)
    try:
        rate = matrix_product_rate(torch.device("cpu"), compute)
    finally:
        torch.set_num_threads(before)
    name = "one core" if compute.threads == 1 else f"{compute.threads} cores"
    return Device(round(rate / 1e12, 3), name=name, side_by_side=max(1, cores() // compute.threads))


def estimate(plan: Plan, device: Device | None = None) -> Estimate:
    """Reads cards and records, and asks encoders for their cost (which imports torch)."""
    device = device or Device()
    sizes = {name: size_of(dataset, plan) for name, dataset in plan.datasets.items()}
    made = _Measured(plan)
    groups: dict[tuple[str, str], list[PlannedCell]] = {}
    for planned in plan.all_cells:
        groups.setdefault((planned.cell.id.dataset, planned.cell.id.encoder), []).append(planned)
    costs = _Costs(plan, sizes)
    lines = tuple(
        Line(
            dataset,
            encoder,
            sizes[dataset],
            tuple((planned, _cell(planned, sizes[dataset], costs, made, device)) for planned in group),
        )
        for (dataset, encoder), group in groups.items()
    )
    prepared = {name: prepared_bytes(dataset, sizes[name]) for name, dataset in plan.datasets.items()}
    computed = _compared_with_operations(plan, sizes, costs, device)
    encodings = _encodings(lines, costs)
    features = tuple(each for encoding in encodings for each in _features(encoding, costs, device))
    told = (costs.cut(encoding.dataset, encoding.part) for encoding in encodings)
    cut = tuple(dict.fromkeys(line for line in told if line is not None))
    return Estimate(lines, prepared, device, features, cut, made.compared(), computed)


@dataclass
class _Encoding:
    """A dataset and an encoder of it, with the cells that are to be made with them."""

    dataset: str
    part: EncoderPart
    size: Size | None
    cost: encoders.Cost | None
    seeds: set[int] = field(default_factory=set)


def _encodings(lines: Iterable[Line], costs: _Costs) -> list[_Encoding]:
    found: dict[tuple[str, str], _Encoding] = {}
    for line in lines:
        for planned, _ in line.cells:
            settings = planned.cell.settings
            if (part := settings.encoder) is None:
                continue
            key = line.dataset, part.model_dump_json()
            if key not in found:
                found[key] = _Encoding(line.dataset, part, line.size, costs.of(planned.cell.id, settings))
            if planned.state != "current":
                found[key].seeds.add(settings.seed)
    return list(found.values())


def _features(encoding: _Encoding, costs: _Costs, device: Device) -> list[CellEstimate]:
    """What encoding all rows by a frozen encoder takes: once for all cells, or for each seed that has weights of its
    own; nothing for other encoders."""
    part, size, cost = encoding.part, encoding.size, encoding.cost
    if not part.settings["freeze"] or not encoding.seeds:
        return []
    times = 1 if costs.is_pretrained(part) else len(encoding.seeds)
    share = costs.share_of_length(encoding.dataset, part)
    if size is None or cost is None or share is None:
        return [CellEstimate(None, "unknown", None, 0)] * times
    flops = (size.train + size.evaluated) * share * cost.forward_flops_per_example
    return [CellEstimate(device.seconds(flops), "computed", None, 0)] * times


def _compared_with_operations(
    plan: Plan, sizes: Mapping[str, Size | None], costs: _Costs, device: Device
) -> Comparison | None:
    """Computed times of the cells that are made beside what they took."""
    pairs = []
    for planned in plan.all_cells:
        record, settings, size = planned.record, planned.cell.settings, sizes[planned.cell.id.dataset]
        is_made = planned.state == "current" and record is not None and record.status == "ok"
        if not is_made or record is None or settings.encoder is None or size is None:
            continue
        if (cost := costs.of(planned.cell.id, settings)) is not None:
            spent = record.run["wall_seconds"] * settings.compute.processes
            pairs.append((spent, _computed(settings, size, rows_of(settings, size), cost, device)))
    return _comparison(pairs)


def _comparison(pairs: Sequence[tuple[float, float]]) -> Comparison | None:
    """pairs: (seconds that a cell took, seconds that were said)"""
    took = sum(seconds for seconds, _ in pairs)
    return Comparison(len(pairs), took, sum(said for _, said in pairs)) if took > 0 else None


class _Costs:
    """What the encoders of a study cost, each looked up once."""

    def __init__(self, plan: Plan, sizes: Mapping[str, Size | None]) -> None:
        self._plan, self._sizes = plan, sizes
        self._costs: dict[str, encoders.Cost | None] = {}

    def of(self, cell: CellId, settings: CellSettings) -> encoders.Cost | None:
        """None where an encoder's form is not known on this machine."""
        part = settings.encoder
        assert part is not None
        size = self._sizes[cell.dataset]
        width = (size.width if size else None) or 224
        key = json.dumps([part.name, part.settings, width], sort_keys=True, default=str)
        if key not in self._costs:
            self._costs[key] = self._look_up(part.name, part.settings, width)
        return self._costs[key]

    def is_pretrained(self, part: EncoderPart) -> bool:
        """Has it the same weights for all seeds?"""
        return encoders.describe(part.name).settings.model_validate(part.settings).pretrained

    def share_of_length(self, dataset: str, part: EncoderPart) -> float | None:
        """Tokens that are read of a mean text, as a share of the encoder's longest; None for texts not yet prepared."""
        if (longest := self._longest(part)) is None:
            return 1.0
        lengths = text_lengths(self._plan.datasets[dataset])
        return None if lengths is None else float(np.minimum(lengths / longest, 1).mean())

    def cut(self, dataset: str, part: EncoderPart) -> str | None:
        """What to tell where an encoder reads less than many of a dataset's texts have."""
        longest, lengths = self._longest(part), text_lengths(self._plan.datasets[dataset])
        if longest is None or lengths is None or (share := float((lengths > longest).mean())) < MANY:
            return None
        return (
            f"texts: about {100 * share:.0f} % of {dataset} have more than the {longest} tokens that "
            f"{part.name} reads; the rest is dropped (max_length)"
        )

    @staticmethod
    def _longest(part: EncoderPart) -> int | None:
        """Tokens that an encoder reads of a text; None for other modalities."""
        checked = encoders.describe(part.name).settings.model_validate(part.settings)
        length: int | None = getattr(checked, "max_length", None)
        return None if length is None else length * getattr(checked, "max_chunks", 1)

    def _look_up(self, name: str, settings: Mapping[str, Any], width: int) -> encoders.Cost | None:
        checked = encoders.describe(name).settings.model_validate(settings)
        tokens = getattr(checked, "max_length", 1) * getattr(checked, "max_chunks", 1)
        vocabulary = getattr(getattr(checked, "tokenizer", None), "vocab_size", 30_000)
        shape = encoders.InputShape(
            channels=3, height=width, width=width, dimensions=width, vocab_size=vocabulary
        )
        try:
            return encoders.cost(name, settings, shape, tokens)
        except encoders.EncoderError:
            return None


def rows_of(settings: CellSettings, size: Size) -> int:
    """Training rows of a cell's subset."""
    return max(1, round(size.train * settings.dataset.subset.fraction))


@dataclass(frozen=True)
class _Work:
    """What training consists of: examples that it goes through, steps (once for each view), and passes."""

    examples: int = 0
    steps: int = 0
    passes: int = 0
    """Forward passes, or what costs as much, of one example each."""


def work(settings: CellSettings, train_rows: int) -> _Work:
    """Of all stages of a cell whose subset has so many rows."""
    if settings.training is None:
        return _Work()
    stages = [(settings.training, 2 if settings.protocol == "momentum_queue" else 1)]
    if settings.training.get("finetuning"):
        stages.append((settings.training["finetuning"], 1))
    examples = steps = passes = 0
    for training, views in stages:
        each = FORWARD_AND_BACKWARD + views - 1
        batch = min(training["batch_size"], train_rows)
        rows, per_epoch = train_rows, training["steps_per_epoch"]
        if per_epoch == "all_rows":
            rows, per_epoch = round(train_rows / settings.dataset.subset.fraction), None
        count = training["epochs"] * (per_epoch or max(1, rows // training["batch_size"]))
        micro = training["micro_batch_size"]
        steps += count * views
        examples += count * batch
        passes += count * batch * (each + bool(micro and micro < batch))
    return _Work(examples, steps, passes)


def training_passes(plan: Plan) -> dict[CellId, int]:
    """Cell -> forward passes of its training, 0 where nothing is trained: which cells are long beside the others.

    Known without torch, records and prepared data; where the number of rows is not, UNKNOWN_ROWS are assumed.
    """
    sizes = {name: size_of(dataset, plan) for name, dataset in plan.datasets.items()}
    passes = {}
    for planned in plan.all_cells:
        size, settings = sizes[planned.cell.id.dataset], planned.cell.settings
        passes[planned.cell.id] = work(settings, rows_of(settings, size) if size else UNKNOWN_ROWS).passes
    return passes


class _Measured:
    """The records of a study that tell how long such cells take."""

    def __init__(self, plan: Plan) -> None:
        self._seconds: dict[str, list[tuple[int, float]]] = {}
        """What a cell is -> (examples trained on, device seconds) of its records."""
        for planned in plan.all_cells:
            record = planned.record
            if record is None or record.status != "ok":
                continue
            try:
                settings = CellSettings.model_validate(record.result["settings"] | {"loss": None})
                examples = work(settings, record.result["dataset"]["examples"]["train"]).examples
            except (ValueError, KeyError, TypeError):
                continue  # of another version of the suite
            spent = record.run["wall_seconds"] * settings.compute.processes
            self._seconds.setdefault(_kind(planned.cell.id, settings), []).append((examples, spent))

    def compared(self) -> Comparison | None:
        """Each record beside what the others of its kind and size say of it; only cells that train are looked at."""
        pairs = []
        for measurements in self._seconds.values():
            by_size: dict[int, list[float]] = {}
            for examples, spent in measurements:
                by_size.setdefault(examples, []).append(spent)
            by_size.pop(0, None)
            for same in by_size.values():
                if len(same) > 1:
                    pairs += [(spent, median(same[:k] + same[k + 1 :])) for k, spent in enumerate(same)]
        return _comparison(pairs)

    def seconds(self, cell: CellId, settings: CellSettings, examples: int | None) -> float | None:
        """None where there are no such records, or they were of another size and this one's is not measurements."""
        measurements = self._seconds.get(_kind(cell, settings), [])
        if same_size := [spent for trained, spent in measurements if trained == examples]:
            return median(same_size)
        rates = [spent / trained for trained, spent in measurements if trained > 0]
        if not rates or not examples:
            return None
        return median(rates) * examples


def _kind(cell: CellId, settings: CellSettings) -> str:
    """Cells that differ in no more than their loss, their seed and how many examples they train on."""
    kind = [
        cell.dataset,
        cell.encoder,
        settings.protocol,
        settings.encoder.model_dump() if settings.encoder else None,
        settings.compute.model_dump(),
    ]
    return json.dumps(kind, sort_keys=True, default=str)


def _cell(
    planned: PlannedCell, size: Size | None, costs: _Costs, measured: _Measured, device: Device
) -> CellEstimate:
    settings = planned.cell.settings
    if settings.encoder is None:
        return CellEstimate(0.0, "none", _record_bytes(settings, size, None), 0)
    cost = costs.of(planned.cell.id, settings)
    record_bytes = _record_bytes(settings, size, cost)
    checkpoint = _copies(settings) * cost.parameters * FLOAT if cost else 0
    rows = rows_of(settings, size) if size else None
    examples = work(settings, rows).examples if rows else None
    if (seconds := measured.seconds(planned.cell.id, _as_recorded(planned), examples)) is not None:
        return CellEstimate(seconds, "measured", record_bytes, checkpoint)
    if size is None or rows is None or cost is None:
        return CellEstimate(None, "unknown", record_bytes, checkpoint)
    return CellEstimate(_computed(settings, size, rows, cost, device), "computed", record_bytes, checkpoint)


def _as_recorded(planned: PlannedCell) -> CellSettings:
    """The cell's settings in the form that its record will have: without the paths of local weights."""
    if planned.payload is None:
        return planned.cell.settings
    return CellSettings.model_validate(planned.payload["settings"] | {"loss": None})


def _computed(settings: CellSettings, size: Size, rows: int, cost: encoders.Cost, device: Device) -> float:
    """Training, encoding of all rows, linear evaluation; nearest neighbours are not counted."""
    assert settings.encoder is not None
    forward = cost.forward_flops_per_example
    if settings.encoder.settings["freeze"]:  # a layer is trained on stored features
        forward = 2.0 * cost.feature_dim * _width(settings, cost)
    todo = work(settings, rows)
    reads = settings.readouts != ["head"]
    seconds = device.seconds(todo.passes * forward, todo.steps)
    seconds += device.seconds((size.evaluated + (rows if reads else 0)) * forward)
    grid = settings.linear_evaluation
    if grid is not None:
        heads = len(grid.learning_rates) * len(grid.weight_decays) * grid.heads
        width = _width(settings, cost)
        flops = FORWARD_AND_BACKWARD * 2.0 * width * (size.labels or 0) * heads * rows * grid.epochs
        seconds += device.seconds(flops, grid.epochs * max(1, rows // grid.batch_size))
    return seconds


def _width(settings: CellSettings, cost: encoders.Cost) -> int:
    """Width of the features that heads are on: of a frozen encoder, of the layer that is trained on its features."""
    adapter_dim = settings.encoder.settings.get("adapter_dim") if settings.encoder is not None else None
    return cost.feature_dim if adapter_dim is None else int(adapter_dim)


def _copies(settings: CellSettings) -> int:
    """How often a checkpoint holds the weights: they, the optimizer's means, averages, keys, the best so far."""
    training = settings.training
    if training is None:
        return 0
    optimizer = 1 if training["optimizer"] == "sgd" else 2
    others = (training["ema_decay"] is not None, training["selection"] != "last", "momentum" in training)
    return 1 + optimizer + sum(others)


def _record_bytes(settings: CellSettings, size: Size | None, cost: encoders.Cost | None) -> int | None:
    """Before compression: scores and labels of each evaluated row; features and weights where the study keeps them."""
    if size is None or size.labels is None:
        return None
    row = size.labels * (FLOAT * max(1, len(settings.readouts)) + 1)
    weights = 0
    if cost is not None:
        row += _width(settings, cost) * HALF if settings.keep_embeddings else 0
        weights = cost.parameters * FLOAT if settings.keep_model else 0
    return size.evaluated * row + weights


def _row(line: Line) -> tuple[str, ...]:
    known = [each.seconds for each in line.estimates if each.seconds is not None]
    bases = dict.fromkeys(each.basis for each in line.estimates)
    rows = "unknown"
    if line.size is not None:
        used = {rows_of(cell.cell.settings, line.size) for cell, _ in line.cells}
        rows = f"{_range([f'{count:,}' for count in sorted(used)])} {line.size.basis}"
    return (
        line.dataset,
        line.encoder,
        str(len(line.cells)),
        str(len(line.to_make)),
        rows,
        _range([str(epochs) for epochs in line.epochs]),
        _range([duration(seconds) for seconds in (sorted(known) if any(known) else [])]),
        _sum(line.estimates),
        ", ".join(bases),
    )


def _range(values: list[str]) -> str:
    if not values:
        return ""
    return values[0] if values[0] == values[-1] else f"{values[0]} to {values[-1]}"


def _start_up(cells: int) -> str:
    if not cells:
        return ""
    seconds = duration(cells * START_UP_SECONDS)
    return f", and {seconds} for starting a process for each where no warm worker does it once"


def _sum(estimates: Iterable[CellEstimate]) -> str:
    """`+ ?`: of some of them nothing is known."""
    each = [estimate.seconds for estimate in estimates]
    known = [seconds for seconds in each if seconds is not None]
    if each and not known:
        return "?"
    return duration(sum(known)) + (" + ?" if len(known) < len(each) else "")


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns of text; the last line is set apart as the sum of the others."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return [*lines[:-1], "-" * max(map(len, lines)), lines[-1]]
