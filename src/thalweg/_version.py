"""The version, read by the build and written into every store and checkpoint."""

__version__ = "0.1.0"
