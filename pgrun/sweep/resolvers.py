"""What configs may call: `${free_dir:…}`, `${sweep_name:}` and `${job_name:…}`."""

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
    """The directories that `${free_dir:…}` has named for this process.

    Hydra, composing, resolves what a later file replaces, so a directory is made only where a run asks for it.
    """

    def __init__(self) -> None:
        self.made = NewFolders()
        self.named: dict[str, str] = {}
        self.making = False

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """In the block a directory is made; elsewhere it is only named."""
        self.making = True
        try:
            yield
        finally:
            self.making = False

    def __call__(self, path: str) -> str:
        """This path, or with _2, _3, … behind it where another run took it; made at once, so that no other run can."""
        if path in self.named or not self.making:
            return self.named.get(path, path)
        try:
            self.named[path] = self.made.make_free(Path(path))
        except OSError:
            self.made.remove()
            return path  # why it can't be made is told when it is to be
        return self.named[path]


def register_resolvers(folders: FreeFolders | None = None) -> None:
    """Register them with OmegaConf.

    Args:
        folders: where directories are named; None: of this call's own.
    """
    OmegaConf.register_new_resolver("free_dir", folders or FreeFolders(), replace=True)
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
