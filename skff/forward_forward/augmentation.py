"""Augmentations: ``(batch, generator) -> batch``, applied to the features of each batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class ImageShift:
    """Shift each image by a random whole number of pixels in both directions.

    Parameters
    ----------
    max_shift : int, default=1
        Largest shift in pixels, at least 1; every shift up to it is equally likely.
    image_shape : tuple of int (height, width), default=None
        None means a square image.

    Notes
    -----
    Pixels shifted in from outside the image are 0.

    Examples
    --------
    >>> import torch
    >>> from skff.forward_forward.augmentation import ImageShift
    >>> images = torch.rand(5, 64)
    >>> ImageShift()(images, torch.Generator().manual_seed(0)).shape
    torch.Size([5, 64])
    """

    max_shift: int = 1
    image_shape: tuple | None = None

    def __post_init__(self):
        """Validate the parameters."""
        if not isinstance(self.max_shift, Integral) or self.max_shift < 1:
            raise ValueError(
                f"Got max_shift={self.max_shift!r}, but expected a whole number of pixels of at "
                "least 1."
            )

    def __call__(self, batch: Tensor, generator: Generator) -> Tensor:
        """Shift the images of a batch.

        Parameters
        ----------
        batch : Tensor of shape (n, height * width)
            Images in row-major order.
        generator : torch.Generator
            Source of randomness.

        Returns
        -------
        shifted : Tensor of shape (n, height * width)
            New images.

        Raises
        ------
        ValueError
            If the number of features does not match `image_shape`.
        """
        height, width = self._shape(batch.shape[1])
        pad, n = self.max_shift, len(batch)
        padded = torch.nn.functional.pad(batch.view(n, height, width), (pad,) * 4).flatten(1)
        stride = width + 2 * pad
        device = batch.device
        corner = torch.randint(0, 2 * pad + 1, (2, n, 1), generator=generator, device=device)
        rows = torch.arange(height, device=device).mul_(stride).unsqueeze(1)
        pixels = (rows + torch.arange(width, device=device)).flatten()
        return padded.gather(1, corner[0] * stride + corner[1] + pixels)

    def _shape(self, n_features):
        side = math.isqrt(n_features)
        shape = self.image_shape or (side, side)
        if len(shape) != 2 or math.prod(shape) != n_features:
            raise ValueError(
                f"Got n_features={n_features} with image_shape={self.image_shape}, but expected "
                "height * width features (a square image where image_shape is None)."
            )
        return shape
