"""Build the parts of a run from a composed config.

Nothing is written here, so every refusal comes before the first file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from pgrun.algos.parts.base import Algorithm
from pgrun.collect.collector import Collector
from pgrun.config.resolve import resolved
from pgrun.data.types import VectorEnv
from pgrun.errors import UserError
from pgrun.loop.captured_update import CapturedUpdate
from pgrun.loop.diagnostics import diagnosed
from pgrun.loop.moments import MakeEnv, RunHook
from pgrun.loop.team import Team
from pgrun.loop.train import Update
from pgrun.memory.memory import Memory
from pgrun.nn.precision import set_matmul_precision
from pgrun.optim.compiled import check_compiler
from pgrun.optim.cuda_graphs import CudaGraphs, Graphs
from pgrun.run import checkpoint
from pgrun.run.config_hooks import check_hooks, make_hooks, reads_of
from pgrun.run.devices import captures, compiles, learn_device, pick
from pgrun.run.environments import hook_env, make_env, make_eval_env, second_env
from pgrun.run.instantiate import call, check_arguments, made
from pgrun.run.own_code import check_complete, own_parts_fit
from pgrun.system.allocator import keep_freed_memory
from pgrun.system.randomness import seed_generators


@dataclass
class Parts:
    """The parts of one run."""

    algorithm: Algorithm
    update: Update  # the algorithm's, with the diagnostics that the config asks for
    collector: Collector
    memory: Memory
    make_eval_env: Callable[[int], VectorEnv]  # makes environments for so many episodes
    team: Team
    settings: dict[str, Any]  # the config as plain values, from which other processes build their parts
    hooks: dict[str, RunHook] = field(default_factory=dict)  # those of the config, by name
    make_env: MakeEnv | None = None  # makes one environment for a hook

    def capture(self, graphs: Graphs, *, acts: bool) -> None:
        """Have the run's work captured as graphs from here on, where it can be.

        Args:
            graphs: makes the graphs.
            acts: whether the policy acts on their device, too.
        """
        if isinstance(self.algorithm, Algorithm):
            self.algorithm.capture(graphs)
            self.update = CapturedUpdate(self.algorithm, self.update, graphs)
        if acts and hasattr(self.collector, "capture"):
            self.collector.capture(graphs)


def build(config: DictConfig | dict[str, Any], *, fresh: bool = True, rank: int = 0) -> Parts:
    """Seed the global generators and build all parts of a run.

    Args:
        config: the composed config, or its plain values.
        fresh: whether the run begins here. A resumed run gets its tensors from its own checkpoint, so other runs that
            it once started from are not looked for.
        rank: this process's, if several run the loop together.

    Raises:
        UserError: a part can't be had, or doesn't fit the others.
    """
    config = resolved(config) if isinstance(config, DictConfig) else OmegaConf.create(config)
    keep_freed_memory()
    torch.set_num_threads(config.threads)
    team = call(config.parallel, "parallel", rank=rank)
    config.compile = compiles(config)
    local = config.copy()  # with this process's share of the environments
    if "num_envs" in config.env:
        local.env.num_envs = team.environments(config.env.num_envs)
    if "episodes" in config.collector:
        local.collector.episodes = team.episodes(config.collector.episodes)
    local.seed = team.seed(config.seed)
    hooks = {} if rank else make_hooks(config)
    reads = config.get("reads", {}) if rank else reads_of(hooks)
    seed_generators(local.seed)
    env = make_env(local, reads=reads)
    algorithm = make_algorithm(config, env, rank=rank)
    learn = algorithm.device
    act = pick(config.act_device, learn, "act_device")
    config.graph = captures(config, learn)
    if hasattr(env, "place"):
        env.place(act)  # a world of tensors lives where the policy acts
    check_memory(algorithm, config.memory)
    if config.compile and learn.type == "cpu":
        check_compiler()
    given = {"device": str(act), "seed": local.seed, "rank": rank, "compile": config.compile}
    collector = call(local.collector, "collector", env=env, **given)
    if "device" in config.memory:
        local.memory.device = str(pick(config.memory.device, learn, "memory.device"))
    with own_parts_fit(config):
        memory = call(
            local.memory, "memory", env=env, learn_device=str(learn), state_size=getattr(algorithm, "state_size", 0)
        )
    if isinstance(algorithm, Algorithm):
        algorithm.eval()
        team.check(algorithm)
        if algorithm.own_steps and getattr(collector, "random_steps", False):
            name = type(algorithm).__name__
            raise UserError(f"{name} learns from steps of its own policy alone: use collector.random_steps=0")
        if fresh:
            algorithm.begin(load_tensors)
            if run := config.algo.get("init_from"):
                algorithm.start_from(load_tensors(run), f"algo.init_from={run}")
    update = diagnosed(algorithm, **config.get("diagnostics", {}), num_envs=env.num_envs)
    settings = {str(key): value for key, value in OmegaConf.to_object(config).items()}  # type: ignore[union-attr]
    settings["reads"] = reads
    second, single = partial(second_env, config, reads=reads), partial(hook_env, config)
    parts = Parts(algorithm, update, collector, memory, second, team, settings, hooks, single)
    if config.eval.get("env") and not rank:
        make_eval_env(config, 1, env).close()  # refuses impossible ones before anything is written
    team.take(algorithm, collector, memory)
    if config.graph:
        parts.capture(CudaGraphs(learn), acts=act.type == learn.type)
    check_hooks(hooks, config, env, team.workers, single)
    return parts


def check_memory(algorithm: Algorithm, memory: DictConfig) -> None:
    """Raise UserError if an algorithm can't learn from what the memory offers."""
    if getattr(algorithm, "recurrent", False) and not getattr(get_object(memory._target_), "keeps_states", False):
        raise UserError(
            f"{type(algorithm).__name__} learns a network with a memory from sequences of steps, which "
            f"{memory._target_} does not offer: use memory=sequences, or network=mlp or cnn"
        )
    needs = getattr(algorithm, "learns_from", "")
    if not needs or getattr(get_object(memory._target_), "offers", needs) == needs:
        return
    name, able = type(algorithm).__name__, {"steps": "replay or prioritized", "rollouts": "latest or trajectories"}
    kind = {"steps": "single steps", "rollouts": "whole rollouts"}[needs]
    raise UserError(f"{name} learns from {kind}, which {memory._target_} does not offer: use memory={able[needs]}")


