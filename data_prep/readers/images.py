"""Pictures -> uint8 arrays of one size, decoded once, several at a time, in bounded memory."""

from __future__ import annotations

import io
import os
import struct
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from data_prep.errors import DataError
from data_prep.source import Settings

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from data_prep.writer import DatasetWriter

MAX_PIXELS = 1 << 28  # a larger picture is a decompression bomb, not an example
LARGE = 1 << 25  # pixels of a picture that is decoded alone, to bound memory
MAX_NAMED = 10  # damaged images that an error names
# Read by content, whatever the name says. Others (EPS, PDF) make Pillow start other programs.
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
SUFFIXES = frozenset(
    (
        ".bmp",
        ".gif",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".pbm",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    )
)
OnDamaged = Literal["error", "skip"]
_LARGE_ONES = threading.Lock()


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
    problem: str = ""
    """Why there is nothing to decode: the image is missing, say."""


Decoded = tuple["np.ndarray", tuple[int, int]]
"""Pixels (size, size, 3) uint8, and the height and width before resizing."""


def add_pictures(
    writer: DatasetWriter, pictures: Iterable[Picture], size: int, on_damaged: OnDamaged | None = None
) -> None:
    """Decode, resize (both sides to `size`, antialiased bilinear) and write, each split in the given order.

    Args:
        on_damaged: `skip` leaves out images that are missing or cannot be decoded, and counts them; None where the
            source has no such setting.

    Raises DataError that names all of them (the first ten) once all images were read.
    """
    damaged: list[str] = []
    for picture, decoded in _in_parallel(pictures, size):
        if not isinstance(decoded, DataError):
            split = writer.split(picture.split)
            split.add(picture.row_id, picture.labels, decoded[0], size=decoded[1], where=picture.where)
        elif on_damaged == "skip":
            writer.warn("images left out: missing or damaged", str(decoded))
        else:
            damaged.append(str(decoded))
    if damaged:
        advice = "; set on_damaged: skip to leave them out" if on_damaged else ""
        listed = "; ".join(damaged[:MAX_NAMED]) + ("; ..." if len(damaged) > MAX_NAMED else "")
        raise DataError(
            f"{len(damaged)} images cannot be read{advice}: {listed}" if damaged[1:] else listed + advice
        )


def decode(encoded: bytes, size: int, where: str) -> Decoded:
    """An image as (size, size, 3) uint8 RGB, upright, and its original height and width.

    Raises DataError for what is no image of the `FORMATS`, cannot be decoded, or has more than `MAX_PIXELS`.
    """
    from PIL import Image, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is lower than ours, and names no file
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise DataError(f"{where}: {width} x {height} pixels are too many (at most {MAX_PIXELS})")
            if width * height <= LARGE:
                return _resized(image, size, where)
            with _LARGE_ONES:
                return _resized(image, size, where)
    except UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise DataError(f"{where}: not an image, or of another format than {known}; fetch it again") from None
    except (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
        raise DataError(f"{where}: the image cannot be decoded ({error}); fetch it again") from None
    except (MemoryError, struct.error, EOFError, AttributeError, NotImplementedError) as error:
        raise DataError(f"{where}: the image cannot be decoded ({error}); fetch it again") from None


def _resized(image: Image, size: int, where: str) -> Decoded:
    import numpy as np
    from PIL import Image

    image.load()
    whole = _rgb(_upright(image), where)
    width, height = whole.size
    return np.asarray(whole.resize((size, size), Image.Resampling.BILINEAR)), (height, width)


def _upright(image: Image) -> Image:
    """The image turned as a camera's EXIF orientation says."""
    from PIL import ExifTags, ImageOps

    try:
        turned = 1 < image.getexif().get(ExifTags.Base.Orientation, 1) <= 8
        return ImageOps.exif_transpose(image) if turned else image
    except (struct.error, SyntaxError, ValueError, TypeError, KeyError, IndexError, OSError):
        return image  # a damaged EXIF block says nothing about the pixels


def _rgb(image: Image, where: str) -> Image:
    """RGB of 8 bits: 16 bits of grey scaled, transparent pixels on white; convert() alone clips and drops."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        return _grey_of_8_bits(image, where).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _grey_of_8_bits(image: Image, where: str) -> Image:
    import numpy as np
    from PIL import Image

    pixels = np.asarray(image)
    if image.mode == "F" or pixels.min() < 0 or pixels.max() > 65535:
        raise DataError(
            f"{where}: the range of its pixels is unknown (mode {image.mode}: real numbers, or beyond 16 bits); "
            "convert the images to 8 bits, all with the same scale"
        )
    return Image.fromarray(((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8))


def _in_parallel(pictures: Iterable[Picture], size: int) -> Iterator[tuple[Picture, Decoded | DataError]]:
    """Decoded pictures in order, or why there is none. Threads do: the decoder runs outside the interpreter's lock."""
    workers = min(os.cpu_count() or 1, 16)
    waiting: deque[tuple[Picture, Future[Decoded | DataError]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for picture in pictures:
            waiting.append((picture, pool.submit(_decoded, picture, size)))
            if len(waiting) > 4 * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def _decoded(picture: Picture, size: int) -> Decoded | DataError:
    if picture.problem:
        return DataError(picture.problem)
    try:
        return decode(picture.encoded, size, picture.where)
    except DataError as error:
        return error
