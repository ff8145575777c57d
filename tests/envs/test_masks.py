"""Action masks: wherever an environment tells them they are obeyed, and one that can't be is refused in one line."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from recipes import ALGORITHMS, OF_AGENTS, OF_NUMBERS, OF_STEPS, sampled
from running import parts

from pgrun.envs.masks import MaskReader
from pgrun.errors import UserError
from pgrun.loop.evaluate import evaluate
from pgrun.loop.train import Clock, train

spaces = gym.spaces
ACTIONS = {
    "discrete": spaces.Discrete(4, start=5),
    "multi": spaces.MultiDiscrete([2, 3]),
    "binary": spaces.MultiBinary(3),
    "box": spaces.Box(-1, 1, (2,), np.float32),
}
WIDTH = {"discrete": 4, "multi": 5, "binary": 3, "box": 2}
TYPES = {
    "int8": lambda m: m.astype(np.int8),
    "bool": lambda m: m.astype(bool),
    "float": lambda m: m.astype(np.float32),
    "row": lambda m: m[None].astype(np.int8),
    "list": lambda m: m.tolist(),
    "infinite": lambda m: np.where(m, 0.0, -np.inf).astype(np.float32),
    "large": lambda m: np.where(m, 0.0, -1e8).astype(np.float32),
    "short": lambda m: m[:-1].astype(np.int8),
    "long": lambda m: np.append(m, 1).astype(np.int8),
    "zero": lambda m: np.zeros(len(m), np.int8),
    "fractions": lambda m: 0.5 * m.astype(np.float32),
    "words": lambda m: "all of them",
}


class Strict(gym.Env):
    """The legal actions change at each step, and an illegal one fails; nothing is legal when it is over."""

    def __init__(self, way="obs", actions="discrete", kind="int8"):
        self.way, self.kind, self.actions = way, kind, actions
        self.action_space, self.n = ACTIONS[actions], WIDTH[actions]
        x, size = spaces.Box(-9, 9, (2,), np.float32), {"short": self.n - 1, "long": self.n + 1}.get(kind, self.n)
        mask = spaces.Box(-np.inf if kind in ("infinite", "large") else 0, 1, (1, size) if kind == "row" else (size,))
        mask = spaces.MultiBinary(size) if kind in ("int8", "short", "long", "zero") else mask
        self.observation_space = {
            "obs": spaces.Dict({"x": x, "action_mask": mask}),
            "nested": spaces.Dict({"in": spaces.Dict({"x": x, "action_mask": mask})}),
            "only": spaces.Dict({"action_mask": mask}),
            "namesake": spaces.Dict({"x": x, "mask": mask}),
        }.get(way, x)
        if way == "method":
            self.action_masks = self.told

    def told(self):
        return TYPES[self.kind](self.mask)

    def show(self):
        self.mask = self.np_random.integers(0, 2, self.n)
        if self.actions == "multi":
            self.mask[[1, 4]] = 1
        elif self.t == 8:
            self.mask[:] = 0
        else:
            self.mask[-1] = 1
        x, mask = self.np_random.normal(size=2).astype(np.float32).clip(-9, 9), self.told()
        obs = {
            "obs": {"x": x, "action_mask": mask},
            "nested": {"in": {"x": x, "action_mask": mask}},
            "only": {"action_mask": mask},
            "namesake": {"x": x, "mask": mask},
        }.get(self.way, x)
        return obs, {"action_mask": mask} if self.way == "info" else {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.show()

    def step(self, action):
        a, m = np.asarray(action), self.mask
        if self.actions == "discrete":
            legal = m[int(a) - 5]
        elif self.actions == "multi":
            legal = m[a[0]] and m[2 + a[1]]
        else:
            legal = not ((a == 1) & (m == 0)).any()
        assert legal, f"{action} is illegal, the mask is {m}"
        self.t += 1
        obs, info = self.show()
        return obs, 1.0, self.t == 8, False, info


gym.register("Strict-v0", entry_point=Strict)  # type: ignore[arg-type]
SMALL = ("env=gym", "env.id=Strict-v0", "network.hidden=[8]", "num_envs=2", "algo.rollout=32", "total_steps=128")


def words(**kwargs):
    return [f"+env.kwargs.{key}={value}" for key, value in kwargs.items()]


def obeyed(*overrides):
    """Train and evaluate in an environment that fails at the first illegal action."""
    made = parts(*SMALL, *overrides)
    clock = Clock(128)
    train(made.algorithm, made.collector, made.memory, clock, [])
    made.collector.env.close()
    assert clock.updates > 0
    env = made.make_eval_env(3)
    for explore in (False, True):
        assert evaluate(made.algorithm, env, 3, seed=1, explore=explore).returns == [8.0] * 3
    return made


@pytest.mark.parametrize("actions", ["discrete", "multi", "binary"])
@pytest.mark.parametrize("way", ["obs", "info", "method"])
def test_a_mask_is_obeyed_wherever_it_is_told(way, actions):
    obeyed(*words(way=way, actions=actions), "algo.minibatch=32", "algo.epochs=2")


@pytest.mark.parametrize("kind", ["bool", "float", "row", "infinite", "large"])
def test_a_mask_is_obeyed_in_whatever_type_it_comes(kind):
    obeyed(*words(kind=kind), "algo.minibatch=32", "algo.epochs=2")


@pytest.mark.parametrize("way", ["info", "method"])
def test_worker_processes_obey_masks(way):
    obeyed(*words(way=way, kind="list"), "env.backend=async", "algo.minibatch=32", "algo.epochs=2")


@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
def test_masks_told_in_info_belong_to_their_observations(autoreset):
    made = parts(*SMALL, *words(way="info"), f"env.autoreset={autoreset}")
    rollout = made.collector.collect(made.algorithm)
    assert sorted(rollout.obs) == ["action_mask", "observation"]
    taken = rollout.obs["action_mask"].gather(-1, rollout.action.unsqueeze(-1)).squeeze(-1)
    assert bool((taken == 1)[rollout.valid].all())
    assert bool(rollout.obs["action_mask"].any(-1).all())
    on = ~rollout.last[:-1] & rollout.valid[:-1]
    for key in rollout.obs:
        assert torch.equal(rollout.obs[key][1:][on], rollout.next_obs[key][:-1][on])


DISCRETE = sorted({*ALGORITHMS} - OF_NUMBERS - OF_AGENTS - {"behaviour_cloning", "gps"})  # which learn from a file


@pytest.mark.parametrize("algo", sampled(DISCRETE, 2))
def test_every_algorithm_of_discrete_actions_obeys_masks(algo):
    one = ["parallel=none", "workers=1"] if algo in ("a3c", "dppo") else []
    replay = ["memory.warmup=64", "memory.capacity=256"] if algo in OF_STEPS else []
    made = parts(*SMALL[:3], "num_envs=16", "total_steps=256", f"algo={algo}", *words(way="info"), *one, *replay)
    clock = Clock(256)
    train(made.algorithm, made.collector, made.memory, clock, [])
    made.collector.env.close()
    assert clock.updates > 0
    env = made.make_eval_env(3)
    assert evaluate(made.algorithm, env, 3, seed=1, explore=True).returns == [8.0] * 3


REFUSED = {
    "short": ({"kind": "short"}, "needs a mask of 4 numbers"),
    "long": ({"kind": "long"}, "needs a mask of 4 numbers"),
    "short, in info": ({"way": "info", "kind": "short"}, "needs a mask of 4 numbers"),
    "all zero": ({"kind": "zero"}, "forbids every action"),
    "all zero, in info": ({"way": "info", "kind": "zero"}, "forbids every action"),
    "all zero, by the method": ({"way": "method", "kind": "zero"}, "forbids every action"),
    "all zero of one part": ({"actions": "multi", "kind": "zero"}, "forbids every action"),
    "fractions": ({"kind": "fractions"}, "a mask holds 0 and 1 alone"),
    "words": ({"way": "method", "kind": "words"}, "needs a mask of 4 numbers"),
    "of numbers": ({"actions": "box"}, "only Discrete, MultiDiscrete and MultiBinary"),
    "of numbers, in info": ({"way": "info", "actions": "box"}, "only Discrete, MultiDiscrete and MultiBinary"),
    "of numbers, by the method": ({"way": "method", "actions": "box"}, "only Discrete, MultiDiscrete and MultiBinary"),
    "nested": ({"way": "nested"}, "put it beside"),
    "alone": ({"way": "only"}, "nothing to see"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_mask_that_no_policy_can_obey_is_refused(name):
    kwargs, text = REFUSED[name]
    with pytest.raises(UserError, match=text) as caught:
        parts(*SMALL, *words(**kwargs))
    assert "Strict-v0" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_only_looks_like_a_mask_is_told_of(caplog):
    parts(*SMALL, *words(way="namesake"))
    assert "['mask'] is read as something to see" in caplog.text


def test_parts_of_a_mask():
    read = MaskReader(ACTIONS["multi"], "it", adds=False)
    assert read(([1, 0], [0, 1, 1]), False).tolist() == [1, 0, 0, 1, 1]
    assert read([True, False, False, True, True], False).tolist() == [1, 0, 0, 1, 1]
    with pytest.raises(UserError, match="forbids every action"):
        read([1, 1, 0, 0, 0], False)
    assert read([1, 1, 0, 0, 0], True).tolist() == [1] * 5  # nobody acts after the end
    assert read(None, True).tolist() == [1] * 5
    with pytest.raises(UserError, match="None"):
        read(None, False)
    adds = MaskReader(ACTIONS["discrete"], "it", adds=True)
    assert adds(np.zeros(4), False).tolist() == [1] * 4
    with pytest.raises(UserError, match="0 and −∞ alone"):
        adds([0.0, -1.0, 0.0, 0.0], False)
    with pytest.raises(UserError, match="holds nan"):
        adds([0.0, np.nan, 0.0, 0.0], False)
