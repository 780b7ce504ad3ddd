"""A character handed on: its adapter merged into the weights, and bundles that carry it to another machine."""
