"""The doctor from Python: why a run doesn't learn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pgrun.api.arguments import PathLike, find_code
from pgrun.api.independent import independent, undisturbed_alone

if TYPE_CHECKING:
    from pgrun.after.doctor.findings import Diagnosis


def doctor(run: PathLike, *, probe: bool = False, config_dir: PathLike | None = None, trust: bool = False) -> Diagnosis:
    """Say why a run doesn't learn, as `pgrun doctor RUN` does.

    Args:
        run: the run, or its directory.
        probe: also train its recipe on small environments where the answer is known; that takes up to a minute.
        config_dir: a folder of your own configs, beside which code of yours lies; only probes need it.
        trust: use the code of a run that was not made here; only probes do.

    Returns:
        The diagnosis; its `findings` have rule, evidence, changes and source each.

    Raises:
        UserError: it is no run directory, has no curves yet, or its code would be needed and is not trusted.
    """
    if probe:
        return probed(Path(run), config_dir, trust=trust)
    from pgrun.after.doctor.diagnose import diagnose

    with undisturbed_alone():  # without torch, which takes seconds to import
        return diagnose(Path(run))


@independent
def probed(folder: Path, config_dir: PathLike | None, *, trust: bool) -> Diagnosis:
    """Say why a run doesn't learn, and train its recipe on small environments."""
    from pgrun.after.doctor.probe import diagnose_and_climb

    find_code(config_dir)
    return diagnose_and_climb(folder, trust=trust)
