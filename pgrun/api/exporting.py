"""Exporting a run's policy from Python."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pgrun.api.arguments import PathLike, find_code
from pgrun.api.independent import independent


@independent
def export(
    run: PathLike,
    path: PathLike,
    *,
    checkpoint: PathLike = "latest",
    stochastic: bool = False,
    force: bool = False,
    config_dir: PathLike | None = None,
    trust: bool = False,
) -> dict[str, Any]:
    """Write a run's policy as one graph, from the environment's observations to its actions, and a card beside it.

    Args:
        run: the run, or its directory.
        path: the file: FILE.onnx, or FILE.pt2 for torch.export; the card is FILE.onnx.json or FILE.pt2.json.
        checkpoint: `latest`, `best` or a checkpoint's file.
        stochastic: sample actions, from noise that is an input; else take the best.
        force: replace a file that is there.
        config_dir: a folder of your own configs, beside which code of yours lies.
        trust: use the code of a run that was not made here.

    Returns:
        The card: inputs, outputs, how to call it, and where it is from.

    Raises:
        UserError: the run, the checkpoint or a package is missing, or the policy can't be exported.
    """
    from pgrun.after.exporting import export_policy

    find_code(config_dir)
    how = {"stochastic": stochastic, "force": force, "trust": trust}
    return export_policy(Path(run), Path(path), which=os.fspath(checkpoint), **how)
