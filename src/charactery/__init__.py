"""Charactery: write a character as a text file, train a model into it, find out whether it took."""

__version__ = "0.1.0"
