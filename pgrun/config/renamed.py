"""The names of version 0.1, and their names today: of modules, classes, and targets in configs.

Old run directories, and the users' config files and code, still use the old ones.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# modules that have moved
MODULES: dict[str, str] = {
    "pgrun.acting": "pgrun.collect.acting",
    "pgrun.algos.acer_critics": "pgrun.algos.parts.acer_critics",
    "pgrun.algos.base": "pgrun.algos.parts.base",
    "pgrun.algos.critic_fit": "pgrun.algos.parts.critic_fit",
    "pgrun.algos.deterministic": "pgrun.algos.parts.deterministic_policy",
    "pgrun.algos.fitted_critic": "pgrun.algos.parts.fitted_critic",
    "pgrun.algos.off_policy": "pgrun.algos.parts.off_policy",
    "pgrun.algos.on_policy": "pgrun.algos.parts.on_policy",
    "pgrun.algos.proximal": "pgrun.algos.parts.proximal",
    "pgrun.algos.reference": "pgrun.algos.parts.reference",
    "pgrun.algos.scores": "pgrun.algos.parts.scores",
    "pgrun.allocator": "pgrun.system.allocator",
    "pgrun.app": "pgrun.api.app",
    "pgrun.atomic": "pgrun.system.atomic",
    "pgrun.build": "pgrun.run.build",
    "pgrun.check": "pgrun.run.preflight",
    "pgrun.checkpoint": "pgrun.run.checkpoint",
    "pgrun.claim": "pgrun.run.claim",
    "pgrun.cli": "pgrun.shell.cli",
    "pgrun.cluster": "pgrun.parallel.ray.connection",
    "pgrun.command_line": "pgrun.config.command_line",
    "pgrun.commands": "pgrun.run.resuming",
    "pgrun.compiled": "pgrun.optim.compiled",
    "pgrun.demonstrations": "pgrun.collect.demonstrations",
    "pgrun.diagnostics": "pgrun.loop.diagnostics",
    "pgrun.envs.copies": "pgrun.envs.agent_copies",
    "pgrun.episode_file": "pgrun.envs.episode_file",
    "pgrun.episodes": "pgrun.collect.episode_stats",
    "pgrun.eval_env": "pgrun.run.environments",
    "pgrun.evaluate": "pgrun.loop.evaluate",
    "pgrun.explain": "pgrun.shell.commands.explain",
    "pgrun.finite": "pgrun.collect.finite",
    "pgrun.gradient_step": "pgrun.optim.gradient_step",
    "pgrun.hooks": "pgrun.loop.hooks",
    "pgrun.hydra_start": "pgrun.api.hydra_start",
    "pgrun.kfac": "pgrun.optim.kfac",
    "pgrun.lock": "pgrun.system.lock",
    "pgrun.logger": "pgrun.run.tensorboard",
    "pgrun.nn.deterministic": "pgrun.nn.deterministic_actor",
    "pgrun.opening": "pgrun.run.opening",
    "pgrun.origin": "pgrun.run.origin",
    "pgrun.parallel.chief": "pgrun.parallel.ray.chief",
    "pgrun.parallel.crew": "pgrun.parallel.ray.actors",
    "pgrun.parallel.on_ray": "pgrun.parallel.ray.team",
    "pgrun.parallel.team": "pgrun.loop.team",
    "pgrun.parallel.torchrun": "pgrun.shell.torchrun",
    "pgrun.parallel.worker": "pgrun.parallel.workers",
    "pgrun.paths": "pgrun.config.paths",
    "pgrun.progress": "pgrun.run.progress",
    "pgrun.quoting": "pgrun.config.quoting",
    "pgrun.random_actions": "pgrun.collect.random_actions",
    "pgrun.randomness": "pgrun.system.randomness",
    "pgrun.replay": "pgrun.memory.replay",
    "pgrun.resolvers": "pgrun.sweep.resolvers",
    "pgrun.result": "pgrun.run.result_file",
    "pgrun.ring": "pgrun.memory.ring",
    "pgrun.room": "pgrun.system.free_memory",
    "pgrun.run_directory": "pgrun.run.directory",
    "pgrun.sessions": "pgrun.run.sessions",
    "pgrun.shown_config": "pgrun.api.shown_config",
    "pgrun.signals": "pgrun.system.signals",
    "pgrun.suggest": "pgrun.config.suggest",
    "pgrun.sweep_table": "pgrun.sweep.table",
    "pgrun.table": "pgrun.memory.storage",
    "pgrun.tell": "pgrun.run.console",
    "pgrun.terminal": "pgrun.shell.terminal",
    "pgrun.train": "pgrun.loop.train",
    "pgrun.translate": "pgrun.config.hydra_errors",
    "pgrun.tuning": "pgrun.config.tuning",
    "pgrun.types": "pgrun.data.types",
    "pgrun.wrapper_settings": "pgrun.config.wrapper_settings",
    "pgrun.written": "pgrun.run.checkpoint_files",
}
# classes and functions that have left their module, or whose module became a package
NAMES: dict[str, str] = {
    "hydra_plugins.pgrun_launcher.joblib_launcher.JoblibLauncher": "hydra_plugins.pgrun_plugins.JoblibLauncher",
    "hydra_plugins.pgrun_launcher.launcher.BasicLauncher": "hydra_plugins.pgrun_plugins.BasicLauncher",
    "hydra_plugins.pgrun_launcher.ray_launcher.RayLauncher": "hydra_plugins.pgrun_plugins.RayLauncher",
    "hydra_plugins.pgrun_launcher.slurm_launcher.SlurmLauncher": "hydra_plugins.pgrun_plugins.SlurmLauncher",
    "hydra_plugins.pgrun_sweeper.grid_sweeper.GridSweeper": "hydra_plugins.pgrun_plugins.GridSweeper",
    "hydra_plugins.pgrun_sweeper.optuna_sweeper.OptunaSweeper": "hydra_plugins.pgrun_plugins.OptunaSweeper",
    "pgrun.collect.Collector": "pgrun.collect.collector.Collector",
    "pgrun.collect.Episodes": "pgrun.collect.episodes.Episodes",
    "pgrun.collect.Rollouts": "pgrun.collect.rollouts.Rollouts",
    "pgrun.core.advantages.Mixture": "pgrun.core.mixture.Mixture",
    "pgrun.core.advantages.normalize": "pgrun.core.normalization.normalize",
    "pgrun.memory.Guided": "pgrun.memory.guided.Guided",
    "pgrun.memory.Latest": "pgrun.memory.latest.Latest",
    "pgrun.memory.Memory": "pgrun.memory.memory.Memory",
    "pgrun.memory.Trajectories": "pgrun.memory.trajectories.Trajectories",
    "pgrun.optim.Adam": "pgrun.optim.rules.Adam",
    "pgrun.optim.RMSprop": "pgrun.optim.rules.RMSprop",
    "pgrun.optim.SGD": "pgrun.optim.rules.SGD",
    "pgrun.replay.Prioritized": "pgrun.memory.prioritized.Prioritized",
    "pgrun.run.Run": "pgrun.run.run.Run",
    "pgrun.shell.hydra_app.CheckFirst": "pgrun.api.app.CheckFirst",
}


def new_name(name: str) -> str:
    """Return today's form of a dotted name of version 0.1; unchanged names are returned as they are."""
    if name in NAMES:
        return NAMES[name]
    module, _, rest = name.rpartition(".")
    return f"{MODULES[module]}.{rest}" if module in MODULES else MODULES.get(name, name)


