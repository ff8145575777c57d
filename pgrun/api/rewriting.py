"""The one place where a command line is rewritten before Hydra reads it."""

from __future__ import annotations

from collections.abc import Sequence

from pgrun.api.shown_config import first_job
from pgrun.config.command_line import any_key, is_sweep, whole_numbers
from pgrun.errors import UserError
from pgrun.sweep.folder import in_first_order


def rewritten(argv: Sequence[str]) -> list[str]:
    """Rewrite the command line of a training or a sweep for Hydra.

    These are all the changes, in their order:

    1. Whole numbers are written out: `total_steps=1e6` becomes `total_steps=1000000` (`whole_numbers`).
    2. Keys within a node that takes any key may be new: `env.kwargs.size=3` becomes `++env.kwargs.size=3` (`any_key`).
    3. Flags go before overrides; a line that only shows a config (`--cfg job -m seed=3,4`) becomes that of the sweep's
       first job (`--cfg job seed=3`) (`first_job`).
    4. A sweep's overrides go into the order in which the sweep began, so that jobs keep their numbers
       (`in_first_order`).

    `pgrun resume` and `pgrun eval` make the first change alone. Under torchrun `parallel=ddp` and `workers=W` have been
    added before (`pgrun.shell.torchrun.completed`).

    Args:
        argv: the command line, without `pgrun`.

    Raises:
        UserError: the line asks for two things at once, or for a sweep in a way that can't be.
    """
    argv = first_job([any_key(whole_numbers(arg)) for arg in argv])
    if not is_sweep(argv):
        return argv
    for arg in argv:
        if arg.startswith("+sweep=") and "," in arg and "[" not in arg:
            raise UserError(f"{arg}: several files of the group sweep are given as '+sweep=[{arg[7:]}]'")
    return in_first_order(argv)
