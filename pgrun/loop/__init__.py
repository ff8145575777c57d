"""The one training loop and what watches it: hooks, evaluation, diagnostics. It reads no config and no files."""
