"""Augmentation: what a study may name, its settings with their defaults, and what it does to a batch.

Each transform is declared once: as settings, which planning checks without torch, and as the function of a batch,
which imports torch when it is called. Images stay as stored, uint8 (B, H, W, C). Every image of a batch draws its own
numbers, all from one CPU generator, so that a seeded run repeats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    ValidationError,
    model_validator,
)

from mlcl.suggest import closest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Share = Annotated[float, Field(gt=0, le=1)]


class Transform(BaseModel):
    """Settings of a transform; called with images uint8 (B, H, W, C) and a generator, it returns changed copies."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        raise NotImplementedError


class Cutout(Transform):
    """Blackens a square at a random centre of each image; its side is `share` of the height.

    DeVries and Taylor, arXiv 1708.04552; the square may reach beyond the border.
    """

    share: Share = 0.5

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        import torch

        from mlcl.training.inputs.randaugment import copy_drawn

        height, width = images.shape[1:3]
        half = self.share * height / 2
        centres = torch.rand(len(images), 2, generator=generator) * torch.tensor([height, width])
        rows = (torch.arange(height) + 0.5 - centres[:, :1]).abs() < half
        columns = (torch.arange(width) + 0.5 - centres[:, 1:]).abs() < half
        hole = copy_drawn(rows[:, :, None] & columns[:, None, :], images.device)
        return images.masked_fill(hole[..., None], 0)


class Flip(Transform):
    """Mirrors each image left to right with probability `p`."""

    p: Annotated[float, Field(ge=0, le=1)] = 0.5

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        import torch

        from mlcl.training.inputs.randaugment import copy_drawn

        flipped = copy_drawn(torch.rand(len(images), generator=generator) < self.p, images.device)
        return torch.where(flipped[:, None, None, None], images.flip(2), images)


class RandAugment(Transform):
    """`num_ops` random operations for each image, all of one `magnitude` (0 to 30), with random signs.

    Cubuk et al., arXiv 1909.13719, with the operations and magnitudes of torchvision's class of this name.
    """

    num_ops: NonNegativeInt = 2
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        from mlcl.training.inputs.randaugment import rand_augment

        return rand_augment(images, self.num_ops, self.magnitude, generator)


class RandomResizedCrop(Transform):
    """A random part of each image, scaled to the image's size with antialiasing.

    `scale` bounds the part's share of the area, `ratio` its width over its height (Szegedy et al., arXiv 1409.4842).
    """

    scale: tuple[Share, Share] = (0.2, 1.0)
    ratio: tuple[PositiveFloat, PositiveFloat] = (3 / 4, 4 / 3)

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        for name, (low, high) in {"scale": self.scale, "ratio": self.ratio}.items():
            if low > high:
                raise ValueError(f"{name} goes from {low:g} to {high:g}: the smaller number comes first")
        return self

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        import torch
        from torchvision.transforms.v2 import functional as tv

        size = list(images.shape[1:3])
        cropped = torch.empty_like(images)
        for row, (top, left, height, width) in enumerate(self._boxes(len(images), size, generator)):
            image = images[row : row + 1].permute(0, 3, 1, 2)
            cropped[row] = tv.resized_crop(image, top, left, height, width, size, antialias=True)[0].permute(
                1, 2, 0
            )
        return cropped

    def _boxes(self, count: int, size: Sequence[int], generator: torch.Generator) -> list[list[int]]:
        """Top, left, height and width of each image's part."""
        import torch

        area = torch.empty(count).uniform_(*self.scale, generator=generator)
        ratio = torch.empty(count).uniform_(*map(math.log, self.ratio), generator=generator).exp()
        whole = torch.tensor(size)
        sides = torch.stack([(area / ratio).sqrt(), (area * ratio).sqrt()], 1).clamp(max=1)
        pixels = (sides * whole).round().clamp(min=1)
        corners = (torch.rand(count, 2, generator=generator) * (whole - pixels + 1)).floor()
        return torch.cat([corners, pixels], 1).int().tolist()


