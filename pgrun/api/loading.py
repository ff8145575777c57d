"""Loading a run's policy from Python."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pgrun.api.arguments import PathLike, check_whole, find_code
from pgrun.api.independent import independent

if TYPE_CHECKING:
    from pgrun.after.acting import Policy


@independent
def load(
    run: PathLike,
    checkpoint: PathLike = "latest",
    *,
    device: str = "cpu",
    stochastic: bool = False,
    seed: int | None = None,
    config_dir: PathLike | None = None,
    trust: bool = False,
) -> Policy:
    """Load a run's policy, to act where you step the environment: `action = policy(obs)`.

    Args:
        run: the run, or its directory.
        checkpoint: `latest`, `best` or a checkpoint's file.
        device: where it acts: cpu, cuda or cuda:N.
        stochastic: sample actions, as in training; else take the best.
        seed: of its own random numbers; None: the one of the run's own evaluations.
        config_dir: a folder of your own configs, beside which code of yours lies.
        trust: use the code of a run that was not made here.

    Raises:
        UserError: it is no run directory, holds no such checkpoint, or its environment can't be had here.
    """
    from pgrun.after.acting import load_policy

    if seed is not None:
        check_whole("seed", seed, 0)
    find_code(config_dir)
    return load_policy(Path(run), os.fspath(checkpoint), device=device, stochastic=stochastic, seed=seed, trust=trust)
