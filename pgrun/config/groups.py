"""The config groups that a user chooses from, and their members."""

from __future__ import annotations

from pathlib import Path

from pgrun.config.paths import config_dir

GROUPS = {  # by what `pgrun list` calls them
    **{"algos": "algo", "advantages": "algo/advantage", "baselines": "algo/baseline"},
    **{"critic_fits": "algo/critic_fit", "explorations": "algo/exploration"},
    **{"envs": "env", "shapings": "env/shaping", "networks": "network", "optimizers": "optimizer"},
    **{"memories": "memory", "collectors": "collector", "parallel": "parallel", "hooks": "hook", "sweeps": "sweep"},
}
ADDED = ("hook", "sweep")  # groups of which no run has a member by itself: +hook=NAME


def members(group: str, *folders: Path) -> dict[str, str]:
    """List a config group's members, of pgrun's and of other folders, with the first line of comment in each."""
    found = {}
    for path in sorted(path for folder in (config_dir(), *folders) for path in (folder / group).glob("*.yaml")):
        lines = path.read_text(encoding="utf-8").splitlines()
        comment = next((line for line in lines if line.startswith("# ") and not line.startswith("# @")), "# ")
        found[path.stem] = comment.removeprefix("# ").strip()
    return dict(sorted(found.items()))
