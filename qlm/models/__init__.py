"""Models: a family is a file of this package with one forward."""

from .base import Model, Output
from .linear import LinearInfo

__all__ = ["LinearInfo", "Model", "Output"]
