"""Networks with a memory that learn from replayed sequences: what is unrolled is what acting did, and no more."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from probes import run
from recipes import sampled
from running import parts
from torch.testing import assert_close

from pgrun.data.history import History, Remembered
from pgrun.errors import UserError

SMALL = ("network.hidden=[6]", "network.size=5", "memory.capacity=200", "memory.batch_size=6", "num_envs=2")
SHORT = ("memory=sequences", "memory.length=4", "memory.stride=2", "memory.burn_in=3", "memory.warmup=20")
CASES = {
    "sac": ("algo=sac", "env=pendulum_pomdp", "env.max_episode_steps=7"),
    "td3": ("algo=td3", "env=pendulum_pomdp", "env.max_episode_steps=7", "algo/exploration=ou"),
    "dqn": ("algo=dqn", "env=cartpole_pomdp", "env.max_episode_steps=9", "algo.rollout=1"),
    "sac_discrete": ("algo=sac_discrete", "env=cartpole_pomdp", "env.max_episode_steps=9"),
    "ddpg": ("algo=ddpg", "env=pendulum_pomdp", "env.max_episode_steps=7"),
    "d4pg": ("algo=d4pg", "env=pendulum_pomdp", "env.max_episode_steps=7"),
    "sac_v1": ("algo=sac_v1", "env=pendulum_pomdp", "env.max_episode_steps=7"),
    "redq": ("algo=redq", "env=pendulum_pomdp", "env.max_episode_steps=7", "algo.critics=3"),
    "mdpo_offpolicy": ("algo=mdpo_offpolicy", "env=pendulum_pomdp", "env.max_episode_steps=7"),
}
NAMES = list(CASES)


def made(name, *overrides, steps=70):
    """A run's parts, with a memory of so many steps in each environment, all by one policy."""
    p = parts(*CASES[name], *SMALL, *SHORT, *("network=gru", *overrides))
    for _ in range(steps):
        p.memory.add(p.collector.collect(p.algorithm))
    return p


def sample(p):
    (batch,) = list(p.memory.batches())[:1]
    return batch


def everything(p):
    """A sample of all sequences."""
    return p.memory.sample(p.memory.locate(torch.arange(len(p.memory.places) * p.memory.num_envs)))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("name", ["sac", "td3", "dqn"])
def test_features_are_those_that_acting_had(name, n, cell):
    """From the episode's first step on, random actions included, at observations and at their true successors."""
    p = parts(*CASES[name], *SMALL, *SHORT, f"network={cell}", f"memory.n_step={n}")
    a, acted, after = p.algorithm, [], []
    recall = a.recall

    def noted(obs, carry):
        seen, carry, recorded = recall(obs, carry)
        acted.append((obs, seen.state))
        return seen, carry, recorded

    a.recall = noted
    for _ in range(70):
        before = len(acted)
        rollout = p.collector.collect(a)
        p.memory.add(rollout)
        assert len(acted) == before + 1
        with torch.no_grad():
            after.append((rollout.next_obs[0], recall(rollout.next_obs[0], (acted[-1][1],))[0].state))
    encoders = a.encoders
    assert sum(e.state_size for e in encoders) == a.state_size == acted[0][1].shape[1]
    batch = everything(p)
    assert len(batch.reward) > 150
    for history, pairs in ((batch.obs, acted), (batch.next_obs, after)):
        known = {tuple(o.tolist()): s for obs, state in pairs for o, s in zip(obs, state, strict=True)}
        want = torch.stack([known[tuple(o.tolist())] for o in history.obs])
        for encoder in encoders:
            with torch.no_grad():
                got = encoder(history)
            assert_close(got, want[:, encoder.slot][:, : encoder.features], rtol=1e-4, atol=1e-5)


def test_a_burn_in_from_an_episodes_start_needs_no_stored_state():
    p = made("dqn", "memory.burn_in=9")
    encoder, batch = p.algorithm.encoders[0], everything(p)
    with torch.no_grad():
        want = encoder(batch.obs)
        batch.obs.state = torch.randn_like(batch.obs.state)  # nine steps ago was always another episode
        assert_close(encoder(batch.obs), want)
        p = made("dqn", "memory.burn_in=0")
        batch = everything(p)
        want = p.algorithm.encoders[0](batch.obs)
        batch.obs.state = torch.randn_like(batch.obs.state)
        assert (p.algorithm.encoders[0](batch.obs) - want).abs().max() > 0.1


