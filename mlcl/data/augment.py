"""Augmentation of whole batches of images as tensors, on the CPU or the GPU.

Images stay as they lie in the prepared store, uint8 (B, H, W, C), until `Normalise` makes them what an encoder
takes. Every image of a batch draws its own operations; images that drew the same one are transformed together.
All randomness comes from one generator on the CPU, so a seeded run repeats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from data_prep import DataError
from mlcl.data.randaugment import Operation, operations, sent
from mlcl.suggest import closest

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Transform = Callable[[Tensor, torch.Generator], Tensor]
"""Images uint8 (B, H, W, C) and a generator -> images of the same form."""


@dataclass(frozen=True)
class Compose:
    """Several transforms, one after the other; none at all leaves images as they are."""

    transforms: tuple[Transform, ...] = ()

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        for transform in self.transforms:
            images = transform(images, generator)
        return images


@dataclass(frozen=True)
class RandAugment:
    """`num_ops` random operations for each image, all of one `magnitude` (0 to 30), signs random.

    Cubuk et al. 2020, with the operations and magnitudes of torchvision's class of this name. (2, 9) is the
    comprehensive study's `randaugment`, (3, 15) its `randaugment_strong`.
    """

    num_ops: int = 2
    magnitude: int = 9

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        choices = operations(self.magnitude, images.shape[1], images.shape[2])
        for _ in range(self.num_ops):
            drawn = torch.randint(len(choices), (len(images),), generator=generator)
            images = _each_its_own(choices, drawn, images)
        return images


def _each_its_own(choices: Sequence[Operation], drawn: Tensor, images: Tensor) -> Tensor:
    """Each image through the operation it drew: sorted by operation, so that a group is one stretch of memory."""
    order = drawn.argsort(stable=True)
    grouped = images.index_select(0, sent(order, images.device))
    first = 0
    for number, count in zip(*map(Tensor.tolist, drawn.unique(return_counts=True)), strict=True):
        grouped[first : first + count] = choices[number](grouped[first : first + count])
        first += count
    return grouped.index_select(0, sent(order.argsort(), images.device))


@dataclass(frozen=True)
class Flip:
    """Mirrors each image left to right with probability `p`."""

    p: float = 0.5

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        chosen = sent(torch.rand(len(images), generator=generator) < self.p, images.device)
        return torch.where(chosen[:, None, None, None], images.flip(2), images)


@dataclass(frozen=True)
class Cutout:
    """Blackens a square at a random centre of each image; its side is `share` of the height.

    DeVries and Taylor 2017; the square may reach beyond the border.
    """

    share: float = 0.5

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        height, width = images.shape[1:3]
        half = self.share * height / 2
        centres = torch.rand(len(images), 2, generator=generator) * torch.tensor([height, width])
        rows = (torch.arange(height) + 0.5 - centres[:, :1]).abs() < half
        columns = (torch.arange(width) + 0.5 - centres[:, 1:]).abs() < half
        hole = sent(rows[:, :, None] & columns[:, None, :], images.device)
        return images.masked_fill(hole[..., None], 0)


@dataclass(frozen=True)
class RandomResizedCrop:
    """A random part of each image, scaled to the image's size with antialiasing.

    `scale` bounds the part's area, `ratio` its width over its height (Szegedy et al. 2015).
    """

    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        size = list(images.shape[1:3])
        cropped = torch.empty_like(images)
        for row, (top, left, height, width) in enumerate(self._parts(len(images), size, generator)):
            image = images[row : row + 1].permute(0, 3, 1, 2)
            cropped[row] = tv.resized_crop(image, top, left, height, width, size, antialias=True)[0].permute(
                1, 2, 0
            )
        return cropped

    def _parts(self, count: int, size: Sequence[int], generator: torch.Generator) -> list[list[int]]:
        """Top, left, height and width of each image's part."""
        area = torch.empty(count).uniform_(*self.scale, generator=generator)
        ratio = torch.empty(count).uniform_(*map(math.log, self.ratio), generator=generator).exp()
        whole = torch.tensor(size)
        sides = torch.stack([(area / ratio).sqrt(), (area * ratio).sqrt()], 1).clamp(max=1)
        pixels = (sides * whole).round().clamp(min=1)
        corners = (torch.rand(count, 2, generator=generator) * (whole - pixels + 1)).floor()
        return torch.cat([corners, pixels], 1).int().tolist()


@dataclass(frozen=True)
class Normalise:
    """uint8 (B, H, W, C) -> float32 (B, C, H, W) in channels-last memory: (image / 255 - mean) / std.

    A grey image (C = 1) takes the means over the channels.
    """

    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD

    def __call__(self, images: Tensor, out: Tensor | None = None) -> Tensor:
        """`out`: float32 (B, H, W, C) to write into; a loop that reuses one spares the system fresh memory."""
        count, height, width, channels = images.shape
        mean, std = (torch.tensor(values, device=images.device) * 255 for values in (self.mean, self.std))
        if channels == 1:
            mean, std = mean.mean(0, keepdim=True), std.mean(0, keepdim=True)
        result = torch.empty(images.shape, device=images.device) if out is None else out[:count]
        # Rows of pixels are long enough for vector instructions, three channels are not; on a CPU image by image,
        # so that each stays in the cache.
        rows = result.view(count, height, width * channels)
        step = 1 if images.device.type == "cpu" else max(count, 1)
        for source, target in zip(images.reshape(rows.shape).split(step), rows.split(step), strict=True):
            target.copy_(source).sub_(mean.repeat(width)).div_(std.repeat(width))
        return result.permute(0, 3, 1, 2)


def two_views(images: Tensor, transform: Transform, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two independently augmented copies of a batch, as training with a momentum encoder wants them."""
    return transform(images, generator), transform(images, generator)


NAMED: dict[str, Transform] = {
    "basic": Compose(),
    "randaugment": RandAugment(2, 9),
    "randaugment_strong": RandAugment(3, 15),
    "cutout_randaugment": Compose((Cutout(0.5), RandAugment(2, 9))),
    "crop_flip": Compose((RandomResizedCrop(), Flip())),
}
"""What a study may name: the first three are the comprehensive study's, `cutout_randaugment` is KMCL's."""

TRANSFORMS: dict[str, Callable[..., Transform]] = {
    "cutout": Cutout,
    "flip": Flip,
    "rand_augment": RandAugment,
    "random_resized_crop": RandomResizedCrop,
}
"""What an augmentation that is written out in a study may consist of."""


def build(spec: str | Sequence[Mapping[str, Mapping[str, Any]]]) -> Transform:
    """The transform of a name in `NAMED`, or of a list such as `[{"cutout": {"share": 0.5}}, {"flip": {}}]`.

    Raises DataError for names and settings that there are not.
    """
    if isinstance(spec, str):
        if spec not in NAMED:
            raise DataError(f"augmentation: unknown name {spec!r}: {closest(spec, NAMED)}")
        return NAMED[spec]
    return Compose(tuple(_transform(name, settings) for part in spec for name, settings in part.items()))


def _transform(name: str, settings: Mapping[str, Any]) -> Transform:
    if name not in TRANSFORMS:
        raise DataError(f"augmentation: unknown transform {name!r}: {closest(name, TRANSFORMS)}")
    try:
        return TRANSFORMS[name](**settings)
    except TypeError as error:
        raise DataError(f"augmentation: {name}: {error}") from None
