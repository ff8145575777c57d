"""Launchers: where a sweep's jobs run. Each is a thin subclass away from Hydra (`hydra_plugins`)."""
