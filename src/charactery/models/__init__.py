"""Models: load, generate, score, read; adapters; the Inspect provider. Torch is imported on use, not here."""
