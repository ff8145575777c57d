"""The outcome of running a run again, and how it is put in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgrun.run.console import shown

Entry = dict[str, Any]  # of an evaluation, in provenance.json


@dataclass
class Reproduced:
    """The outcome of running a run again.

    Args:
        folder: the directory of the new run.
        compared: how many evaluations were compared.
        last_step: the environment step of the last of them.
        then, now: the first evaluation that differs, as it was and as it is; None if all are identical.
        differences: what differs between then and now, one line each: config, versions, machine, code.
        notes: what limits the comparison, one line each.
    """

    folder: Path
    compared: int = 0
    last_step: int = 0
    then: Entry | None = None
    now: Entry | None = None
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def identical(self) -> bool:
        """Whether all evaluations that were compared are the same, bit for bit."""
        return self.then is None


def lines_of(folder: Path, found: Reproduced) -> list[str]:
    """Put the outcome in words, one line each."""
    which = f"{shown(folder.absolute())} and {shown(found.folder.absolute())}"
    lines = [f"note: {note}" for note in found.notes]
    if found.then is None:
        count = f"{found.compared} evaluation{'s' * (found.compared != 1)}"
        lines.append(f"identical: {which} agree in parameters and returns at {count}, up to step {found.last_step:,}")
    else:
        lines.append(f"not identical: {which} part at {parting(found)}")
    if found.differences:
        lines += ["what differs between then and now:", *(f"  {line}" for line in found.differences)]
    elif found.then is not None:
        lines.append("nothing that is recorded differs between then and now: not config, versions, machine or code")
    return lines


def parting(found: Reproduced) -> str:
    """Say at which evaluation two runs part, and how."""
    then, now = found.then, found.now
    assert then is not None
    kind = "the final evaluation" if then.get("final") else "the evaluation"
    if not now:
        return f"{kind} at step {then['env_steps']:,}, which the new run did not reach"
    if (then["env_steps"], then["updates"]) != (now["env_steps"], now["updates"]):
        return f"{kind} at step {then['env_steps']:,}, which the new run made at step {now['env_steps']:,}"
    how = "the parameters differ" if then["parameters"] != now["parameters"] else "the parameters are the same"
    return f"{kind} at step {then['env_steps']:,}: {how}, return {then['return']:.6g} then, {now['return']:.6g} now"
