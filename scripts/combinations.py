"""Find out which advantages and baselines work with which algorithms, by building each combination.

    python scripts/pages.py combinations    # about a minute; writes the table into docs/estimators.md

A refusal says in one line what would be right. If it names a setting of EXTRA, the combination is built again with that
setting.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from pgrun.config.paths import config_dir
from pgrun.errors import UserError
from pgrun.run.build import build
from pgrun.sweep.resolvers import register_resolvers

PER_PARAMETER = "optimal, per parameter"
EXTRA = ("collector=episodes", "algo.normalize=none", "algo.normalize_advantage=false")
ADVANTAGES = ("total_return", "reward_to_go", "td", "nstep", "gae", "vtrace", "q", "a", "mixture", "ones")
BASELINES = ("none", "value", "average", "optimal", PER_PARAMETER)


def raw(name: str) -> DictConfig:
    """Load a config file by itself."""
    return DictConfig(OmegaConf.load(config_dir() / f"{name}.yaml"))


def algorithms() -> list[str]:
    """List the algorithms whose recipe, or the one that it builds on, leaves Ψ_t to the user."""
    return [path.stem for path in sorted((config_dir() / "algo").glob("*.yaml")) if leaves_psi(path.stem)]


def leaves_psi(name: str) -> bool:
    """Tell whether a recipe, or one that it builds on, chooses Ψ_t by a group."""
    text = (config_dir() / "algo" / f"{name}.yaml").read_text()
    if "/collector: demonstrations" in text:  # which are weighed alike
        return False
    parents = [each for each in raw(f"algo/{name}").get("defaults") or [] if isinstance(each, str) and each != "_self_"]
    return "\n  - advantage@algo.advantage: " in text or any(leaves_psi(parent) for parent in parents)


@dataclass(frozen=True)
class Combination:
    """One algorithm with one Ψ_t on one environment."""

    algo: str
    advantage: str
    baseline: str
    env: str = "cartpole"

    def overrides(self) -> list[str]:
        """Return the combination as it is typed in the shell."""
        baseline = ["algo/baseline=optimal", "algo.baseline.per_parameter=true"]
        if self.baseline != PER_PARAMETER:
            baseline = [f"algo/baseline={self.baseline}"]
        return [f"algo={self.algo}", f"env={self.env}", f"algo/advantage={self.advantage}", *baseline]

    def refusal(self, *extra: str) -> str | None:
        """Return why it can't be built with these overrides; None if it can."""
        config = copy.deepcopy(compose(f"algo={self.algo}", f"env={self.env}", *extra))
        config.algo.advantage = raw(f"algo/advantage/{self.advantage}")
        config.algo.baseline = raw(f"algo/baseline/{self.baseline.split(',')[0]}")
        if self.baseline == PER_PARAMETER:
            config.algo.baseline.per_parameter = True
        try:
            build(config).collector.env.close()
        except UserError as error:
            return str(error)
        return None

    def needs(self) -> tuple[str, ...] | None:
        """Find the overrides that have to be added, as the refusals say.

        Returns:
            () for most combinations; None for one that has no meaning.
        """
        extra: tuple[str, ...] = ()
        while (words := self.refusal(*extra)) is not None:
            named = [each for each in EXTRA if each in words and each not in extra]
            if not named:
                return None
            extra += (named[0],)
        return extra


@cache
def compose(*overrides: str) -> DictConfig:
    """Compose the config of these overrides, with small sizes."""
    register_resolvers()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        return hydra.compose("config", overrides=[*overrides, "num_envs=2", "network.hidden=[8]"])


def cell(found: dict[str, tuple[str, ...] | None]) -> str:
    """Format where a Ψ_t works: for all, all but some, or some algorithms; ¹ marks those that need whole episodes."""
    works = {algo: extra for algo, extra in found.items() if extra is not None}
    if not works:
        return "–"
    episodes = all("collector=episodes" in extra or algo == "reinforce" for algo, extra in works.items())
    others = [algo for algo in found if algo not in works]
    names = ", ".join(works) if len(works) < len(others) else "all but " + ", ".join(others) if others else "all"
    return names + ("¹" if episodes else "")


def table() -> str:
    """Format the Markdown table: advantages down, baselines across."""
    lines = ["| `algo/advantage` | " + " | ".join(BASELINES) + " |", "| --- " * (len(BASELINES) + 1) + "|"]
    for advantage in ADVANTAGES:
        found = {
            baseline: {algo: Combination(algo, advantage, baseline).needs() for algo in algorithms()}
            for baseline in BASELINES
        }
        marks = "²" if any(extra and "normalize" in extra[-1] for extra in found["none"].values()) else ""
        cells = " | ".join(cell(found[baseline]) for baseline in BASELINES)
        lines.append(f"| `{advantage}`{marks} | {cells} |")
    return "\n".join(lines)


def sample() -> list[Combination]:
    """Choose two combinations of each algorithm so that every row and column of the table is among them."""
    found = []
    for i, algo in enumerate(algorithms()):
        found.append(Combination(algo, ADVANTAGES[i % len(ADVANTAGES)], "value"))
        found.append(Combination(algo, ADVANTAGES[(i + 4) % len(ADVANTAGES)], BASELINES[i % len(BASELINES)]))
    return found


def page() -> str:
    """Write the table of docs/estimators.md, and what its words and marks stand for."""
    names = ", ".join(f"`{algo}`" for algo in algorithms())
    marks = "¹ Whole episodes: with `collector=episodes`. ² Without normalisation of Ψ."
    return f"{table()}\n\nall: {names}\n\n{marks}"
