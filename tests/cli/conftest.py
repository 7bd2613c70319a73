"""A synthetic study."""

from tests.synthetic import grid

__all__ = ["grid"]
