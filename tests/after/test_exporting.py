"""An exported policy computes what the run's policy does, for every kind of algorithm, observation and action."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import exported_envs  # noqa: F401 (registers environments)
import gymnasium as gym
import numpy as np
import pytest
import torch
from running import new_run

import pgrun
from pgrun.after import exporting
from pgrun.errors import UserError

pytest.importorskip("onnxruntime")

QUICK = ["eval.every=null", "eval.final_episodes=0", "num_envs=2", "threads=1"]
OFF = ["memory.warmup=20", "memory.capacity=500", "network.hidden=[16,16]"]
ON = ["network.hidden=[16,16]"]
PENDULUM, CARTPOLE = ["env=pendulum"], ["env=cartpole"]


def own(kind: str) -> list[str]:
    """An environment of `exported_envs`."""
    return ["env=gym", f"env.id=Exported{kind}-v0"]


CASES: dict[str, list[str]] = {
    "ppo": ["algo=ppo", *CARTPOLE, *ON],
    "ppo_lstm": ["algo=ppo", *CARTPOLE, "network=lstm", "network.size=8", *ON],
    "ppo_normalised_squashed": [
        *("algo=ppo", *PENDULUM, *ON, "network.normalize_obs=true", "network.squash=true", "network.std=state"),
    ],
    "a2c_images": ["algo=a2c", *own("Picture"), "network=cnn", "network.channels=[4,4,4]", *ON],
    "a2c_gru_images": ["algo=a2c", *own("Picture"), "network=gru", "network.channels=[4,4,4]", "network.size=8", *ON],
    "sac": ["algo=sac", *PENDULUM, *OFF],
    "sac_lstm": [
        *("algo=sac", *PENDULUM, "network=lstm", "network.hidden=[16]", "network.size=8", "memory=sequences"),
        *("memory.warmup=40", "memory.capacity=500", "memory.length=4", "memory.burn_in=2", "memory.stride=2"),
    ],
    "td3": ["algo=td3", *PENDULUM, *OFF],
    "ddpg_ou": ["algo=ddpg", *PENDULUM, *OFF, "algo/exploration=ou"],
    "dqn": ["algo=dqn", *CARTPOLE, *OFF],
    "sac_discrete_masked": ["algo=sac_discrete", *own("Masked"), *OFF],
    "ppo_masked": ["algo=ppo", *own("Masked"), *ON],
    "ppo_multi_discrete": ["algo=ppo", *own("Nested"), *ON, "network.normalize_obs=true"],
    "reinforce_multi_binary": ["algo=reinforce", *own("Switches"), *ON],
    "trpo": ["algo=trpo", *PENDULUM, *ON],
    "actor_critic": ["algo=actor_critic", *CARTPOLE, *ON],
    "redq": ["algo=redq", *PENDULUM, *OFF],
    "d4pg": ["algo=d4pg", *PENDULUM, *OFF],
    "sql": ["algo=sql", *PENDULUM, *OFF],
    "maddpg": ["algo=maddpg", "env=simple_spread", *OFF, "total_steps=200"],
    "ppo_rows": ["algo=ppo", "env=simple_spread", *ON, "env.agent_index=true"],
    "ppo_mujoco": ["algo=ppo", "env=hopper", *ON, "network.normalize_obs=true"],
}
BY_DEFAULT = ("ppo_lstm",)


def trained(folder: Path, overrides: list[str]) -> Path:
    """A run of a few updates."""
    steps = [] if any(word.startswith("total_steps") for word in overrides) else ["total_steps=300"]
    small = ["algo.rollout=16"] if overrides[0] in ("algo=ppo", "algo=a2c", "algo=trpo") else []
    small += ["algo.minibatch=16", "algo.epochs=1"] if overrides[0] == "algo=ppo" else []
    new_run(folder, *overrides, *QUICK, *steps, *small).execute()
    return folder


class Exported:
    """An exported policy, called as its card says, which begins episodes and carries the state."""

    def __init__(self, path: Path, card: dict[str, Any]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs, self.outputs = card["inputs"], [port["name"] for port in card["outputs"]]
        self.taken = {value.name for value in self.session.get_inputs()}
        self.start = card["episode_start"]
        self.reset(1)

    def reset(self, copies: int) -> None:
        shapes = {port["name"]: (port["shape"][1:], port["type"]) for port in self.inputs}
        self.state = {
            name: np.broadcast_to(np.asarray(value, shapes[name][1]), (copies, *shapes[name][0]))
            for name, value in self.start.items()
        }

    def __call__(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        whole = {name: x for name, x in {**feed, **self.state}.items() if name in self.taken}
        found = dict(zip(self.outputs, self.session.run(self.outputs, whole), strict=True))
        self.state = {name: found[f"next_{name}"] for name in self.state}
        return {name: x for name, x in found.items() if not name.startswith("next_")}


def fed(obs: Any, name: str = "obs") -> dict[str, np.ndarray]:
    """An observation as inputs, with an axis of one copy."""
    if isinstance(obs, dict):
        parts = {f"{name}.{key}": part for key, part in obs.items() if key != "action_mask"}
        found = {key: x for label, part in parts.items() for key, x in fed(part, label).items()}
        mask = {"action_mask": np.asarray(obs["action_mask"], np.int8)[None]} if "action_mask" in obs else {}
        return {**found, **mask}
    return {name: np.asarray(obs)[None]}


def same(got: Any, due: Any) -> bool:
    """Whether actions are equal: choices exactly, numbers to 1e-5."""
    got, due = np.asarray(got), np.asarray(due)
    assert got.dtype == due.dtype
    if np.issubdtype(due.dtype, np.floating):
        return bool((np.abs(got - due) <= 1e-5 * np.maximum(1.0, np.abs(due))).all())
    return bool((got == due).all())


def whole_episodes(run: Path, overrides: list[str], steps: int) -> Any:
    """Observations of whole episodes under the run's own policy, with its actions and whether an episode begins."""
    policy = pgrun.load(run)
    options = dict(word.split("=", 1) for word in overrides)
    if options["env"].startswith("simple"):
        from mpe2 import simple_spread_v3

        env: Any = simple_spread_v3.parallel_env(continuous_actions=False)
    elif options["env"] == "gym":
        env = gym.make(options["env.id"])
    else:
        names = {"pendulum": "Pendulum-v1", "cartpole": "CartPole-v1", "hopper": "Hopper-v5"}
        env = gym.make(names.get(options["env"], "CartPole-v1")) if options["env"] in names else None
    if env is None:
        return
    begins, obs = True, env.reset(seed=0)[0]
    for _ in range(steps):
        if begins:
            policy.reset()
        action = policy(obs)
        yield obs, action, begins
        obs, _, terminated, truncated, *_ = env.step(action)
        ended = terminated, truncated
        begins = any(any(x.values()) if isinstance(x, dict) else bool(x) for x in ended)
        if begins:
            obs = env.reset()[0]
    env.close()


