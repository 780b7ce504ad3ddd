"""How fast the three kinds of work are done, beside the tools that people use for them today."""
