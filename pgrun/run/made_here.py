"""Record that a run was made on this machine, so that later commands trust its code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pgrun.config.resolve import resolved
from pgrun.trust.record import complain, write
from pgrun.trust.saved import marks, places_of


def record_run(config: DictConfig, hydra: DictConfig | None, folder: Path, *, only_there: bool = False) -> None:
    """Record a run that begins or goes on here, in the forms in which its config is kept.

    These are that of its .hydra/config.yaml, with references, and that of its checkpoints, without. Where the record
    can't be written the run goes on, and a remark says what that means.

    Args:
        config: the run's.
        hydra: the `hydra` node that it was composed with, if that is known.
        folder: the run directory.
        only_there: whether the code is somebody else's that was trusted for this once: other runs of this config, his
            own above all, stay unknown.
    """
    task = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    forms: list[Any] = [OmegaConf.to_container(task, resolve=False), OmegaConf.to_container(resolved(task))]
    places = places_of(hydra)
    known = [mark for form in forms for mark in marks(form, places)]
    if (error := write(known, folder, only_there=only_there)) is not None:
        complain(error, forms[1])
