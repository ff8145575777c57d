"""The one training loop and what watches it: hooks, evaluation, diagnostics. It knows no config and no files."""
