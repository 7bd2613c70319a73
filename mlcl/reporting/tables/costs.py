"""What each loss costs with each encoder: time, rates, memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mlcl.records.collect import STEP
from mlcl.reporting.cost_means import COMPUTE, costs_by_encoder, step_parts
from mlcl.reporting.results import Results
from mlcl.reporting.tables.table import Cell, Column, Number, Row, Table, Text

Costs = Mapping[str, Mapping[str, float]]
"""encoder -> loss -> value"""
PLAIN: dict[str, tuple[str, float, int | None]] = {
    COMPUTE: ("compute in s", 1.0, None),
    "examples_per_second": ("examples/s", 1.0, 0),
    "peak_memory_mb": ("memory in MB", 1.0, 0),
    "peak_device_memory_mb": ("device memory in MB", 1.0, 0),
}
"""cost -> header, scale, decimals; None: as many as show two digits of the value"""


def costs_table(results: Results) -> Table | None:
    """None where no record tells a cost."""
    outline = results.outline
    shown = [column for column in _columns(results) if any(column[1].values())]
    if not shown:
        return None
    columns = [
        (encoder, key, header, by_loss[encoder], scale, decimals)
        for encoder in outline.encoders
        for (key, header, scale, decimals), by_loss in shown
        if encoder in by_loss
    ]

    def cell(by_loss: Mapping[str, float], loss: str, scale: float, decimals: int | None) -> Cell:
        n = len(outline.seeds)
        if loss not in by_loss:
            return Text()
        shown = _decimals(by_loss[loss] * scale) if decimals is None else decimals
        return Number(by_loss[loss], None, n, n, scale, shown)

    several = len({encoder for encoder, *_ in columns}) > 1
    return Table(
        name="costs",
        label=f"tab:{outline.study}-costs",
        caption=(
            f"{outline.title.rstrip('.')}. What a cell costs: means over seeds and over the datasets on which all "
            f"losses are complete. Compute, in CPU seconds or where a cell used an accelerator in seconds for which it "
            f"held that, and memory are those of the whole cell, evaluation included. Examples/s, step and FLOP rate "
            f"are of training, by the clock: they depend on what else the machine had to do."
        ),
        stubs=("Loss",),
        levels=("encoder", "cost"),
        columns=tuple(
            Column((encoder if several else "", header), (encoder, key))
            for encoder, key, header, *_ in columns
        ),
        blocks=(
            tuple(
                Row(
                    (outline.title_of(loss),),
                    (loss,),
                    tuple(cell(by_loss, loss, scale, decimals) for *_, by_loss, scale, decimals in columns),
                )
                for loss in outline.losses
            ),
        ),
    )


def _decimals(value: float) -> int:
    """Those that show two significant digits, and none from 10 on."""
    exponent = int(f"{value:.1e}".partition("e")[2])
    return max(0, 1 - exponent) if value else 0


def _columns(results: Results) -> list[tuple[tuple[str, str, float, int | None], Costs]]:
    """(key, header, scale, decimals) of each column, and its values."""
    plain = [((key, *form), costs_by_encoder(results, key)) for key, form in PLAIN.items()]
    parts = {part: costs_by_encoder(results, STEP + part) for part in step_parts(results)}
    step = _combined(list(parts.values()), sum)
    share = _combined(
        [parts.get("loss", {}), step], lambda values: values[0] / values[1] if values[1] else 0.0
    )
    rates = [costs_by_encoder(results, cost) for cost in ("flops_per_second", "device_flops_per_second")]
    use = _combined(rates, lambda values: values[0] / values[1] if values[1] else 0.0)
    return [
        *plain[:2],
        (("step_seconds", "step in ms", 1000.0, 1), step),
        (("step_share_loss", "loss in % of step", 100.0, 1), share),
        (("flops_share", "FLOP rate in % of device's", 100.0, 1), use),
        *plain[2:],
    ]


def _combined(parts: Sequence[Costs], combine: Callable[[list[float]], float]) -> Costs:
    """Value by value, where all parts have one."""
    if not parts:
        return {}
    return {
        encoder: {
            loss: combine([part[encoder][loss] for part in parts])
            for loss in by_loss
            if all(loss in part.get(encoder, {}) for part in parts)
        }
        for encoder, by_loss in parts[0].items()
    }
