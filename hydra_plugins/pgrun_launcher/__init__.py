"""Hydra finds launchers only in this namespace package; `hydra/launcher=joblib` chooses this one."""
