"""What all losses have in common: hyperparameters as attributes, checked input, float32 inside autocast."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mlcl.losses._declarations import CALLED_WITH, TYPES, check_sizes, checked_value, conditions
from mlcl.losses._distributed import Ranks
from mlcl.losses._errors import LossError, LossInputError
from mlcl.suggest import closest


class _Signature:
    """The signature of a loss's class as `inspect`, help and editors show it: with its hyperparameters."""

    def __get__(self, loss: Loss | None, cls: type[Loss]) -> inspect.Signature:
        kind = inspect.Parameter
        parameters = [
            kind("num_labels", kind.POSITIONAL_OR_KEYWORD, annotation=int),
            kind("embedding_dim", kind.POSITIONAL_OR_KEYWORD, default=None, annotation=int | None),
        ]
        for name, default in _declared(cls).items():
            parameters.append(kind(name, kind.KEYWORD_ONLY, default=default, annotation=type(default)))
        generator = kind("generator", kind.KEYWORD_ONLY, default=None, annotation=torch.Generator | None)
        return inspect.Signature([*parameters, generator])


class Loss(nn.Module):
    """Base of every loss; hyperparameters are annotated class attributes and become attributes.

    Raises LossError for a hyperparameter that the class does not have, or whose value is not allowed.
    """

    inputs: str = "embeddings"
    allowed: tuple[str, ...] = ()
    compares_labels = False  # whether it asks how alike labels are (`learn_from_training`)

    __signature__ = _Signature()

    def __init__(
        self,
        num_labels: int,
        embedding_dim: int | None = None,
        generator: torch.Generator | None = None,
        **hyperparameters: Any,
    ) -> None:
        """num_labels: L; embedding_dim: width of the input, needed with prototypes or heads; generator: draws these.

        Hyperparameters: see the class. Raises LossError for a wrong name, type or value.
        """
        super().__init__()
        where = type(self).__name__
        check_sizes(where, num_labels, embedding_dim)
        self.num_labels = num_labels
        self.process_group: dist.ProcessGroup | None = None  # see `across_processes`
        self.embedding_dim = embedding_dim
        declared = _declared(type(self))
        allowed = conditions(where, self.allowed, declared)
        for name, value in hyperparameters.items():
            if name not in declared:
                raise LossError(f"{where} has no hyperparameter {name!r}: {closest(name, declared)}")
            value = checked_value(f"{where}.{name}", name, value, declared[name], allowed.get(name))
            setattr(self, name, value)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        expected = CALLED_WITH[self.inputs]
        if len(arguments) + len(named) < len(expected):
            raise LossInputError(
                f"{type(self).__name__} is called with ({', '.join(expected)}), got {len(arguments) + len(named)} "
                "of these"
            )
        return super().__call__(*arguments, **named)

    def read_training_labels(self, labels: Tensor) -> None:
        """Labels (N, L) of the training rows, given once before training to a loss that compares labels."""

    def extra_repr(self) -> str:
        shown = ("num_labels", *_declared(type(self)))
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)


def _declared(cls: type) -> dict[str, Any]:
    """Hyperparameter -> default of a loss's class: what it and its bases, these shared ones left out, annotate."""
    declared = {}
    for base in reversed(cls.__mro__):
        if not issubclass(base, Loss) or base.__module__.startswith("mlcl.losses._"):
            continue
        for name, annotation in inspect.get_annotations(base).items():
            kind = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
            if name in vars(base) and kind in TYPES:
                default = vars(base)[name]
                declared[name] = float(default) if kind == "float" else default
    return declared


UNKNOWN = -1
"""A label of which nothing is known; losses that are `elementwise` leave it out."""


class ClassificationLoss(Loss):
    """A loss on logits (B, L): `elements` gives its terms; the rest checks, keeps float32 and reduces."""

    reduction: str
    elementwise: bool = False

    def elements(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Terms (B, L) or (B,) of the loss; `labels` are 0/1 in the logits' type."""
        raise NotImplementedError

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss of logits (B, L) and labels (B, L) in {0, 1}; 0 for an empty batch.

        If the loss is `elementwise`, labels may also be -1, unknown: their terms are left out, and the mean is over the
        known ones of the batch (U-Ignore of Irvin et al., CheXpert, AAAI 2019, arXiv 1901.07031).

        Raises LossInputError for wrong shapes, types or label values.
        """
        check_matrix("logits", logits, self.num_labels)
        known = None
        if self.elementwise and isinstance(labels, Tensor) and labels.dtype != torch.bool:
            known = labels != UNKNOWN
            labels = labels.masked_fill(~known, 0)
        labels = check_labels("labels", labels, len(logits), self.num_labels, logits)
        ranks = Ranks(self.process_group, logits)
        with torch.autocast(logits.device.type, enabled=False):
            terms = self.elements(ranks.gather_with_gradient(full_precision(logits)), ranks.gather(labels))
            if known is not None and not (known := ranks.gather(known)).all():
                terms = terms[known]
            if getattr(self, "reduction", "mean") == "sum":
                return terms.sum()
            return terms.mean() if terms.numel() else terms.sum()


def across_processes(loss: nn.Module, group: dist.ProcessGroup | None = None) -> nn.Module:
    """Let the loss (and those it is made of) see the rows of all ranks of `group`, by default all processes.

    Needs an initialised `torch.distributed`; every rank must then call the loss in each step, with its own
    rows, be it none. Meant for DDP, which averages gradients: they are then those of the whole batch.
    """
    for part in loss.modules():
        if isinstance(part, Loss):
            part.process_group = group or dist.group.WORLD
    return loss


def learn_from_training(loss: nn.Module, labels: Callable[[], Tensor]) -> None:
    """Lets the loss, and those it is made of, read the labels (N, L) of the training rows, where it asks for them."""
    for part in loss.modules():
        if isinstance(part, Loss) and part.compares_labels:
            part.read_training_labels(labels())


def full_precision(values: Tensor) -> Tensor:
    """float64 stays, everything else becomes float32."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def check_matrix(name: str, values: Tensor, width: int | None) -> None:
    """Raise LossInputError unless `values` is a floating-point matrix (with `width` columns, where given)."""
    if not isinstance(values, Tensor) or not values.is_floating_point():
        given = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise LossInputError(f"{name} must be a floating-point tensor, got {given}")
    if values.ndim != 2 or (width is not None and values.shape[1] != width):
        expected = f"(B, {'D' if width is None else width})"
        raise LossInputError(f"{name} must have shape {expected}, got {tuple(values.shape)}")


def check_labels(name: str, labels: Tensor, rows: int, num_labels: int, like: Tensor) -> Tensor:
    """The labels in the type the loss computes in; LossInputError unless (rows, num_labels) of 0 and 1.

    Values of labels that are not bool are read, for which the host waits where they are on a GPU.
    """
    if not isinstance(labels, Tensor):
        raise LossInputError(f"{name} must be a tensor, got {type(labels).__name__}")
    if labels.device != like.device:
        raise LossInputError(f"{name} are on {labels.device}, what they belong to on {like.device}")
    if labels.shape != (rows, num_labels):
        raise LossInputError(f"{name} must have shape ({rows}, {num_labels}), got {tuple(labels.shape)}")
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    values = labels.to(dtype)
    if labels.dtype != torch.bool and not torch.equal(values * values, values):
        wrong = values[values * values != values][0].item()
        raise LossInputError(f"{name} must be 0 or 1 everywhere, found {wrong:g}")
    return values
