"""Several processes that run the same loop: what ties them together, and what they do with a gradient."""
