"""What configs may call: `${free_dir:…}`, `${sweep_name:}` and `${job_name:…}`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

_claimed: dict[str, str] = {}


def register_resolvers() -> None:
    """Register them with OmegaConf."""
    from pgrun.sweep import job_name, sweep_name

    # cached with the config: a sweep's jobs, wherever they run, share the sweep's directory
    OmegaConf.register_new_resolver("free_dir", free_dir, replace=True, use_cache=True)
    OmegaConf.register_new_resolver("sweep_name", lambda: sweep_name(sys.argv[1:]), replace=True, use_cache=True)
    OmegaConf.register_new_resolver(
        "job_name", lambda number, overrides: job_name(number, overrides, constant_keys(sys.argv[1:])), replace=True
    )


def constant_keys(argv: Sequence[str]) -> set[str]:
    """The keys to which a sweep's command line gives one value."""
    given = [arg for arg in argv if "=" in arg and not arg.startswith("-")]
    return {o.key_or_group for o in OverridesParser.create().parse_overrides(given) if not o.is_sweep_override()}


def free_dir(path: str) -> str:
    """This path, or with _2, _3, … behind it where another run took it; made at once, so that no other run can."""
    if "--cfg" in sys.argv or "-c" in sys.argv:
        return path
    if path not in _claimed:
        try:
            _claimed[path] = make_free(Path(path))
        except OSError:
            return path  # why it can't be made is told when it is to be
    return _claimed[path]


def make_free(path: Path) -> str:
    """Make this directory, or the first of _2, _3, … that is not there; -> its name."""
    from pgrun.claim import make

    make(path.parent.absolute())
    candidate, number = path, 1
    while os.path.lexists(candidate) or not make(candidate.absolute()):
        number += 1
        candidate = Path(f"{path}_{number}")
    return str(candidate)