def test_no_gradient_flows_into_the_burn_in():
    """It is that from the renewed state held fixed, and not that of the whole sequence."""
    p = made("dqn")
    encoder, h = p.algorithm.encoders[0], everything(p).obs

    def gradient(history):
        return torch.cat([g.flatten() for g in torch.autograd.grad(encoder(history).square().sum(), params)])

    params = list(encoder.parameters())
    got = gradient(h)
    renewed = torch.zeros_like(h.state)
    renewed[:, encoder.slot] = encoder.after(h.before, h.state[:, encoder.slot])
    held = History(None, h.steps, renewed, length=h.length, rows=h.rows)
    assert_close(got, gradient(held))
    whole = type(h.steps)(
        *(torch.cat([x, y]) if torch.is_tensor(x) else {} for x, y in zip(h.before, h.steps, strict=True))
    )
    m = whole.reward.shape[1]
    kept = torch.arange(h.length * m) if h.rows is None else h.rows
    kept = kept + len(h.before.reward) * m  # the rows that count come after the burn-in
    through = History(None, whole, h.state, length=len(whole.reward), rows=kept)
    assert_close(encoder(through), encoder(h))
    assert not torch.allclose(gradient(through), got, rtol=0.01)


@pytest.mark.parametrize("name", sampled(NAMES, ("sac", "dqn")))
def test_what_is_not_valid_counts_for_nothing(name):
    """Filler rows, and all that comes after the last step that counts, change neither loss nor gradient."""
    p = made(name, "env=gym", f"env.id={'CartPole-v1' if 'cartpole' in CASES[name][1] else 'Pendulum-v1'}",
             "env.backend=sync", "env.autoreset=next_step")  # fmt: skip
    ring = p.memory.ring
    filler = ~ring.valid[: ring.filled * 2]
    assert 4 < int(filler.sum()) < len(filler) // 2
    outcomes = []
    for junk in (0.0, 7.0):
        names = ("obs", "next_obs", "reward")
        columns = dict(zip(ring.row_fields.floats, ring.row_fields.widths, strict=True))
        at = 0
        for field, width in columns.items():
            if field in names:
                ring.row_fields.matrix[: len(filler), at : at + width][filler] += junk
            at += width
        batch = everything(p)
        assert len(batch.reward) < len(p.memory.places) * 2 * 4
        torch.manual_seed(3)
        metrics = p.algorithm.critic_step.differentiate(*p.algorithm.critic_step.prepared(batch, *noise(name, batch)))
        outcomes.append((metrics["loss/critic"], p.algorithm.critic_step.theta.grad.clone()))
    assert torch.equal(outcomes[0][0], outcomes[1][0])
    assert torch.equal(outcomes[0][1], outcomes[1][1])


def noise(name, batch):
    """Return the arguments that a target takes beside a batch."""
    drawn = 0.1 * torch.ones_like(batch.action) if batch.action.is_floating_point() else batch.reward
    alpha = torch.tensor(0.2)
    more = {"sac": [drawn], "mdpo_offpolicy": [drawn], "td3": [drawn], "sac_discrete": [alpha]}
    return more.get(name, [drawn, torch.tensor([0, 1])] if name == "redq" else [])


@pytest.mark.parametrize(("algo", "env"), [("dqn", "cartpole"), ("sac", "pendulum"), ("maddpg", "simple_spread")])
def test_a_sequence_of_one_step_without_a_memory_is_a_replays_row(algo, env):
    common = (f"algo={algo}", f"env={env}", "network=mlp", "network.hidden=[6]", "memory.capacity=60", "num_envs=2",
              "memory.warmup=20", "algo.rollout=1", "memory.n_step=3")  # fmt: skip
    one = ("memory.length=1", "memory.burn_in=0", "memory.stride=1")
    old, new = parts(*common, "memory=replay"), parts(*common, "memory=sequences", *one)
    for _ in range(30):
        rollout = old.collector.collect(old.algorithm)
        old.memory.add(rollout)
        new.memory.add(rollout)
    first = new.memory.locate(torch.arange(len(new.memory.places) * 2))  # all but the newest two in each environment
    (theirs,) = old.memory.ring.gather(first[old.memory.ring.valid[first]], 1, torch.device("cpu"))
    ours = new.memory.sample(first)
    assert len(ours.reward) > 50
    losses = []
    for batch in (theirs, ours) if algo != "maddpg" else ():
        args = (torch.ones_like(batch.action),) if algo == "sac" else ()
        critic = old.algorithm.critic_step
        losses.append(critic.differentiate(*critic.prepared(batch, *args))["loss/critic"])
    assert_close(losses[:1], losses[1:])
    for field in ("obs", "action", "reward", "discount", "next_obs", "valid"):
        assert_close(getattr(ours, field), getattr(theirs, field), msg=field)


