"""From a composed config to the parts of a run.

Nothing is written here, so every refusal comes before the first file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from pgrun.algos.parts.base import Algorithm
from pgrun.collect.rollouts import Collector
from pgrun.data.types import VectorEnv
from pgrun.envs.arguments import accepted
from pgrun.envs.shaping import Shaped
from pgrun.envs.wrapper_settings import wrapper_settings
from pgrun.errors import UserError
from pgrun.loop.diagnostics import watch
from pgrun.loop.team import Team
from pgrun.memory.memory import Memory
from pgrun.nn.encoders import CNN, Network
from pgrun.nn.precision import set_matmul_precision
from pgrun.optim.compiled import check_compiler
from pgrun.run import checkpoint
from pgrun.run.eval_env import eval_settings, make_eval_env, second_env
from pgrun.system.allocator import keep_freed_memory
from pgrun.system.randomness import own_randomness, seed_generators


@dataclass
class Parts:
    """What one run is made of."""

    algorithm: Algorithm
    collector: Collector
    memory: Memory
    make_eval_env: Callable[[int], VectorEnv]  # episodes -> environments for that many
    team: Team
    settings: dict[str, Any]  # the config as plain values, for other processes to build theirs


def build(config: DictConfig | dict[str, Any], *, fresh: bool = True, rank: int = 0) -> Parts:
    """Instantiate everything; seeds the global generators first. A run that is not fresh gets its tensors from its own
    checkpoint, so other runs that it once began from are not looked for. `rank`: of this process, where several run
    the loop together.

    Raises:
        UserError: a part that can't be had or doesn't fit the others.
    """
    config = resolved(config) if isinstance(config, DictConfig) else OmegaConf.create(config)
    keep_freed_memory()
    torch.set_num_threads(config.threads)
    team = call(config.parallel, rank=rank)
    mine = config.copy()  # as this process has it
    if "num_envs" in config.env:
        mine.env.num_envs = team.environments(config.env.num_envs)
    if "episodes" in config.collector:
        mine.collector.episodes = team.episodes(config.collector.episodes)
    mine.seed = team.seed(config.seed)
    seed_generators(mine.seed)
    env = make_env(mine)
    algorithm = make_algorithm(config, env, rank=rank)
    learn = algorithm.device
    act = pick(config.act_device, learn, "act_device")
    check_memory(algorithm, config.memory)
    if config.compile and learn.type == "cpu":
        check_compiler()
    collector = call(mine.collector, env=env, device=str(act), seed=mine.seed, rank=rank)
    if "device" in config.memory:
        mine.memory.device = str(pick(config.memory.device, learn, "memory.device"))
    memory = call(mine.memory, env=env, learn_device=str(learn))
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
    watch(algorithm, **config.get("diagnostics", {}), num_envs=env.num_envs)
    settings = {str(key): value for key, value in OmegaConf.to_object(config).items()}  # type: ignore[union-attr]
    parts = Parts(algorithm, collector, memory, lambda episodes: second_env(config, episodes), team, settings)
    if config.eval.get("env") and not rank:
        make_eval_env(config, 1, env).close()  # refuses what can't be had before anything is written
    team.take(parts)
    return parts


def check_memory(algorithm: Any, memory: DictConfig) -> None:
    """Raise UserError where a memory offers what the algorithm can't learn from."""
    needs = getattr(algorithm, "learns_from", "")
    if not needs or getattr(get_object(memory._target_), "offers", needs) == needs:
        return
    name, able = type(algorithm).__name__, {"steps": "replay or prioritized", "rollouts": "latest or trajectories"}
    kind = {"steps": "single steps", "rollouts": "whole rollouts"}[needs]
    raise UserError(f"{name} learns from {kind}, which {memory._target_} does not offer: use memory={able[needs]}")


def resolved(config: DictConfig) -> DictConfig:
    """The config without its `hydra` node, every interpolation replaced by its value."""
    values = OmegaConf.to_container(
        OmegaConf.masked_copy(config, [str(k) for k in config if k != "hydra"]), resolve=True
    )
    return OmegaConf.create(values)  # type: ignore[arg-type, return-value]


