"""An algorithm and an environment for pgrun, which finds them by the entry point in pyproject.toml."""
