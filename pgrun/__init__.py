"""pgrun: a config-driven experiment runner for policy-gradient reinforcement learning.

From Python: `train`, `resume`, `evaluate`, `load`, `compose`, `play`, `runs`, `doctor`, `export`, `reproduce` and
`verify`; see docs/python.md. Importing this is quick: what they need, torch above all, is loaded when one of these
names is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pgrun.config.renamed import serve_old_names
from pgrun.trust.finder import inherit

if TYPE_CHECKING:
    from pgrun.after.acting import Policy
    from pgrun.after.records import Record
    from pgrun.api.checking import reproduce, verify
    from pgrun.api.doctor import doctor
    from pgrun.api.exporting import export
    from pgrun.api.listing import runs
    from pgrun.api.loading import load
    from pgrun.api.playing import play
    from pgrun.api.runs import Run
    from pgrun.api.training import compose, evaluate, resume, train
    from pgrun.errors import Diverged, EnvFailed, UserError

__version__ = "0.2.0"
__all__ = [
    "Diverged",
    "EnvFailed",
    "Policy",
    "Record",
    "Run",
    "UserError",
    "__version__",
    "compose",
    "doctor",
    "evaluate",
    "export",
    "load",
    "play",
    "reproduce",
    "resume",
    "runs",
    "train",
    "verify",
]

serve_old_names()
inherit()

PLACES = {
    **dict.fromkeys(("compose", "evaluate", "resume", "train"), "pgrun.api.training"),
    **dict.fromkeys(("Diverged", "EnvFailed", "UserError"), "pgrun.errors"),
    **dict.fromkeys(("reproduce", "verify"), "pgrun.api.checking"),
    "export": "pgrun.api.exporting",
    "doctor": "pgrun.api.doctor",
    "load": "pgrun.api.loading",
    "play": "pgrun.api.playing",
    "Policy": "pgrun.after.acting",
    "Record": "pgrun.after.records",
    "Run": "pgrun.api.runs",
    "runs": "pgrun.api.listing",
}


def __getattr__(name: str) -> Any:
    """Import a name of the Python interface when it is first used."""
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(PLACES[name]), name)
    return value


def __dir__() -> list[str]:
    """List the Python interface's names, too."""
    return sorted({*globals(), *__all__})
