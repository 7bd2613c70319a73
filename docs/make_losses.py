"""Writes docs/losses.md and docs/figures/pair_weights.png: the table of all losses, and what their weights look like.

    python docs/make_losses.py            (needs the package; the measured tables are read from docs/figures/*.json)

The measurements come from

    python benchmarks/losses.py --json docs/figures/losses_benchmark.json --figure docs/figures/losses_benchmark.png
    python benchmarks/losses.py --large --json docs/figures/losses_large.json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlcl import losses

DOCS = Path(__file__).parent
FIGURES = DOCS / "figures"

PAGE = """# Losses

*Made by `python docs/make_losses.py`; do not edit.*

```python
from mlcl import losses
losses.names()
loss = losses.create("reg", num_labels=54, embedding_dim=256, temperature=0.1)
loss = losses.Reg(54, 256, temperature=0.1)                           # the same; every loss is a class, too
value = loss(embeddings, labels)                                  # (B, D) raw, (B, L) of 0 and 1 -> scalar
value = loss(embeddings, labels, references=(queue, queue_labels))   # momentum keys and queue in the batch's stead
```

## One idea

A contrastive loss is a pair weighting. With s = similarity / temperature and p = softmax over the references,

    L = 1/N Σ_i ( - Σ_k W_ik log p_ik )

The losses differ in W, in who the anchors i and the references k are (batch, prototypes, a queue), and in N.
W depends on the labels alone: on the numbers of shared labels and the sizes of the label sets, and for `gma_scl` on
how alike labels are, learnt from the training rows. No tensor of size B × B × L appears anywhere.

## All losses

B rows, L labels, D embedding width, M feature width; y_i the label set of row i. Costs are of one step's
arithmetic, up to a constant.

{table}

N is the number of anchors, those without positives contributing 0, unless the file says otherwise:
`jaccard`, `reg` and `reg_ablated` divide by the anchors that have positives, `mulsupcon` by the label-anchor
pairs. `help(losses.Reg)` shows the full equation of a loss, where it departs from the released code, its
hyperparameters and the shapes that it is called with.

`simdissim` is a reconstruction from public reviews of its paper; there is no released code. Its `kind` (`both`,
`similarity`, `dissimilarity`) leaves out one of the two factors, the ablation that these reviews ask for.

## What the weights look like

![pair weights](figures/pair_weights.png)

One batch of seven rows and four labels. Rows are anchors, columns references, both named by their label sets; c1
to c4 are prototypes. To the first row the others are equal, a subset, a superset, overlapping, disjoint and
without labels. `reg` has the weights of `reg_ablated`: it changes the gradient. `loss.pair_weights(labels)`
gives the matrix of any batch; each study's report shows those of its own losses.

## Parameters

`prototype`, `reg`, `reg_ablated`, `abalone` and `kmcl` have parameters of their own, prototypes or heads, and `joint`
those of its parts. They are to be trained: `torch.optim.AdamW([*encoder.parameters(), *loss.parameters()])`.
`losses.describe(name).prototypes` says whether a loss has prototypes, and a loss whose prototypes did not change in
1,000 calls warns.

## Never NaN

Rows without labels, with all labels, without positives, one row, labels absent from the batch, equal or zero
embeddings, temperatures down to 0.005, logits of ±200, half precision: value and gradients are finite, and an
anchor without positives contributes 0. A zero embedding has no direction and similarity 0 to everything.
Inside autocast the losses compute in float32; float64 stays float64.

## Unknown labels

