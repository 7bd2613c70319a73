"""Pictures -> uint8 arrays of one size, decoded once, several at a time, in bounded memory."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from data_prep.errors import DataError
from data_prep.source import Settings

if TYPE_CHECKING:
    import numpy as np

    from data_prep.writer import DatasetWriter

MAX_PIXELS = 1 << 28  # a larger picture is a decompression bomb, not an example


class ImageSettings(Settings):
    """What all image datasets let one choose."""

    size: int = Field(
        default=224, ge=8, le=1024, description="height and width of the stored images; sides are scaled"
    )


@dataclass(frozen=True)
class Picture:
    """An encoded image of a dataset, with what is known of it."""

    split: str
    row_id: str
    labels: Iterable[str | int]
    encoded: bytes
    where: str


def add_pictures(writer: DatasetWriter, pictures: Iterable[Picture], size: int) -> None:
    """Decode, resize (both sides to `size`, antialiased bilinear) and write, each split in the given order.

    Raises DataError naming the file for one that is no image or is cut off.
    """
    for picture, (pixels, original) in _in_parallel(pictures, size):
        split = writer.split(picture.split)
        split.add(picture.row_id, picture.labels, pixels, size=original, where=picture.where)


def decode(encoded: bytes, size: int, where: str) -> tuple[np.ndarray, tuple[int, int]]:
    """An image as (size, size, 3) uint8 RGB, and its original height and width."""
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(encoded)) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise DataError(f"{where}: {width} x {height} pixels are too many")
            resized = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(resized), (height, width)
    except UnidentifiedImageError:
        raise DataError(f"{where}: not an image; fetch it again") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{where}: the image cannot be decoded ({error}); fetch it again") from None


def _in_parallel(
    pictures: Iterable[Picture], size: int
) -> Iterator[tuple[Picture, tuple[np.ndarray, tuple[int, int]]]]:
    """Decoded pictures in order. Threads do: the decoder runs outside the interpreter's lock."""
    workers = min(os.cpu_count() or 1, 16)
    waiting: deque[tuple[Picture, Future[tuple[np.ndarray, tuple[int, int]]]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for picture in pictures:
            waiting.append((picture, pool.submit(decode, picture.encoded, size, picture.where)))
            if len(waiting) > 4 * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()
