"""One run in its directory: its parts built from a config, its checkpoints, files and words. No sweeps here."""
