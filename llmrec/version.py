"""The version of the package, which runs and reports carry."""

__version__ = "0.1.0"
