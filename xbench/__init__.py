"""xbench: an evaluation benchmark for explanation methods of image classifiers."""

__version__ = "0.1.0"