def make_env(config: DictConfig, num_envs: int | None = None) -> VectorEnv:
    """The environments of a config, or `num_envs` of them for evaluation: there, nothing shapes the reward."""
    env = config.env if num_envs is None else eval_settings(config, num_envs)
    env = OmegaConf.masked_copy(env, [str(k) for k in env if k != "shaping"])
    if "wrappers" in env:
        env.wrappers = wrapper_settings(env.wrappers)
    with own_randomness(config.seed) if num_envs is not None else nullcontext():
        made = call(env, seed=config.seed)
    shaping = config.env.get("shaping")
    return shaped(made, shaping, config.algo) if shaping and num_envs is None else made


def shaped(env: VectorEnv, shaping: DictConfig, algo: DictConfig) -> VectorEnv:
    """Environments with a config's potential-based shaping."""
    if algo.get("gamma") is None:
        raise UserError("env/shaping needs the algorithm's discount: give it an algo.gamma, or use env/shaping=none")
    return Shaped(env, instantiate(shaping, _convert_="all"), algo.gamma)


def make_algorithm(config: DictConfig, env: VectorEnv, *, rank: int = 0) -> Algorithm:
    """The algorithm of a config, for these environments' spaces, on its device; of the process with this rank, whose
    matrices are multiplied as the config says from here on.
    """
    network = instantiate(config.network, _convert_="all")
    device = learn_device(config.device, network)
    # torch has one setting for all devices: that of the GPU, where one learns or acts
    where = device if device.type == "cuda" else pick(config.act_device, device)
    set_matmul_precision(config.matmul_precision, where)
    optimizer = instantiate(config.optimizer, _convert_="all")
    algo = OmegaConf.masked_copy(config.algo, [k for k in config.algo if k != "init_from"])
    try:
        return call(
            algo,
            obs_space=env.obs_space,
            action_space=env.action_space,
            network=network,
            optimizer=optimizer,
            device=str(device),
            compile=config.compile,
            rank=rank,
        )
    except TypeError as error:
        name = config.optimizer.get("_target_", "optimizer")
        if "unexpected keyword argument" in str(error) and "optimizer" in str(error).lower():
            raise UserError(f"{name}: {error}") from error
        raise


def load_tensors(run: str) -> dict[str, Any]:
    """The tensors of the algorithm of another run (its latest checkpoint), or of a checkpoint file."""
    path = Path(run)
    path = checkpoint.latest(path / "checkpoints") if path.is_dir() else path
    if not path.exists():
        raise UserError(f"{run} is no run with a checkpoint: name a run directory or a .pt file")
    return checkpoint.load(path)["algorithm"]["module"]


def learn_device(device: str, network: Network) -> torch.device:
    """`auto` takes a GPU for convolutions and wide layers; small MLPs are faster on the CPU."""
    if device == "auto":
        large = isinstance(network, CNN) or max(getattr(network, "hidden", [0]), default=0) >= 1024
        device = "cuda" if large and torch.cuda.is_available() else "cpu"
    return pick(device, torch.device("cpu"))


def pick(device: str, default: torch.device, key: str = "device") -> torch.device:
    """A device by the name that a key has; `auto` is the default."""
    if device == "auto":
        return default
    if device not in ("cpu", "cuda") and not re.fullmatch(r"cuda:\d+", device):
        raise UserError(f"{key}={device} is not known; choose auto, cpu or cuda")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"{key}={device}: torch sees no GPU here; use {key}=cpu or {key}=auto")
    return torch.device(device)


def call(config: DictConfig, **objects: Any) -> Any:
    """Call a config's `_target_` (with `_partial_: true`) with its keys and the objects that only the run knows.

    An argument that the target has no name for is left out, so a class of yours asks only for what it uses.
    """
    factory = instantiate(config, _convert_="all")
    target = factory.func if hasattr(factory, "func") else factory
    parameters = accepted(target)
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        objects = {key: value for key, value in objects.items() if key in parameters}
        name = config.get("_target_", "")
        for key in factory.keywords:
            if key not in parameters:
                known = ", ".join(k for k in parameters if k not in objects)
                raise UserError(f"{name} takes no argument {key!r}; it takes {known}")
        missing = [
            key
            for key, p in parameters.items()
            if p.default is p.empty and key not in factory.keywords and key not in objects
        ]
        if missing:
            raise UserError(f"{name} needs {', '.join(missing)}, which its YAML does not give")
    return factory(**objects)
