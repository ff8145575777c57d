"""Hydra finds launchers only in this namespace package; `hydra/launcher=basic`, joblib, ray and slurm choose these.

It executes each module anew that has no underscore before its name, so what several of them use is in those that have.
"""
