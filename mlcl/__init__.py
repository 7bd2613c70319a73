"""mlcl: benchmark and reproduction suite for multi-label contrastive learning.

Importing the package is light: torch, pandas and the like are imported by the module that needs them.
"""

__version__ = "0.1.0"
