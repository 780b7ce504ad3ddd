"""Data: character -> prompts, drafts, pairs."""