@pytest.mark.parametrize("name", sampled(NAMES, ("sac", "dqn")))
def test_every_update_learns_and_its_targets_follow(name):
    words = {"dqn": ["algo.target_every=1", "algo.tau=0.1"], "redq": ["memory.updates=1"]}
    words |= {"mdpo_offpolicy": ["algo.learn_temperature=true"]}
    p = made(name, *words.get(name, []))
    a = p.algorithm
    before = {key: step.theta.clone() for key, step in a.steps().items()}
    slow = [x.clone() for x, _ in a.targets()]
    for _ in range(3):
        metrics = a.update(sample(p))
    assert all(bool(torch.isfinite(x)) for x in metrics.values())
    assert all(not torch.equal(step.theta, before[key]) for key, step in a.steps().items())
    assert all(not torch.equal(x, y) for x, (y, _) in zip(slow, a.targets(), strict=True))


def test_the_noise_has_its_own_part_of_the_carry():
    p = made("td3", steps=1)
    a = p.algorithm
    obs, carry = torch.randn(2, 2), a.initial_carry(2)
    assert [c.shape for c in carry] == [(2, a.state_size), (2, 1)]
    action, after, recorded = a.act(obs, carry, True)
    assert torch.equal(recorded["carry"], carry[0])
    assert bool((after[1] != 0).all())
    calm, kept, _ = a.act(obs, after, False)
    assert torch.equal(kept[1], after[1])
    assert not torch.equal(kept[0], after[0])
    assert action.shape == calm.shape == (2, 1)
    twin = a.replica("cpu")  # as it acts on another device
    assert all(x is not y for x, y in zip(twin.encoders, a.encoders, strict=True))
    assert torch.equal(twin.act(obs, after, False)[0], calm)


# ---- A memory is needed


class Recall(gym.Env):
    """A cue, ±1, at the first of three steps, then zeros; the last step pays 1 for the cue's action, else 0.

    With γ: Q(h_2, a) = 1 or 0 by the cue, Q(h_1, ·) = γ and Q(h_0, ·) = γ², whatever is done there. Of what is seen
    alone, all that can be said of the last two steps is (1 + γ)/4 for any action.
    """

    def __init__(self, masked=False):
        self.space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.masked = masked
        parts = {"x": self.space, "action_mask": gym.spaces.MultiBinary(3)}
        self.observation_space = gym.spaces.Dict(parts) if masked else self.space
        self.action_space = gym.spaces.Discrete(3 if masked else 2)

    def see(self):
        x = np.array([self.cue if self.t == 0 else 0.0], np.float32)
        mask = np.array([self.t < 2 or self.cue < 0, 1, self.t == 1], dtype=np.int8)
        return {"x": x, "action_mask": mask} if self.masked else x

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cue, self.t = float(self.np_random.choice([-1.0, 1.0])), 0
        return self.see(), {}

    def step(self, action):
        if self.masked:
            assert self.see()["action_mask"][action]
        pays = self.t == 2 and (action == 1) == (self.cue > 0)
        self.t += 1
        return self.see(), float(pays), self.t == 3, False, {}


if "Recall-v0" not in gym.registry:
    gym.register("Recall-v0", entry_point=Recall)  # type: ignore[arg-type]

LEARN = (
    *("env=gym", "env.id=Recall-v0", "num_envs=4", "algo.gamma=0.8", "network.hidden=[8]", "optimizer.lr=0.01"),
    *("memory=sequences", "memory.length=3", "memory.stride=1", "memory.burn_in=2", "memory.warmup=60"),
    *("memory.batch_size=32", "optimizer.schedule=linear"),
)
DQN = ("algo=dqn", "algo.rollout=3", "algo.target_every=1", "algo.tau=0.1", "algo.exploration.final=0.5")


@torch.no_grad()
def values(algorithm, cue, mask=None):
    """Q of each step of an episode with this cue, [3, A], as the acting policy knows them."""
    carry, found = algorithm.initial_carry(1), []
    for t in range(3):
        obs = torch.tensor([[cue if t == 0 else 0.0]])
        if mask is not None:
            obs = {"x": obs, "action_mask": mask[t : t + 1]}
        seen, carry, _ = algorithm.recall(obs, carry)
        found.append(algorithm.q.all(seen).mean(0)[0])
    return torch.stack(found)