@dataclass(frozen=True)
class Compose:
    """Transforms applied one after the other."""

    transforms: tuple[Transform, ...] = ()

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        for transform in self.transforms:
            images = transform(images, generator)
        return images


TRANSFORMS: dict[str, type[Transform]] = {
    "cutout": Cutout,
    "flip": Flip,
    "rand_augment": RandAugment,
    "random_resized_crop": RandomResizedCrop,
}
"""Names of transforms in a study."""
NAMED: dict[str, Compose] = {
    "basic": Compose(),
    "crop_flip": Compose((RandomResizedCrop(), Flip())),
    "cutout_randaugment": Compose((Cutout(share=0.5), RandAugment(num_ops=2, magnitude=9))),
    "randaugment": Compose((RandAugment(num_ops=2, magnitude=9),)),
    "randaugment_strong": Compose((RandAugment(num_ops=3, magnitude=15),)),
}
"""Augmentations by name. `basic`, `randaugment` and `randaugment_strong` are the comprehensive study's (arXiv
2412.00101), `crop_flip` is MulSupCon's, `cutout_randaugment` KMCL's."""


def build(spec: str | list[dict[str, dict[str, Any]]]) -> Compose:
    """The augmentation of a checked setting (`Augmentation`)."""
    if isinstance(spec, str):
        return NAMED[spec]
    parts = (part.items() for part in spec)
    return Compose(tuple(TRANSFORMS[name](**settings) for part in parts for name, settings in part))


def mask_features(probability: float, means: Tensor) -> Callable[[Tensor, torch.Generator], Tensor]:
    """For vectors: replaces each entry with this probability by its column's mean; `means` (F,).

    The mean is 0 where features are standardised first, as in MulSupCon's code.
    """
    import torch

    from mlcl.training.inputs.randaugment import copy_drawn

    def mask(vectors: Tensor, generator: torch.Generator) -> Tensor:
        unmasked = torch.rand(vectors.shape, generator=generator) >= probability
        return torch.where(copy_drawn(unmasked, vectors.device), vectors, means.to(vectors.device))

    return mask


def check(given: Any) -> str | list[dict[str, dict[str, Any]]]:
    """An augmentation as a study writes it, with the defaults of all its transforms filled in.

    Raises ValueError for unknown names and settings, and for values out of range.
    """
    if isinstance(given, str):
        if given not in NAMED:
            raise ValueError(f"there is no augmentation '{given}'; {closest(given, NAMED)}")
        return given
    if not isinstance(given, list):
        raise ValueError(
            "must be a name or a list of transforms, such as [{cutout: {share: 0.5}}, {flip: {}}]"
        )
    return [_check_transform(part) for part in given]


def _check_transform(part: Any) -> dict[str, dict[str, Any]]:
    if isinstance(part, str):
        part = {part: {}}
    if not isinstance(part, dict) or len(part) != 1:
        raise ValueError(
            f"each transform is a name with its settings, such as {{flip: {{p: 0.5}}}}; not {part!r}"
        )
    ((name, settings),) = part.items()
    if name not in TRANSFORMS:
        raise ValueError(f"there is no transform '{name}'; {closest(str(name), TRANSFORMS)}")
    try:
        return {name: TRANSFORMS[name].model_validate(settings or {}).model_dump(mode="json")}
    except ValidationError as error:
        defect = error.errors()[0]
        key = ".".join([str(name), *map(str, defect["loc"])])
        if defect["type"] == "extra_forbidden":
            known = TRANSFORMS[name].model_fields
            raise ValueError(f"{key}: unknown key; {closest(str(defect['loc'][-1]), known)}") from None
        raise ValueError(f"{key}: {defect['msg']}") from None


Augmentation = Annotated[str | list[dict[str, dict[str, Any]]], BeforeValidator(check)]
"""A key of `NAMED`, or transforms one after the other: `[{cutout: {share: 0.5}}, {flip: {}}]`."""
