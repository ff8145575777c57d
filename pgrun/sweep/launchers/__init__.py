"""Launchers, which run a sweep's jobs; `hydra_plugins` makes them known to Hydra."""
