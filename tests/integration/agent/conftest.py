"""What the tests of this folder need."""

from e2e.nvml.fixtures import driver

__all__ = ["driver"]
