"""The synthetic study of `tests.synthetic`."""

from tests.synthetic import finished, finished_folder, grid

__all__ = ["finished", "finished_folder", "grid"]
