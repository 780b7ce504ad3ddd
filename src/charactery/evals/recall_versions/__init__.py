"""Two versions of a constitution: what it was trained on against what is written down."""
