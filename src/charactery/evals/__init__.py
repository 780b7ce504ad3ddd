"""Evals: tasks, items, controls."""
