"""RandAugment (Cubuk et al., arXiv 1909.13719) on batches of images, uint8 (n, H, W, C), in integer arithmetic.

Meaning and magnitudes are those of torchvision's RandAugment; results differ from it by at most one grey level
(tests hold this for every operation). Integers are several times faster than its float arithmetic on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

STEPS = 30  # magnitudes run from 0 to 30
ONE = 1 << 16  # fixed-point numbers: 1.0
GREY = (0.2989, 0.587, 0.114)  # weights of red, green and blue (ITU-R 601)

Operation = Callable[[Tensor], Tensor]


def rand_augment(images: Tensor, num_ops: int, magnitude: int, generator: torch.Generator) -> Tensor:
    """`num_ops` times, each image goes through an operation that is drawn for it."""
    choices = operations(magnitude, images.shape[1], images.shape[2])
    for _ in range(num_ops):
        drawn = torch.randint(len(choices), (len(images),), generator=generator)
        images = _apply_drawn(choices, drawn, images)
    return images


def _apply_drawn(choices: Sequence[Operation], drawn: Tensor, images: Tensor) -> Tensor:
    """Sorts images by the operation they drew, so that each operation works on one contiguous slice."""
    order = drawn.argsort(stable=True)
    grouped = images.index_select(0, copy_drawn(order, images.device))
    first = 0
    for number, count in zip(*map(Tensor.tolist, drawn.unique(return_counts=True)), strict=True):
        grouped[first : first + count] = choices[number](grouped[first : first + count])
        first += count
    return grouped.index_select(0, copy_drawn(order.argsort(), images.device))


@cache
def operations(magnitude: int, height: int, width: int) -> tuple[Operation, ...]:
    """The operations at one magnitude for one image size, to be drawn from uniformly.

    Each of the fourteen is listed twice: once for each sign, or twice as it is, so that all are equally likely.
    """
    part = magnitude / STEPS
    listed: list[Operation] = []
    for sign in (1.0, -1.0):
        blend = 1 + 0.9 * part * sign
        shear = math.degrees(math.atan(0.3 * part * sign))
        moves: list[Operation] = [
            partial(tv.affine, angle=0, translate=[0, 0], scale=1, shear=[shear, 0], center=[0, 0]),
            partial(tv.affine, angle=0, translate=[0, 0], scale=1, shear=[0, shear], center=[0, 0]),
            partial(
                tv.affine, angle=0, translate=[int(150 / 331 * width * part * sign), 0], scale=1, shear=[0, 0]
            ),
            partial(
                tv.affine,
                angle=0,
                translate=[0, int(150 / 331 * height * part * sign)],
                scale=1,
                shear=[0, 0],
            ),
            partial(tv.rotate, angle=30 * part * sign),
        ]
        listed += [partial(move, sources=_PixelSources.of(transform, height, width)) for transform in moves]
        listed += [partial(colour, factor=blend) for colour in (brightness, saturation, contrast, sharpness)]
        listed += [
            torch.clone,
            partial(posterize, bits=8 - round(4 * part)),
            partial(solarize, threshold=255 * (1 - part)),
            autocontrast,
            equalize,
        ]
    return tuple(listed)


@dataclass(frozen=True, eq=False)
class _PixelSources:
    """Which pixel of the original each pixel of a moved image shows.

    Attributes:
        pixels: for each pixel the number of the pixel that it shows, (H * W,) int64; 0 where it shows none.
        black: numbers of the pixels that show none, (K,) int64.
    """

    pixels: Tensor
    black: Tensor

    @classmethod
    def of(cls, transform: Operation, height: int, width: int) -> _PixelSources:
        """Found by sending an image of pixel numbers through torchvision's nearest-neighbour transform."""
        numbers = torch.arange(1, height * width + 1, dtype=torch.float32).reshape(1, height, width)
        moved = transform(numbers).flatten().long()
        return cls((moved - 1).clamp(min=0), torch.nonzero(moved == 0).flatten())


def copy_drawn(drawn: Tensor, device: torch.device) -> Tensor:
    """Copies a tensor that was drawn on the host to the device; from pinned memory, so without synchronising."""
    if device.type == "cuda":
        return drawn.pin_memory().to(device, non_blocking=True)
    return drawn.to(device)


@cache
def _on(device: torch.device, sources: _PixelSources) -> _PixelSources:
    """Copied once per device."""
    return _PixelSources(sources.pixels.to(device), sources.black.to(device))


def move(images: Tensor, sources: _PixelSources) -> Tensor:
    """Each pixel from its source, black where there is none."""
    count, height, width, channels = images.shape
    pixels = images.reshape(count, height * width, channels)
    sources = _on(images.device, sources)
    moved = pixels.index_select(1, sources.pixels)
    moved.index_fill_(1, sources.black, 0)
    return moved.reshape(images.shape)


def _fixed(value: float) -> int:
    return round(value * ONE)


