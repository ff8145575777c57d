"""Hydra finds sweepers only in this namespace package; `hydra/sweeper=optuna` chooses this one."""
