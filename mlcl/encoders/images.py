"""What image encoders of the libraries share: normalisation, grey images, and the feature width by a dry run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mlcl.encoders.base import Encoder
from mlcl.encoders.catalog import InputShape
from mlcl.encoders.errors import EncoderError


class ImageEncoder(Encoder):
    """A network without its classifier, for images in [0, 1], grey or in colour.

    Normalises by the mean and standard deviation that the network's weights were trained with.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, net: nn.Module, feature_dim: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.feature_dim, self.net = feature_dim, net
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) or (B, 1, H, W) in [0, 1] -> features (B, feature_dim)."""
        return self.net((images - self.mean) / self.std)  # broadcasting makes grey images three channels


def check_images(name: str, inputs: InputShape) -> None:
    """Raises EncoderError unless images have one or three channels and a size."""
    if inputs.channels not in (1, 3):
        raise EncoderError(f"{name}: takes images of 1 or 3 channels, these have {inputs.channels}")
    if inputs.height < 1 or inputs.width < 1:
        raise EncoderError(f"{name}: images of {inputs.height}×{inputs.width} pixels")


def feature_dim(name: str, net: nn.Module, inputs: InputShape) -> int:
    """The number of features that the network returns, found by a forward pass on the meta device.

    Raises EncoderError if the network cannot take images of this size.
    """
    shapes = {
        key: torch.empty_like(value, device="meta") for key, value in net.state_dict(keep_vars=True).items()
    }
    shapes |= {key: torch.empty_like(value, device="meta") for key, value in net.named_buffers()}
    images = torch.empty(2, 3, inputs.height, inputs.width, device="meta")
    net.eval()
    try:
        with torch.no_grad():
            features = torch.func.functional_call(net, shapes, (images,))
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EncoderError(
            f"{name}: cannot take images of {inputs.height}×{inputs.width} pixels ({reason}); "
            "prepare the dataset with another image size, or choose another encoder"
        ) from error
    finally:
        net.train()
    if features.ndim != 2:
        raise EncoderError(f"{name}: gives features of the form {tuple(features.shape[1:])}, not one vector")
    return int(features.shape[1])