def _blend(images: Tensor, other: Tensor | int, factor: float) -> Tensor:
    """factor * images + (1 - factor) * other, cut to 0..255 and rounded down; `other` is int32, or 0."""
    mixed = images.to(torch.int32) * _fixed(factor)
    if not isinstance(other, int):
        mixed += other * (ONE - _fixed(factor))
    return (mixed >> 16).clamp_(0, 255).to(torch.uint8)


def _planar(images: Tensor) -> Tensor:
    """(n, H, W, C) -> (n, C, H, W): what differs between channels is several times faster in this order."""
    return images.permute(0, 3, 1, 2).contiguous()


def _interleaved(planes: Tensor) -> Tensor:
    return planes.permute(0, 2, 3, 1).contiguous()


def _grey(images: Tensor) -> Tensor:
    """Brightness of each pixel, int32 (n, H, W), rounded down; of a grey image itself."""
    if images.shape[-1] == 1:
        return images[..., 0].to(torch.int32)
    red, green, blue = (
        images[..., number].to(torch.int32).mul_(_fixed(weight)) for number, weight in enumerate(GREY)
    )
    return (red + green + blue) >> 16


def brightness(images: Tensor, factor: float) -> Tensor:
    """Blend with black."""
    return _blend(images, 0, factor)


def saturation(images: Tensor, factor: float) -> Tensor:
    """Blend with the image's own grey."""
    if images.shape[-1] == 1:
        return images.clone()
    return _interleaved(_blend(_planar(images), _grey(images)[:, None], factor))


def contrast(images: Tensor, factor: float) -> Tensor:
    """Blend with the mean grey of the image."""
    mean = _grey(images).to(torch.float32).mean(dim=(1, 2))
    share = (mean * (1 - factor) * ONE).to(torch.int32)[:, None, None, None]
    mixed = images.to(torch.int32) * _fixed(factor) + share
    return (mixed >> 16).clamp_(0, 255).to(torch.uint8)


def sharpness(images: Tensor, factor: float) -> Tensor:
    """Blend with a blurred image (3 x 3, centre five times); the border stays as it is."""
    small = images.to(torch.int16)
    rows = small[:, :-2] + small[:, 1:-1] + small[:, 2:]
    box = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    total = (box + 4 * small[:, 1:-1, 1:-1]).to(torch.int32)
    blurred = images.to(torch.int32)
    blurred[:, 1:-1, 1:-1] = ((2 * total + 13) * 80660) >> 21  # total / 13, rounded
    return _blend(images, blurred, factor)


def posterize(images: Tensor, bits: int) -> Tensor:
    """Keep the upper bits of each value."""
    return images & (256 - (1 << (8 - bits)))


def solarize(images: Tensor, threshold: float) -> Tensor:
    """Invert the values from the threshold on."""
    inverted = (images >= threshold).to(torch.uint8) * 255
    return images ^ inverted


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel of each image to 0..255; a channel of one value stays as it is."""
    planes = _planar(images)
    low, high = (bound.to(torch.int32) for bound in (planes.amin((2, 3), True), planes.amax((2, 3), True)))
    scale = torch.where(high > low, 255 * ONE // (high - low).clamp(min=1), ONE)
    low = torch.where(high > low, low, 0)
    # + 255: the largest value stays 255 although the scale was rounded down.
    stretched = ((planes.to(torch.int32) - low) * scale + 255) >> 16
    return _interleaved(stretched.clamp_(0, 255).to(torch.uint8))


def equalize(images: Tensor) -> Tensor:
    """Flatten the histogram of each channel of each image, as Pillow does."""
    planes = _planar(images)
    count = len(planes) * planes.shape[1]
    first = 256 * torch.arange(count, device=images.device, dtype=torch.int32)
    cells = (planes.to(torch.int32) + first.reshape(*planes.shape[:2], 1, 1)).flatten()
    # torch.bincount is faster on a CPU; on a GPU it synchronises, to find the largest value.
    count_cells = bincount_without_sync if cells.is_cuda else torch.bincount
    histogram = count_cells(cells, minlength=256 * count).reshape(-1, 256)
    tables = _equalize_tables(histogram).flatten()
    return _interleaved(tables.index_select(0, cells).reshape(planes.shape))


def bincount_without_sync(cells: Tensor, minlength: int) -> Tensor:
    """torch.bincount for values below `minlength`, without reading them on the host."""
    counts = torch.zeros(minlength, dtype=torch.int64, device=cells.device)
    return counts.index_add_(0, cells, counts.new_ones(1).expand(len(cells)))


def _equalize_tables(histogram: Tensor) -> Tensor:
    """Lookup tables uint8 (n, 256) of histograms (n, 256).

    Cumulative counts in steps of 1/255 of all pixels but the brightest ones; the identity where the step is 0.
    """
    brightest = 255 - (histogram > 0).to(torch.int8).flip(1).argmax(1)
    last = histogram.gather(1, brightest[:, None])
    step = (histogram.sum(1, keepdim=True) - last) // 255
    below = histogram.cumsum(1) - histogram
    tables = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255)
    identity = torch.arange(256, device=histogram.device)
    return torch.where(step > 0, tables, identity).to(torch.uint8)