def check(folder: Path, overrides: list[str], steps: int) -> None:
    """Export, and compare with the policy over whole episodes; the noise of the policy's own is set aside."""
    run = trained(folder / "run", overrides)
    card = pgrun.export(run, folder / "policy.onnx")
    assert json.loads((folder / "policy.json").read_text()) == card
    graph, seen = Exported(folder / "policy.onnx", card), []
    for obs, action, begins in whole_episodes(run, overrides, steps):
        if begins:
            graph.reset(1)
        feed = fed(obs)
        got = graph(feed)
        due = {f"action.{agent}": x for agent, x in action.items()} if isinstance(action, dict) else {"action": action}
        assert got.keys() == due.keys()
        assert all(same(got[name][0], due[name]) for name in due), (len(seen), got, due)
        seen.append(feed)
    assert len(seen) == steps
    first = [i for i in range(7) if not graph.state] or [0] * 7  # a batch, as long as no state differs
    graph.reset(7)
    together = graph({name: np.concatenate([seen[i][name] for i in first]) for name in seen[0]})
    for row, i in enumerate(first):
        graph.reset(1)
        alone = graph(seen[i])
        assert all(same(together[name][row], alone[name][0]) for name in alone)


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[] if case in BY_DEFAULT else [pytest.mark.slow]) for case in CASES]
)
def test_a_graph_computes_what_the_policy_does(case: str, tmp_path: Path) -> None:
    overrides = CASES[case]
    if case == "sql":  # it draws candidates even to take the best: its graph is compared as it is written
        card = pgrun.export(trained(tmp_path / "run", overrides), tmp_path / "policy.onnx")
        assert [port["name"] for port in card["inputs"]] == ["obs", "noise"]
        return
    check(tmp_path, overrides, 120 if case in BY_DEFAULT else 1000)
