"""Optuna as the sampler of a sweep's jobs; no other folder imports optuna."""
