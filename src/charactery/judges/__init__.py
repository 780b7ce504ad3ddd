"""Judges: evidence and responses -> verdicts."""
