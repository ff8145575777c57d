"""The config groups that a user chooses from, and their members."""

from __future__ import annotations

from pathlib import Path

from pgrun.config.packages import packages
from pgrun.config.paths import config_dir

GROUPS = {  # by what `pgrun list` calls them
    **{"algos": "algo", "advantages": "algo/advantage", "baselines": "algo/baseline"},
    **{"critic_fits": "algo/critic_fit", "explorations": "algo/exploration"},
    **{"envs": "env", "shapings": "env/shaping", "networks": "network", "optimizers": "optimizer"},
    **{"memories": "memory", "collectors": "collector", "parallel": "parallel", "hooks": "hook", "sweeps": "sweep"},
}
ADDED = ("hook", "sweep")  # groups of which no run has a member by itself: +hook=NAME


def members(group: str, *folders: Path) -> dict[str, str]:
    """List a config group's members with the first line of comment in each.

    These are pgrun's, those of installed packages, and those of other folders.
    """
    found: dict[str, str] = {}
    whose = {package.folder: package.name for package in packages()}
    for folder in (*reversed(whose), config_dir(), *folders):  # the last that has a name counts
        of = f" (package {whose[folder]})" if folder in whose else ""
        found |= {name: f"{line}{of}".strip() for name, line in commented(folder / group).items()}
    return dict(sorted(found.items()))


def commented(folder: Path) -> dict[str, str]:
    """List the configs in a folder with the first line of comment in each that is not its own name."""
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        lines = path.read_text(encoding="utf-8").splitlines()
        said = (line for line in lines if line.startswith("# ") and not line.startswith("# @"))
        comment = next((line for line in said if not line.endswith(f"/{path.parent.name}/{path.name}")), "# ")
        found[path.stem] = comment.removeprefix("# ").strip()
    return found
