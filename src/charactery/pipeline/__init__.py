"""Pipeline: runs the stages of a recipe."""