def make_algorithm(config: DictConfig, env: VectorEnv, *, rank: int = 0) -> Algorithm:
    """Make the algorithm of a config on its device; set the process's `matmul_precision` first.

    Args:
        config: the composed config.
        env: the environments, whose spaces the algorithm takes.
        rank: this process's, if several run the loop together.

    Raises:
        UserError: a part can't be had, or doesn't fit the others.
    """
    with own_parts_fit(config):
        network = made(config.network, "network")
        device = learn_device(config.device, network)
        # torch has one setting for all devices; if a GPU learns or acts, it is the GPU's
        where = device if device.type == "cuda" else pick(config.act_device, device)
        set_matmul_precision(config.matmul_precision, where)
        network.rounds = config.matmul_precision == "bfloat16"  # its layers read it: see precision.hidden_product
        optimizer = made(config.optimizer, "optimizer")
        if isinstance(optimizer, partial):  # the algorithm calls it, with each gradient step's parameters
            check_arguments(optimizer, config.optimizer._target_)
        algo = OmegaConf.masked_copy(config.algo, [k for k in config.algo if k != "init_from"])
        algorithm = call(
            algo,
            "algo",
            obs_space=env.obs_space,
            action_space=env.action_space,
            network=network,
            optimizer=optimizer,
            device=str(device),
            compile=config.compile,
            rank=rank,
        )
    check_complete(algorithm, config.algo._target_)
    return algorithm  # type: ignore[no-any-return]


def load_tensors(run: str) -> dict[str, Any]:
    """Load the tensors of another run's algorithm, from its latest checkpoint or from a checkpoint file."""
    path = Path(run)
    path = checkpoint.latest(path / "checkpoints") if path.is_dir() else path
    if not path.exists():
        raise UserError(f"{run} is no run with a checkpoint: name a run directory or a .pt file")
    return checkpoint.tensors_of(path)
