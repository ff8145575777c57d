"""What configs may call: `${free_dir:…}`, `${sweep_name:}` and `${job_name:…}`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from pgrun.run.claim import make, remove_made

_claimed: dict[str, str] = {}
_claiming: list[bool] = []


def register_resolvers() -> None:
    """Register them with OmegaConf."""
    from pgrun.sweep.folder import job_name, sweep_name

    # Hydra, composing, resolves what a later file replaces: a directory is made where a run asks for it alone
    OmegaConf.register_new_resolver(
        "free_dir", lambda path: free_dir(path) if _claiming else _claimed.get(path, path), replace=True
    )
    # cached with the config: a sweep's jobs, wherever they run, share the sweep's directory
    OmegaConf.register_new_resolver("sweep_name", lambda: sweep_name(sys.argv[1:]), replace=True, use_cache=True)
    OmegaConf.register_new_resolver(
        "job_name", lambda number, overrides: job_name(number, overrides, constant_keys(sys.argv[1:])), replace=True
    )


def constant_keys(argv: Sequence[str]) -> set[str]:
    """The keys to which a sweep's command line gives one value, in each job."""
    given = [arg for arg in argv if "=" in arg and not arg.startswith("-")]
    one = {o.key_or_group for o in OverridesParser.create().parse_overrides(given) if not o.is_sweep_override()}
    return one - {"seed"} if "hydra.sweeper.seeds" in one else one  # from `seed` on


@contextmanager
def claiming() -> Iterator[None]:
    """In the block `${free_dir:…}` makes the directory; elsewhere it only names it."""
    _claiming.append(True)
    try:
        yield
    finally:
        _claiming.pop()


def free_dir(path: str) -> str:
    """This path, or with _2, _3, … behind it where another run took it; made at once, so that no other run can."""
    if path not in _claimed:
        try:
            _claimed[path] = make_free(Path(path))
        except OSError:
            remove_made()
            return path  # why it can't be made is told when it is to be
    return _claimed[path]


def make_free(path: Path) -> str:
    """Make this directory, or the first of _2, _3, … that is not there; -> its name."""
    make(path.parent.absolute())
    candidate, number = path, 1
    while os.path.lexists(candidate) or not make(candidate.absolute()):
        number += 1
        candidate = Path(f"{path}_{number}")
    return str(candidate)