def renew(value: Any) -> Any:
    """Copy nested plain values, with the targets of configs under their names of today."""
    if isinstance(value, Mapping):
        return {
            key: new_name(item) if key == "_target_" and isinstance(item, str) else renew(item)
            for key, item in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [renew(item) for item in value]
    return value


def moved(package: str, name: str) -> Any:
    """Look up a name that a module had before it became a package, and print its name of today.

    Args:
        package: the package, as its `__getattr__` knows it.
        name: the name.

    Raises:
        AttributeError: version 0.1 had no such name there.
    """
    old = f"{package}.{name}"
    if old not in NAMES:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    module, _, new = NAMES[old].rpartition(".")
    say(old, NAMES[old])
    return getattr(importlib.import_module(module), new)


def say(old: str, new: str) -> None:
    """Print the name of today, once for each old name."""
    if old not in SAID:
        SAID.add(old)
        print(f"pgrun: {old} is {new} now", file=sys.stderr, flush=True)


SAID: set[str] = set()


class OldModules(MetaPathFinder, Loader):
    """An import hook that finds modules by their names of version 0.1, and prints their names of today."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return a spec for the modules of version 0.1; None for any other."""
        return ModuleSpec(name, self) if name in MODULES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Import the module by its name of today."""
        say(spec.name, MODULES[spec.name])
        module = importlib.import_module(MODULES[spec.name])
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing but put the module's own spec back, which Python has replaced: it is executed already."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def serve_old_names() -> None:
    """Let imports find modules by their names of version 0.1."""
    if not any(isinstance(finder, OldModules) for finder in sys.meta_path):
        sys.meta_path.append(OldModules())
