"""An exported policy computes what the run's policy does, for every kind of algorithm, observation and action."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import exported_envs  # noqa: F401 (registers environments)
import gymnasium as gym
import numpy as np
import pytest
import torch
from docs_pages import ROOT, files
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
    "ppo_sde": ["algo=ppo", *PENDULUM, *ON, "network.std=sde", "network.layer_norm=true"],
    "sac_sde": ["algo=sac", *PENDULUM, *OFF, "network.std=sde", "network.sde_sample_freq=3", "network.layer_norm=true"],
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
    assert json.loads((folder / "policy.onnx.json").read_text()) == card
    graph, seen = Exported(folder / "policy.onnx", card), list[dict[str, np.ndarray]]()
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


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of PPO on CartPole, for what does not depend on the algorithm."""
    return trained(tmp_path_factory.mktemp("export") / "run", CASES["ppo"])


def test_torch_export_with_noise(run: Path, tmp_path: Path) -> None:
    """A .pt2 file samples by the noise that it is given: Gumbel's trick, for all sizes of a batch."""
    card = pgrun.export(run, tmp_path / "noisy.pt2", stochastic=True)
    assert [port["name"] for port in card["inputs"]] == ["obs", "noise"]
    assert card["inputs"][1]["meaning"] == "noise, exponential with mean 1"
    policy = torch.export.load(tmp_path / "noisy.pt2").module()
    for copies in (1, 2, 500):
        obs = torch.zeros(copies, 4)
        (action,) = policy(obs, torch.empty(copies, 2).exponential_())
        assert action.shape == (copies,)
    assert 0.3 < action.float().mean() < 0.7  # of a policy that has hardly learnt
    (left,) = policy(torch.zeros(1, 4), torch.tensor([[1e-9, 1.0]]))
    (right,) = policy(torch.zeros(1, 4), torch.tensor([[1.0, 1e-9]]))
    assert (left.item(), right.item()) == (0, 1)


def test_refusals_leave_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").write_text("")
    for name, why in (("policy.h5", "ends in .onnx"), ("mine/policy.onnx", "is no folder")):
        with pytest.raises(UserError, match=why):
            pgrun.export(run, tmp_path / name)
    with pytest.raises(UserError, match="there is no checkpoint"):
        pgrun.export(run, tmp_path / "policy.onnx", checkpoint="step_7.pt")
    with pytest.raises(UserError, match="no run directory"):
        pgrun.export(tmp_path, tmp_path / "policy.onnx")
    (tmp_path / "mine.onnx.json").write_text("{}")
    with pytest.raises(UserError, match="is something else"):
        pgrun.export(run, tmp_path / "mine.onnx")
    (tmp_path / "there.onnx").write_text("")
    with pytest.raises(UserError, match="is there already"):
        pgrun.export(run, tmp_path / "there.onnx")
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else real(name))
    with pytest.raises(UserError, match=r"needs onnxruntime: pip install 'pgrun\[export\]'"):
        pgrun.export(run, tmp_path / "policy.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "mine.onnx.json", "there.onnx"]


@pytest.mark.slow
def test_what_can_t_be_a_graph(tmp_path: Path) -> None:
    langevin = trained(tmp_path / "langevin", [*CASES["sql"], "algo.sampler=langevin", "algo.langevin_steps=2"])
    drawn = trained(tmp_path / "drawn", [*CASES["maddpg"], "algo.ensembles=2"])
    for folder in (langevin, drawn):
        with pytest.raises(UserError, match="can't be exported: ") as refused:
            pgrun.export(folder, tmp_path / "policy.onnx")
        assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("policy*"))


@pytest.mark.slow
def test_a_wrong_graph_is_not_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = exporting.onnx_file

    def wrong(program: Any, graph: Any) -> Any:
        data, call = real(program, graph)
        return data, lambda tensors: [1 - x for x in call(tensors)]

    monkeypatch.setattr(exporting, "onnx_file", wrong)
    with pytest.raises(UserError, match="does not compute what the policy does"):
        pgrun.export(run, tmp_path / "policy.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_bfloat16_is_said(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", [*CASES["sac"], "matmul_precision=bfloat16"])
    card = pgrun.export(run, tmp_path / "policy.onnx")
    assert "rounds products between hidden layers to bfloat16" in card["precision"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", ["sac", "dqn", "ppo_multi_discrete", "reinforce_multi_binary", "ppo_rows", "ddpg_ou", "ppo_sde", "sac_sde"]
)
def test_sampled_actions(case: str, tmp_path: Path) -> None:
    """With the same noise the graph samples the same actions: it is compared as it is written."""
    run = trained(tmp_path / "run", CASES[case])
    card = pgrun.export(run, tmp_path / "policy.onnx", stochastic=True)
    assert any(port["name"].startswith("noise") for port in card["inputs"])


def test_each_file_has_its_own_card(run: Path, tmp_path: Path) -> None:
    """Two files of one name, in a folder that is made for them."""
    for name in ("new/a.pt2", "new/a.onnx"):
        pgrun.export(run, tmp_path / name)
        assert json.loads((tmp_path / f"{name}.json").read_text())["file"] == Path(name).name
    assert len(list((tmp_path / "new").iterdir())) == 4
    page = files(ROOT / "docs" / "exporting.md")
    for example, name in (("acting.py", "a.onnx"), ("acting_torch.py", "a.pt2")):
        names: dict[str, Any] = {}
        exec(page[example], names)
        assert names["episode"](str(tmp_path / "new" / name), gym.make("CartPole-v1")) >= 8


def test_another_ending_is_refused_before_torch_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; from pgrun.shell.commands.export import main\n"
        "try: main(['run', 'policy.h5'])\n"
        "except Exception as error: print(error, 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert "ends in .onnx" in said
    assert said.endswith("False\n")