`asl`, `bce`, `focal` and `hill` take a label of -1 as unknown, leave its term out, and average over the known cells of
the batch (U-Ignore of [CheXpert](https://arxiv.org/abs/1901.07031)). All other losses compare label sets, refuse such
labels, and a plan refuses them for a dataset with `on_missing_label: ignore`. `losses.describe(name).elementwise` says
which is which.

## Large batches

The kernel goes through the anchors in tiles and finishes each tile in one visit, gradient included; the size of
a tile follows from `loss.tile_elements` and the number of references. Memory is O(B·D + B·L + tile). In
float32, values are within 1e-6 and gradients within 1e-5 of one dense float64 matrix (tested at B = 2,048).
{large}
On CUDA, matrix products are torch's and everything between them is one Triton program a row
(`mlcl/losses/_triton.py`). Triton's interpreter tests it on the CPU, `pytest -m gpu` on a GPU.

On a GPU give labels as `bool`, as training does: then no step of a loss but `kmcl` and `gma_scl` waits for the device.
The values of other types are checked, and read for that.

### The fused form

The fused form keeps no matrix of pairs in memory at all (CUDA; `mlcl/losses/_fused.py` and `_triton_fused.py`).
`loss.kernel` is `"auto"`, `"tile"` or `"fused"`; `"auto"`, the default, takes the fused form where it was measured
to be the faster one. Scores and numbers of shared labels are products on the matrix units, and weights, softmax
and gradient are made from them on the chip: one visit of the pairs for the value, one for the gradient, which
makes scores and labels anew. The weight of a pair is the loss file's own `weights(pairs)`, recorded once as an
expression (`_elementwise.py`); the file needs nothing extra. Covered are losses between items of the batch, or
the batch and given references, whose weight is an expression of the pair's three numbers (`supcon_any`,
`supcon_all`, `multisupcon`, `jaccard`, `overlap`, `simdissim`, and such losses of your own) or one number a label
(`mulsupcon`, `stepwise`), in float32, on one rank, with embeddings of at most 1,024 columns. Any other call takes
the tile form; `loss.kernel_used` says which form the last call took, and why.

float32 stays float32: a unit vector is split into two float16 parts, 22 bits of mantissa, and products are
summed in float32 (three products instead of one). Where TF32 is allowed for matrix products, one part of 11
bits does. Labels are 8-bit integers, summed exactly; weights of labels have two parts always. The order of all
sums is fixed for a card, so that two runs on it are equal bit for bit.

What one step costs at B = 65,536, L = 1,000, counted, not measured, with `jaccard`; times are lower bounds at
the H100's data sheet rates (67 TFLOP/s float32, 495 TF32, 990 float16, 1,979 int8, 3.35 TB/s):

| | tile, float32 | tile, TF32 | fused, float32 | fused, TF32 |
|---|---:|---:|---:|---:|
| D = 128: operations, 10^12 | 11.9 | 11.9 | 20.5 | 20.5 |
| time of the matrix products, ms | 177 | 24 | 19 | 12 |
| memory traffic, GB | 360 | 360 | 0.8 | 0.8 |
| time of that, ms | 108 | 108 | 0.2 | 0.2 |

Beyond 256 columns, each further 256 make scores and shared labels once more in the gradient's visit.
The fused form's own limit is the traffic between the L2 cache and the multiprocessors, about 220 GB, which is 40 ms
at 5.5 TB/s.

Measured on an NVIDIA H100 80GB HBM3 ([all 303 cases](../results/reference/losses_h100.csv), [how](gpu.md)), one step,
forward and backward, D = 256, B = 65,536, L = 1,000; in brackets the share of the rate of a large matrix product in the
same precision (51 TFLOP/s float32, 359 TF32), counting only the operations that the definition needs:

| ms | tile, float32 | fused, float32 | tile, TF32 | fused, TF32 | MB, tile | MB, fused |
|---|---:|---:|---:|---:|---:|---:|
| `supcon_any` | 415 (71 %) | **101** (292 %) | 133 (30 %) | **58** (68 %) | 1740 | 565 |
| `jaccard` | 454 (65 %) | **105** (281 %) | 170 (23 %) | **65** (61 %) | 1740 | 565 |
| `simdissim` | 466 (63 %) | **142** (207 %) | 182 (22 %) | **81** (49 %) | 2009 | 565 |
| `mulsupcon` | 395 (75 %) | **221** (133 %) | **112** (36 %) | 180 (22 %) | 1480 | 801 |
| `reg` | 429 (70 %) | - | 142 (36 %) | - | 1550 | - |
| `abalone` | 851 (35 %) | - | 251 (16 %) | - | 2078 | - |

More than 100 % of float32 is no error: the fused form makes float32 products of float16 parts on the matrix units.
Small batches are bound by the number of kernels that are started: at B = 1,024, L = 100 the tile form takes 1.0 ms and
the fused one 1.6 ms (`mulsupcon` 2.0). So `"auto"` takes the fused form from about 4,096 rows on (`mulsupcon`,
`stepwise`: 4,096 rows with 4,000 labels, or 16,384 rows); with TF32 from 16,384 rows, and never for these two. It
does so on GPUs of the architecture that was measured (Hopper, compute capability 9.0) and with at most 256 columns;
elsewhere it takes the tile form, and `python benchmarks/kernel_forms.py` times both.

## Several processes

```python
losses.across_processes(loss)      # after torch.distributed.init_process_group
```

Embeddings and labels are then gathered in every step, each rank takes its own rows as anchors, and value and
gradients (encoder, prototypes, heads) are, after DDP's averaging, those of one process that holds the whole
batch. Ranks may hold different numbers of rows, or none. Given `references` must be the same on all ranks.

## Parts and heads

`kmcl` works on features (B, M), owns its heads and predicts with `loss.logits(features)`;
`losses.kmcl_terms(features, pi, mu, var, labels)` gives its three terms. `joint` takes
`loss(embeddings, logits, labels)`; its parts are names or mappings:
`losses.create("joint", 54, 256, classification={{"name": "asl", "gamma_neg": 4}}, contrastive="reg", weight=0.3)`.
{benchmark}
"""


def cost(info: losses.LossInfo) -> str:
    if info.inputs == "logits":
        return "B L"
    if info.inputs == "features":
        return "n B + B² L, n labels in all rows (anisotropic: n B × 128)"
    if info.inputs == "both":
        return "that of its parts"
    size = {("batch",): "B", ("prototypes",): "L", ("batch", "prototypes"): "(B + L)"}
    anchors, references = size[info.anchors], size[info.references]
    product = f"{anchors}²" if anchors == references else f"{anchors} {references}"
    return f"{product} D" + (" + B² L" if "batch" in info.references else "")


def needs(info: losses.LossInfo) -> str:
    wanted = {"both": "embeddings and logits"}.get(info.inputs, info.inputs)
    return wanted + (", prototypes" if info.prototypes else "")


def loss_table() -> str:
    lines = [
        "| name, class | in its paper | idea | weights or terms | cost | needs | hyperparameters |",
        "|---|---|---|---|---|---|---|",
    ]
    order = {"embeddings": 0, "both": 1, "features": 2, "logits": 3}
    for info in sorted(map(losses.describe, losses.names()), key=lambda i: (order[i.inputs], i.name)):
        settings = ", ".join(f"{key} = {value}" for key, value in info.hyperparameters.items()) or "none"
        cells = [
            f"`{info.name}`<br>`{info.class_name}`",
            f"{info.title}: {info.paper}",
            info.summary,
            f"`{info.equation}`",
            cost(info),
            needs(info),
            settings,
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def measured(file: str) -> dict[str, dict[str, Any]]:
    """Case -> metric -> value of a benchmark's JSON; empty where there is none."""
    path = FIGURES / file
    cases: dict[str, dict[str, Any]] = {}
    for record in json.loads(path.read_text()) if path.is_file() else []:
        cases.setdefault(record["case"], {})[record["metric"]] = record["value"]
    return cases


def large_section() -> str:
    cases = measured("losses_large.json")
    if not cases:
        return ""
    rows = "\n".join(
        f"| `{case.split('-')[0]}` | {values['seconds']:.0f} | {values['megabytes']:.0f} |"
        for case, values in cases.items()
    )
    return f"""
B = 16,384, L = 1,000, D = 256, forward and backward, each in a process of its own, on 2 shared CPU cores
(`python benchmarks/losses.py --large`); megabytes are the peak of the whole process, torch included:

| loss | seconds | megabytes |
|---|---:|---:|
{rows}
"""


def benchmark_section() -> str:
    cases = measured("losses_benchmark.json")
    if not cases:
        return ""
    rows = []
    for case, values in cases.items():
        name, batch, labels = case.rsplit("-", 2)
        cells = [f"{1e3 * values['seconds']:.2f}", f"{values['megabytes']:.1f}"]
        cells += ["-" if values[m] is None else f"{values[m]:.3g}" for m in ("speedup", "memory_ratio")]
        rows.append(f"| `{name}` | {batch} | {labels} | " + " | ".join(cells) + " |")
    table = "\n".join(rows)
    return f"""
## Speed

Against a transcription of the equations with (B, B, L) tensors (`benchmarks/reference_losses.py`, equal to the
official values), forward and backward, float32, D = 256, on 2 shared CPU cores
(`python benchmarks/losses.py`). Memory is the peak of allocated tensors above the inputs; `-` where the
transcription would need more than 8 GB.

![times faster and times less memory](figures/losses_benchmark.png)

| loss | B | L | ms | MB | times faster | times less memory |
|---|---:|---:|---:|---:|---:|---:|
{table}
"""


def page() -> str:
    return PAGE.format(table=loss_table(), large=large_section(), benchmark=benchmark_section())


def draw(path: Path) -> None:
    """The weights of each pairwise loss, as reports show them for the losses of a study."""
    from mlcl.reporting.figures import pair_weights, style
    from mlcl.study.pair_weights import LABELS, example

    names = [name for name in losses.names() if losses.describe(name).inputs == "embeddings"]
    found = pair_weights.weightings({name: example(name) for name in names})
    style.save_png(pair_weights.picture(LABELS, found), path)


if __name__ == "__main__":
    draw(FIGURES / "pair_weights.png")
    (DOCS / "losses.md").write_text(page(), encoding="utf-8")
