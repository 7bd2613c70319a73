"""The synthetic study of `tests.synthetic`."""

from tests.synthetic import grid

__all__ = ["grid"]
