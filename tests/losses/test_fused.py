"""The fused form equals float64: on the CPU by Triton's interpreter, in a process of its own, and on a GPU."""

import csv
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import LABELS, ROOT, build, gradients, inputs_for
from torch import Tensor

from mlcl import losses
from mlcl.losses import Pairs, PairWeighting, _fused
from mlcl.losses._elementwise import elementwise_source
from mlcl.losses._errors import NotFusedError
from mlcl.losses._fused import is_faster

COVERED = (
    "jaccard",
    "mulsupcon",
    "multisupcon",
    "overlap",
    "simdissim",
    "stepwise",
    "supcon_all",
    "supcon_any",
)
CONTRASTIVE = [name for name in losses.names() if losses.describe(name).inputs == "embeddings"]


def small_blocks() -> None:
    """Blocks small enough that small shapes have several of them in each direction."""
    both = (_fused.Blocks(16, 32, 16, 32, 16), _fused.Blocks(32, 16, 16, 32, 16))
    _fused.blocks_for = lambda width, weighted: _fused.BlocksOfPasses(*both)


def random_case(rows: int, num_labels: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.rand(rows, num_labels, generator=generator) < 3 / num_labels
    return torch.randn(rows, width, generator=generator), labels


def value_and_gradients(
    name: str,
    kernel: str,
    embeddings: Tensor,
    labels: Tensor,
    references: tuple[Tensor, Tensor] | None = None,
    **settings: Any,
) -> list[Tensor]:
    """On the embeddings' device; of the embeddings, and of the references where they ask for it."""
    loss = losses.create(name, labels.shape[1], embeddings.shape[1], **settings)
    loss.kernel = kernel
    leaves = [embeddings.clone().requires_grad_()]
    if references is not None and references[0].requires_grad:
        leaves.append(references[0])
    value = loss(leaves[0], labels, references=references)
    assert loss.kernel_used == kernel
    return [value, *torch.autograd.grad(value, leaves)]


def assert_equal_to_float64(name: str, embeddings: Tensor, labels: Tensor, **more: Any) -> None:
    """The fused form is as near to float64 as float32 can be: scores of 1 / temperature have its rounding."""
    # Matrix units cut off what float32 sums cannot hold, instead of rounding it.
    tolerance = (1e-5 if embeddings.is_cuda else 3e-6) * max(1, 0.1 / more.get("temperature", 0.1))
    ours = value_and_gradients(name, "fused", embeddings, labels, **more)
    if more.get("references"):
        more["references"] = tuple(
            x.detach().double().cpu().requires_grad_(x.requires_grad) for x in more["references"]
        )
    expected = value_and_gradients(name, "tile", embeddings.double().cpu(), labels.cpu(), **more)
    for a, b in zip(ours, expected, strict=True):
        assert a.isfinite().all()
        # A gradient that nearly cancels has the rounding of its terms, on some processors more than on others.
        scale = max(b.abs().max().item(), 0.1)
        torch.testing.assert_close(
            a.cpu().double(), b, rtol=0, atol=tolerance * scale, msg=lambda m: f"{name}: {m}"
        )


def shapes_agree() -> None:
    """Sizes below, at and beyond a block; one row; more parts of columns than one."""
    small_blocks()
    for rows, num_labels, width in ((1, 5, 7), (33, 40, 17), (70, 70, 40)):
        embeddings, labels = random_case(rows, num_labels, width)
        for name in ("jaccard", "mulsupcon") if rows > 33 else COVERED:
            assert_equal_to_float64(name, embeddings, labels)


def references_agree() -> None:
    """Given references: one row, fewer, more than the batch; their gradient; 70,000 columns."""
    small_blocks()
    embeddings, labels = random_case(20, 9, 11)
    for count in (1, 50):
        keys, key_labels = random_case(count, 9, 11, seed=1)
        for name in ("jaccard", "mulsupcon"):
            assert_equal_to_float64(name, embeddings, labels, references=(keys.requires_grad_(), key_labels))
    wide = _fused.Blocks(16, 8192, 16, 32, 16)
    _fused.blocks_for = lambda width, weighted: _fused.BlocksOfPasses(wide, wide)
    keys, key_labels = random_case(70_000, 9, 11, seed=1)
    assert_equal_to_float64("jaccard", embeddings[:3], labels[:3], references=(keys, key_labels))


def awkward_batches_agree() -> None:
    """Rows without labels or positives, equal sets, one row, with every loss: as the tile form, never NaN."""
    small_blocks()
    for name in CONTRASTIVE:
        for labels in LABELS.values():
            loss, inputs = build(name), inputs_for(name, len(labels), dtype=torch.float32)
            found = []
            for loss.kernel in ("tile", "fused"):
                value = loss(*inputs.values(), labels)
                found.append([value, *gradients(value, loss, inputs).values()])
            assert (loss.kernel_used == "fused") == (name in COVERED), (name, loss.kernel_used)
            for a, b in zip(*found, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def extremes_are_finite() -> None:
    """Zero, equal and huge embeddings, low temperatures, large weights."""
    small_blocks()
    embeddings, labels = random_case(20, 9, 11)
    embeddings[0] = 0
    embeddings[2] = embeddings[1]
    embeddings[3] *= 1e18
    for temperature in (0.005, 1.0):
        assert_equal_to_float64("supcon_any", embeddings, labels, temperature=temperature)
        assert_equal_to_float64("mulsupcon", embeddings, labels, temperature=temperature)
    everything = torch.zeros(20, 11)
    found = value_and_gradients("jaccard", "fused", everything, labels)
    assert all(x.isfinite().all() for x in found)


def precision_follows_torch() -> None:
    """Two parts, 22 bits, unless TF32 is allowed; then one part, 11 bits."""
    small_blocks()
    embeddings, labels = random_case(50, 9, 40)
    expected = value_and_gradients("jaccard", "tile", embeddings.double(), labels)[1]

    def error() -> float:
        found = value_and_gradients("jaccard", "fused", embeddings, labels)[1]
        return ((found - expected).norm() / expected.norm()).item()

    precise = error()
    torch.backends.cuda.matmul.allow_tf32 = True
    fast = error()
    assert precise < 1e-6
    assert 2e-5 < fast < 2e-3


CHECKS = [
    shapes_agree,
    references_agree,
    extremes_are_finite,
    precision_follows_torch,
    pytest.param(awkward_batches_agree, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_in_the_interpreter(check: Any) -> None:
    folder = str(Path(__file__).parent)
    code = f"import torch; torch.set_num_threads(1); import test_fused; test_fused.{check.__name__}()"
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join([folder, str(ROOT)])}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert run.returncode == 0, run.stderr[-3000:]


# Each loss and padded width is compiled anew, in seconds: three losses, of which one at all widths.
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("jaccard", [(1, 5, 7), (129, 20, 64), (700, 300, 100), (1000, 1000, 256), (300, 50, 768)]),
        ("mulsupcon", [(1, 5, 100), (700, 300, 100), (1000, 1000, 256)]),
        ("supcon_all", [(129, 20, 100), (4099, 54, 100)]),
    ],
)
def test_on_cuda_it_equals_float64(name: str, shapes: list[tuple[int, int, int]]) -> None:
    for rows, num_labels, width in shapes:
        embeddings, labels = random_case(rows, num_labels, width)
        assert_equal_to_float64(name, embeddings.cuda(), labels.cuda())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_70_000_references() -> None:
    embeddings, labels = (x.cuda() for x in random_case(300, 50, 128))
    keys, key_labels = (x.cuda() for x in random_case(70_000, 50, 128, seed=1))
    for name in ("jaccard", "mulsupcon"):
        assert_equal_to_float64(name, embeddings, labels, references=(keys, key_labels))


def test_where_it_does_not_cover_a_call_the_tile_form_computes_it() -> None:
    embeddings, labels = random_case(6, 5, 7)
    loss = losses.create("jaccard", 5, 7)
    expected = loss(embeddings, labels)
    loss.kernel = "fused"
    assert torch.equal(loss(embeddings, labels), expected)
    assert loss.kernel_used.startswith("tile, because ")


def test_an_unknown_kernel_is_an_error() -> None:
    embeddings, labels = random_case(6, 5, 7)
    loss = losses.create("jaccard", 5, 7)
    loss.kernel = "fast"
    with pytest.raises(losses.LossError, match=r"Jaccard.kernel = 'fast'; allowed: auto, tile, fused"):
        loss(embeddings, labels)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize(("name", "width"), [("jaccard", 128), ("supcon_all", 64), ("mulsupcon", 256)])
@pytest.mark.parametrize("precise", [True, False])
def test_the_kernels_compile_for_hopper_and_fit_its_shared_memory(
    name: str, width: int, precise: bool
) -> None:
    """Triton's compiler needs no GPU: products on the matrix units, at most 227 KB of shared memory."""
    import triton
    from triton.backends.compiler import GPUTarget

    from mlcl.losses import _fused, _triton_fused

    if importlib.util.find_spec("triton.backends.nvidia") is None:
        pytest.skip("Triton's NVIDIA back end is not installed")
    weighted = name == "mulsupcon"
    source = elementwise_source((lambda p: p.shared) if weighted else losses.create(name, 5, 7).weights)
    blocks = _fused.blocks_for(width, weighted)
    for kernel, shape in (
        (_triton_fused.row_sums, blocks.row_sums),
        (_triton_fused.gradient, blocks.gradient),
    ):
        constants = {
            "PAIR_WEIGHT": _fused.compiled(source),
            "WIDTH": width,
            "PRECISE": precise,
            "WEIGHTED": weighted,
            "ROWS_ARE_ANCHORS": True,
            "COLUMNS_ARE_ANCHORS": True,
            "ROWS": shape.rows,
            "COLUMNS": shape.columns,
            "DEPTH": shape.depth,
            "LABELS": shape.labels,
            "OUTPUT": shape.output,
        }
        names = kernel.arg_names
        signature = {n: "constexpr" if n in constants else argument_type(n, weighted) for n in names}
        aligned = [
            n
            for n in names
            if signature[n].startswith("*")
            or n.startswith("padded")
            or n in ("columns_per_split", "label_width")
        ]
        compiled = triton.compile(
            triton.compiler.ASTSource(
                kernel,
                signature,
                {(names.index(n),): value for n, value in constants.items() if n in names},
                {(names.index(n),): [["tt.divisibility", 16]] for n in aligned},
            ),
            target=GPUTarget("cuda", 90, 32),
            options={"num_warps": shape.warps, "num_stages": shape.stages},
        )
        assert compiled.metadata.shared <= 227 * 1024
        assert "wgmma.mma_async.sync.aligned" in compiled.asm["ptx"]
        assert weighted or "s32.s8.s8" in compiled.asm["ptx"]


def argument_type(name: str, weighted: bool) -> str:
    """In Triton's notation, of a kernel's argument that is no constant."""
    if name.endswith(("_high", "column_low", "row_low")):
        return "*fp16"
    if "labels" in name:
        return "*fp16" if weighted else "*i8"
    if name == "score_unit":
        return "fp32"
    integers = (
        "padded_rows",
        "padded_columns",
        "column_count",
        "columns_per_split",
        "label_width",
        "self_column",
    )
    return "i32" if name in integers else "*fp32"


def pair_weight(weights: Any) -> Any:
    """The function that the recorded source defines, on tensors in the place of Triton's."""

    class Language:  # Triton's names for torch's functions
        maximum = staticmethod(lambda a, b: torch.maximum(a, torch.as_tensor(b)))
        minimum = staticmethod(lambda a, b: torch.minimum(a, torch.as_tensor(b)))
        where, exp, sqrt, log, abs, float32 = (
            torch.where,
            torch.exp,
            torch.sqrt,
            torch.log,
            torch.abs,
            torch.float32,
        )

    namespace: dict[str, Any] = {"tl": Language}
    exec(elementwise_source(weights), namespace)
    return namespace["pair_weight"]


@pytest.mark.parametrize(
    "weights",
    [
        lambda p: p.shared.clamp(min=1) + p.shared.clamp(0, 2) + p.union.clamp_max(3),
        lambda p: (p.union.sub_(1).clamp_min_(0) + 2) ** 2,
        lambda p: ((p.shared >= 1) & (p.reference_sizes != 2) | (p.anchor_sizes < 2)).float(),
        lambda p: torch.where(p.shared > 0, torch.exp(-p.union), 0.5),
        lambda p: 1 - p.shared.sqrt() / p.anchor_sizes.clamp(1).sqrt() + (1 + p.shared).log(),
        lambda p: p.shared.div(p.union.add(1)).mul(2),
    ],
)
def test_the_recorded_expression_is_what_weights_computes(weights: Any) -> None:
    shared, anchor, reference = torch.cartesian_prod(*[torch.arange(5.0)] * 3).unbind(1)

    class Numbers:
        anchor_sizes, reference_sizes = anchor, reference
        union = property(lambda self: anchor + reference - shared)

    Numbers.shared = shared.clone()  # type: ignore[attr-defined]
    expected = weights(Numbers())
    torch.testing.assert_close(pair_weight(weights)(shared.clone(), anchor, reference), expected)


@pytest.mark.parametrize(
    "weights",
    [
        lambda p: p.shared if p.shared.sum() > 0 else p.union,  # decides by values
        lambda p: p.shared / p.shared.sum(1, keepdim=True),  # of a whole row
        lambda p: p.shared.to(torch.int32),
        lambda p: torch.zeros(p.shape),
    ],
)
def test_what_is_no_expression_of_one_pair_is_refused(weights: Any) -> None:
    with pytest.raises(NotFusedError):
        elementwise_source(weights)


def test_a_loss_with_tile_weights_of_its_own_is_not_taken_for_its_family() -> None:
    class Own(PairWeighting):
        temperature: float = 0.1

        def weights(self, pairs: Pairs) -> Tensor:
            return pairs.shared

        def tile_weights(self, tile: Any) -> Tensor:
            return 2 * super().tile_weights(tile)

    with pytest.raises(NotFusedError, match="tile_weights of its own"):
        Own(5, 7).fused_weighting(None)  # type: ignore[arg-type]


def times_on_an_h100() -> dict[tuple[str, int, int, bool], dict[str, float]]:
    """(loss, rows, labels, whether in float32 and not TF32) -> milliseconds of each form that was timed."""
    found: dict[tuple[str, int, int, bool], dict[str, float]] = {}
    with (ROOT / "results/reference/losses_h100.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            form, _, precision = row["form"].partition(", ")
            case = (row["loss"].split(",")[0], int(row["rows"]), int(row["labels"]), precision != "tf32")
            if form in ("tile", "fused") and row["milliseconds"] and "one label" not in row["loss"]:
                found.setdefault(case, {})[form] = float(row["milliseconds"])
    return {case: forms for case, forms in found.items() if len(forms) == 2}


def test_the_form_that_is_chosen_is_the_one_that_was_faster_on_an_h100() -> None:
    """Within a tenth, which is what times of 1 to 2 ms differ by between runs."""
    times = times_on_an_h100()
    assert len(times) > 50
    for (name, rows, labels, precise), milliseconds in times.items():
        weighted = name == "mulsupcon"
        fused = is_faster(rows**2, labels, weighted=weighted, precise=precise)
        chosen = milliseconds["fused" if fused else "tile"]
        assert chosen <= 1.1 * min(milliseconds.values()), (name, rows, labels, precise, milliseconds)


def test_auto_is_the_default_and_takes_the_tile_form_on_a_cpu() -> None:
    embeddings, labels = random_case(6, 5, 7)
    loss = losses.create("jaccard", 5, 7)
    assert loss.kernel == "auto"
    loss(embeddings, labels)
    assert loss.kernel_used.startswith("tile, because ")


def test_auto_takes_the_fused_form_for_large_batches_of_the_card_that_it_was_timed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the card: what the loss asks of it is replaced."""
    monkeypatch.setattr("mlcl.losses._contrastive.check_covered", lambda problem, embeddings: None)
    monkeypatch.setattr(_fused.FusedCrossEntropy, "apply", lambda embeddings, *more: embeddings.sum() * 0)
    labels = torch.zeros(4100, 20, dtype=torch.bool)
    embeddings = torch.zeros(4100, 8)
    found = {}
    for capability in ((8, 0), (9, 0)):
        monkeypatch.setattr(_fused, "capability_of", lambda device, capability=capability: capability)
        for name in ("jaccard", "mulsupcon"):
            for rows in (64, 4100):
                loss = losses.create(name, 20, 8)
                with torch.no_grad():
                    loss(embeddings[:rows], labels[:rows])
                found[capability, name, rows] = loss.kernel_used
    assert found.pop(((9, 0), "jaccard", 4100)) == "fused"
    assert all(used.startswith("tile, because ") for used in found.values()), found
