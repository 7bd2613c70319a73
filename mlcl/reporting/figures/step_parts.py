"""Where the time of a training step goes: its parts as stacked bars, one panel an encoder, one bar a loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from matplotlib.axes import Axes

from mlcl.records.collect import STEP
from mlcl.records.outline import Outline
from mlcl.reporting.costs import costs_by_encoder, step_parts
from mlcl.reporting.figures import style
from mlcl.reporting.figures.model import Figure
from mlcl.reporting.figures.panels import shared_legend, small_multiples
from mlcl.reporting.results import Results


def draw(results: Results) -> Iterator[Figure]:
    outline = results.outline
    parts = {part: costs_by_encoder(results, STEP + part) for part in step_parts(results)}
    encoders = [encoder for encoder in outline.encoders if any(encoder in own for own in parts.values())]
    if not encoders:
        return
    with style.in_use():
        canvas, axes = small_multiples(encoders, list(parts), height=0.45 + 0.16 * len(outline.losses))
        for ax, encoder in zip(axes, encoders, strict=True):
            _panel(ax, outline, {part: own.get(encoder, {}) for part, own in parts.items()})
        shared_legend(canvas, axes)
    yield Figure(
        name="step-parts",
        title="Parts of a training step",
        caption=(
            "Where the time of a training step goes, in milliseconds: means over seeds and over the datasets on which "
            "all losses are complete. Costs depend on the machine."
        ),
        alt="Stacked bars. " + _in_words(parts, encoders),
        canvas=canvas,
    )


def _panel(ax: Axes, outline: Outline, parts: Mapping[str, Mapping[str, float]]) -> None:
    losses = [loss for loss in outline.losses if any(loss in own for own in parts.values())]
    starts = [0.0] * len(losses)
    for i, (part, own) in enumerate(parts.items()):
        look = style.look(i)
        widths = [1000 * own.get(loss, 0.0) for loss in losses]
        ax.barh(
            range(len(losses)), widths, 0.72, starts, color=look.colour, hatch=look.hatch, edgecolor="white",
            linewidth=0.3, label=part,
        )  # fmt: skip
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    ax.set_yticks(range(len(losses)), [outline.title_of(loss) for loss in losses])
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("ms a step")


def _in_words(parts: Mapping[str, Mapping[str, Mapping[str, float]]], encoders: list[str]) -> str:
    """The longest step with each encoder, and how it is split."""
    told = []
    for encoder in encoders:
        steps: dict[str, float] = {}
        for own in parts.values():
            for loss, seconds in own.get(encoder, {}).items():
                steps[loss] = steps.get(loss, 0.0) + seconds
        longest = max(steps, key=steps.__getitem__)
        shares = ", ".join(
            f"{part} {100 * own[encoder][longest] / steps[longest]:.0f} %"
            for part, own in parts.items()
            if longest in own.get(encoder, {}) and steps[longest]
        )
        told.append(
            f"{encoder}: the longest step is that of {longest}, {1000 * steps[longest]:.1f} ms ({shares})"
        )
    return "; ".join(told) + "."
