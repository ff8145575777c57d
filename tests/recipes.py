"""Every recipe, as small as it gets, with an environment that it can act in."""

from pathlib import Path

import pytest
import torch
from running import compose

from pgrun.build import build
from pgrun.collect import Episodes
from pgrun.demonstrations import with_log_prob
from pgrun.episode_file import episodes, save
from pgrun.paths import config_dir

ALGORITHMS = sorted(path.stem for path in (config_dir() / "algo").glob("*.yaml"))
# one of each kind of update, memory and collector; the others are for the longer tests
QUICK = {"ppo", "a2c", "trpo", "acer", "offpolicy_pg", "td3", "sac", "dqn", "grpo", "gps", "maddpg", "reinforce"}
SAMPLED = [pytest.param(algo, marks=[] if algo in QUICK else [pytest.mark.slow]) for algo in ALGORITHMS]
OF_NUMBERS = {"sac", "sac_v1", "mdpo_offpolicy", "td3", "ddpg", "d4pg", "dpg", "dpg_offpolicy"}
OF_AGENTS = {"maddpg", "iddpg"}
OF_EPISODES = {"reinforce", "grpo", "gps"}


def recipe(algo: str, discrete: str, numbers: str, agents: str = "env=simple_spread") -> list[str]:
    """Overrides for a few quick updates; the last three are those that choose an environment."""
    words = [f"algo={algo}", "network=mlp", "network.hidden=[8]", "num_envs=4", "workers=1"]
    keys = compose(f"algo={algo}")
    words += ["algo.rollout=5"] if keys.algo.get("rollout") and "episodes" not in keys.collector else []
    words += ["parallel=none"] if algo in ("a3c", "dppo") else []
    words += ["memory.warmup=12", "memory.batch_size=8"] if "batch_size" in keys.memory else []
    words += ["algo.minibatch=8"] if "minibatch" in keys.algo else []
    words += ["algo.group=2"] if "group" in keys.algo else []
    words += ["collector.episodes=4"] if "episodes" in keys.collector else []
    return words + (agents if algo in OF_AGENTS else numbers if algo in OF_NUMBERS else discrete).split()


def demonstrations(path: Path, *env: str) -> str:
    """Record a few episodes of a random policy; -> the override that names the file."""
    made = build(compose("algo=ppo", "num_envs=2", "network.hidden=[4]", *env))
    rollout = Episodes(env=made.collector.env, episodes=4, device="cpu", seed=0).collect(made.algorithm)
    data = with_log_prob(episodes(rollout))
    data = data._replace(extras={"log_prob": torch.zeros_like(data.reward)})
    spaces = {"obs_space": made.algorithm.obs_space, "action_space": made.algorithm.action_space}
    save(path, data, env_id="", **spaces)
    return f"demonstrations={path}"
