"""pgrun: a config-driven experiment runner for policy-gradient reinforcement learning."""

from pgrun.config.renamed import serve_old_names
from pgrun.trust.finder import inherit

__version__ = "0.2.0"

serve_old_names()
inherit()
