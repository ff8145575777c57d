"""The doctor from Python: why a run doesn't learn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pgrun.api.arguments import PathLike, find_code
from pgrun.api.independent import independent

if TYPE_CHECKING:
    from pgrun.after.doctor.findings import Diagnosis


@independent
def doctor(run: PathLike, *, probe: bool = False, config_dir: PathLike | None = None, trust: bool = False) -> Diagnosis:
    """Say why a run doesn't learn, as `pgrun doctor RUN` does.

    Args:
        run: the run, or its directory.
        probe: also train its recipe on small environments where the answer is known; that takes up to a minute.
        config_dir: a folder of your own configs, beside which code of yours lies.
        trust: use the code of a run that was not made here.

    Returns:
        The diagnosis; its `findings` have rule, evidence, changes and source each.

    Raises:
        UserError: it is no run directory, or has no curves yet.
    """
    from pgrun.after.doctor.diagnose import diagnose

    find_code(config_dir)
    return diagnose(Path(run), probe=probe, trust=trust)
