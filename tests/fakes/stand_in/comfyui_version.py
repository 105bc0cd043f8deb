"""The version that the stand-ins follow."""

__version__ = "0.3.64"
