"""Scaffolds: whether a character holds under pressure and outside chat."""
