"""Optuna as a sampler of a sweep's jobs. Only what is here imports optuna."""
