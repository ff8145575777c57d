"""pgrun: a config-driven experiment runner for policy-gradient reinforcement learning."""

from pgrun.config.renamed import serve_old_names

__version__ = "0.2.0"

serve_old_names()