@pytest.mark.parametrize(("cell", "steps"), sampled([("lstm", 1500), ("gru", 3000)], []))
def test_a_cue_that_was_seen_first_is_known_at_the_end(cell, steps):
    p, _ = run(*DQN, *LEARN, f"network={cell}", "network.size=8", f"total_steps={steps}", "memory.updates=2")
    for cue in (-1.0, 1.0):
        last = [0.0, 1.0] if cue > 0 else [1.0, 0.0]
        want = torch.tensor([[0.64, 0.64], [0.8, 0.8], last])
        assert_close(values(p.algorithm, cue), want, atol=0.05, rtol=0.0)


@pytest.mark.slow
def test_without_a_memory_it_is_not():
    p, _ = run(*DQN, *LEARN, "network=mlp", "total_steps=3000", "memory.updates=2")
    with torch.no_grad():
        q = p.algorithm.q.all(torch.zeros(1, 1))[0, 0]
    assert float((q[0] - q[1]).abs()) < 0.25
    assert float(q.max()) < 0.8


@pytest.mark.parametrize("algo", sampled(["dqn", "sac_discrete"], ("dqn",)))
def test_forbidden_actions_count_for_nothing(algo):
    """The environment itself would say so; what is bootstrapped from is the best that is allowed."""
    more = DQN if algo == "dqn" else ("algo=sac_discrete", "algo.init_temperature=0.01", "algo.entropy_fraction=0.1")
    p, _ = run(*more, *LEARN, "network=gru", "network.size=8", "+env.kwargs.masked=true", "total_steps=300")
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
    q = values(p.algorithm, 1.0, mask)
    assert (q < -1e8).tolist() == (mask == 0).tolist()
    history = everything(p).obs
    assert history.action_mask.shape == (len(history.obs["x"]), 3)
    assert torch.equal(history.action_mask, history.obs["action_mask"])


@pytest.mark.slow
def test_a_time_limit_is_bootstrapped_from_what_was_seen_there():
    """1 a step, cut after five: 1/(1 − γ) = 5; taken for death it would be below 3.4."""
    more = ("env.id=ProbeEndless-v0", "total_steps=2400", "optimizer.lr=0.02", "memory.updates=2")
    p, _ = run(*DQN, *LEARN, *more, "network=gru", "network.size=4")
    with torch.no_grad():
        seen, _, _ = p.algorithm.recall(torch.zeros(1, 1), p.algorithm.initial_carry(1))
        assert p.algorithm.q.all(seen).flatten().tolist() == pytest.approx([5.0, 5.0], abs=0.3)


# ---- Refusals


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("algo=sac", "env=pendulum", "network=lstm"), "SAC learns a network with a memory.* use memory=sequences"),
        (("algo=dqn", "network=gru", "memory=prioritized"), "pgrun.memory.prioritized.Prioritized.* memory=sequences"),
        ((*CASES["sac"], "network=gru", "memory=sequences", "compile=true"), "compile=true can't unroll"),
        ((*CASES["sac"], "network=gru", "memory=sequences", "network.sequence=8"), "use network.sequence=null"),
        ((*CASES["sac"], "network=gru", "memory=sequences", "network.normalize_obs=true"), "normalize_obs=false"),
        (("algo=sql", "env=pendulum", "network=gru", "memory=sequences"), "use network=mlp or cnn"),
        (("algo=ppo", "memory=sequences"), "PPO learns from whole rollouts.* use memory=latest"),
        (
            (*CASES["dqn"], "network=gru", "memory=sequences", "diagnostics.gradient_variance=true"),
            "use diagnostics.gradient_variance=false",
        ),
    ],
)
def test_what_does_not_fit_is_refused(overrides, says):
    with pytest.raises(UserError, match=says):
        parts(*overrides)


def test_how_far_an_update_moves_can_be_measured():
    p = made("dqn", "diagnostics.step_size=true")
    assert float(p.update(sample(p))["step/norm"]) > 0.0


def test_what_was_taken_in_shows_its_mask():
    obs = {"x": torch.zeros(1, 1), "action_mask": torch.ones(1, 2)}
    assert Remembered(obs, torch.zeros(1, 3)).action_mask is obs["action_mask"]
    assert Remembered(obs["x"], torch.zeros(1, 3)).action_mask is None
