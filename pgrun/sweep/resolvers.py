"""The functions that configs may call: `${free_dir:…}`, `${sweep_name:}` and `${job_name:…}`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from pgrun.run.claim import NewFolders
from pgrun.sweep.folder import job_name, sweep_name


class FreeFolders:
    """The directories that `${free_dir:…}` has named in this process.

    While composing, Hydra also resolves values that a later file replaces. So a directory is made only when a run asks
    for it.
    """

    def __init__(self) -> None:
        self.made = NewFolders()
        self.named: dict[str, str] = {}
        self.making = False

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """For the block, make directories instead of only naming them."""
        self.making = True
        try:
            yield
        finally:
            self.making = False

    def __call__(self, path: str) -> str:
        """Return this path, or with _2, _3, … appended if it exists; while claiming, make the directory."""
        if path in self.named or not self.making:
            return self.named.get(path, path)
        try:
            self.named[path] = self.made.make_free(Path(path))
        except OSError:
            self.made.remove()
            return path  # the error is reported when the run makes the directory
        return self.named[path]


def register_resolvers(folders: FreeFolders | None = None) -> None:
    """Register the functions with OmegaConf.

    Args:
        folders: the directories that were named so far; None: none.
    """
    OmegaConf.register_new_resolver("free_dir", folders or FreeFolders(), replace=True)
    # cached with the config, so that all jobs of a sweep have the same directory, wherever they run
    OmegaConf.register_new_resolver("sweep_name", lambda: sweep_name(sys.argv[1:]), replace=True, use_cache=True)
    OmegaConf.register_new_resolver(
        "job_name", lambda number, overrides: job_name(number, overrides, constant_keys(sys.argv[1:])), replace=True
    )


def constant_keys(argv: Sequence[str]) -> set[str]:
    """Find the keys to which a sweep's command line gives a single value, the same in each job."""
    given = [arg for arg in argv if "=" in arg and not arg.startswith("-")]
    keys = {o.key_or_group for o in OverridesParser.create().parse_overrides(given) if not o.is_sweep_override()}
    return keys - {"seed"} if "hydra.sweeper.seeds" in keys else keys  # `seed` is then only the first of several
