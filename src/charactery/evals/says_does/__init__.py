"""Says and does: what a subject says that it would do, and what it does once it is there."""
