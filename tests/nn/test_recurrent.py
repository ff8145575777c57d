"""Networks with a memory: what learning unrolls is what acting did, step by step."""

import gymnasium as gym
import pytest
import torch
from encoded import COMMON, VECTOR, image
from models_seen import seen
from running import parts
from torch.testing import assert_close

from pgrun.data.types import columns, flatten_time, sequences
from pgrun.errors import UserError
from pgrun.nn import ActorCritic, Recurrent

CELLS = ["lstm", "gru"]
DISCRETE = gym.spaces.Discrete(3)


def recurrent(**changes):
    kwargs = {
        "hidden": [6],
        "channels": [4, 6, 8],
        "channels_last": None,
        "normalize_obs": False,
        "cell": "lstm",
        "size": 5,
        "sequence": None,
    }
    return Recurrent(**{**COMMON, "head_gain": 1.0, **kwargs, **changes})


def story(t=9, b=4, size=0, seed=0):
    """A rollout with ends of episodes and filler after some of them, and what was remembered at its start."""
    g = torch.Generator().manual_seed(seed)
    last = torch.rand(t, b, generator=g) < 0.3
    valid = torch.ones(t, b, dtype=torch.bool)
    valid[1:, 0] = ~last[:-1, 0]  # the first environment resets in the next step
    last &= valid
    obs, next_obs = (torch.randn(t, b, 3, generator=g) for _ in range(2))
    goes_on = (valid & ~last)[:-1]
    next_obs[:-1][goes_on] = obs[1:][goes_on]
    carry = torch.randn(t, b, size, generator=g)
    return seen(obs, valid, next_obs=next_obs, last=last, extras={"carry": carry})


def by_steps(encoder, batch):
    """Features along a rollout and of its successors, one observation at a time."""
    along, beyond = [], []
    for b in range(batch.reward.shape[1]):
        state = batch.extras["carry"][0, b : b + 1]
        here, there = [], []
        for t in range(batch.reward.shape[0]):
            features, state = encoder.step(batch.obs[t, b : b + 1], state)
            here.append(features)
            there.append(encoder.step(batch.next_obs[t, b : b + 1], state)[0])
            if batch.last[t, b] or not batch.valid[t, b]:
                state = torch.zeros_like(state)
        along.append(torch.cat(here))
        beyond.append(torch.cat(there))
    return torch.stack(along, 1), torch.stack(beyond, 1)


@pytest.mark.parametrize("cell", CELLS)
def test_the_unroll_is_step_by_step(cell):
    encoder = recurrent(cell=cell).encoder(VECTOR)
    batch = story(size=encoder.state_size)
    along, beyond = by_steps(encoder, batch)
    everything = slice(0, encoder.state_size)
    assert_close(encoder.along(batch, everything), along)
    assert_close(encoder.beyond(batch, everything), beyond)
    ours = torch.autograd.grad(encoder.along(batch, everything).square().sum(), list(encoder.parameters()))
    theirs = torch.autograd.grad(along.square().sum(), list(encoder.parameters()))
    assert all(g.abs().max() > 0.01 for g in theirs)
    assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("shared", [True, False])
def test_nothing_leaks_across_an_episodes_end(cell, shared):
    model = ActorCritic(recurrent(cell=cell, shared=shared), VECTOR, DISCRETE)
    batch = story(size=model.state_size)
    changed = batch._replace(obs=batch.obs.clone())
    t, b = next((t, b) for t, b in batch.last.nonzero().tolist() if 0 < t < 7 and b > 0)
    changed.obs[: t + 1, b] += 1.0
    for one, two in zip(*((m[0].logits, m[1]) for m in (model(batch), model(changed))), strict=True):
        assert torch.equal(one[t + 1 :, b], two[t + 1 :, b])
        assert not torch.equal(one[t, b], two[t, b])
    assert torch.equal(model.next_value(batch)[t + 1 :], model.next_value(changed)[t + 1 :])


@pytest.mark.parametrize("shared", [True, False])
def test_a_filler_row_leaves_no_memory(shared):
    model = ActorCritic(recurrent(shared=shared), VECTOR, DISCRETE)
    batch = story(size=model.state_size)
    t = int((~batch.valid[:, 0]).nonzero()[0])
    changed = batch._replace(obs=batch.obs.clone())
    changed.obs[t, 0] += 1.0
    assert torch.equal(model(batch)[1][t + 1 :], model(changed)[1][t + 1 :])


@pytest.mark.parametrize("network", ["lstm", "gru"])
@pytest.mark.parametrize("shared", ["true", "false"])
def test_learning_sees_the_probabilities_that_acting_had(network, shared):
    """Over three rollouts of CartPole, whose episodes end inside them and go on from one to the next."""
    p = parts("algo=ppo", "env=cartpole", f"network={network}", f"network.shared={shared}", "algo.rollout=24")
    acted = []
    step = p.algorithm.model.step

    def recorded(obs, carry, explore):
        pi, after = step(obs, carry, explore)
        acted.append(pi.logits.log_softmax(-1))
        return pi, after

    p.algorithm.model.step = recorded
    ends = 0
    for _ in range(3):
        acted.clear()
        rollout = p.collector.collect(p.algorithm)
        ends += int(rollout.last.sum())
        with torch.no_grad():
            pi, value = p.algorithm.model(rollout)
            assert_close(pi.logits.log_softmax(-1), torch.stack(acted), rtol=1e-4, atol=1e-5)
            # cut into sequences, each begins with the memory that was recorded there
            cut = sequences(rollout, 8)
            assert cut.reward.shape == (8, 3 * p.collector.env.num_envs)
            assert_close(p.algorithm.model(cut)[1], sequences(rollout._replace(reward=value), 8).reward)
            # where an episode goes on, the successor's value is the next observation's
            inner = (~rollout.last & rollout.valid)[:-1]
            following = p.algorithm.model.next_value(rollout)[:-1]
            assert_close(following[inner], value[1:][inner], rtol=1e-4, atol=1e-5)
    assert ends > 3
    assert acted[0].requires_grad is False


def test_minibatches_are_sequences():
    p = parts("algo=ppo", "env=cartpole", "network=lstm", "algo.rollout=12", "env.num_envs=6", "network.sequence=4")
    batch = p.algorithm.estimate(p.collector.collect(p.algorithm))
    whole = flatten_time(sequences(batch, 4))
    samples = list(p.algorithm.minibatches(batch, 2, 10))
    assert [s.reward.shape for s in samples] == [(4, 2)] * 18  # 18 sequences, two at a time, twice
    for epoch in (samples[:9], samples[9:]):
        found = torch.cat([s.extras["psi"].flatten() for s in epoch]).sort().values
        assert_close(found, whole.extras["psi"].sort().values)
    first = samples[0].obs[:, 0]
    assert any(torch.equal(first, columns(sequences(batch, 4), torch.tensor([i])).obs[:, 0]) for i in range(18))


def test_images_are_remembered_too():
    encoder = recurrent(hidden=[7]).encoder(image(3, 40, 40))
    features, state = encoder.step(torch.zeros(2, 3, 40, 40, dtype=torch.uint8), torch.zeros(2, 10))
    assert features.shape == (2, 5)
    assert torch.equal(state[:, :5], features)


def test_running_statistics_are_the_inner_encoders():
    model = ActorCritic(recurrent(normalize_obs=True), VECTOR, DISCRETE)
    batch = story(size=model.state_size)
    model.observe(batch)
    norm = model.actor.encoder.inner.flatten.norm
    assert norm.count == batch.valid.sum()
    assert_close(norm.mean.float(), batch.obs[batch.valid].mean(0))


def test_refusals():
    with pytest.raises(UserError, match=r"network.cell=rnn is not known; choose lstm or gru"):
        recurrent(cell="rnn")
    with pytest.raises(UserError, match="compile=true"):
        parts("algo=ppo", "env=cartpole", "network=lstm", "compile=true")


def test_a_memory_is_needed_where_the_answer_was_seen_before():
    """The observation of the first step says which action pays in the second, which shows nothing."""
    generator = torch.Generator().manual_seed(0)
    model = ActorCritic(recurrent(size=8), VECTOR, DISCRETE)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    accuracy = 0.0
    for _ in range(150):
        cue = torch.randint(3, (32,), generator=generator)
        obs = torch.zeros(2, 32, 3)
        obs[0] = torch.eye(3)[cue]
        batch = seen(obs, extras={"carry": torch.zeros(2, 32, model.state_size)})
        logits = model.policy(batch).logits[1]
        loss = torch.nn.functional.cross_entropy(logits, cue)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        accuracy = float((logits.argmax(-1) == cue).float().mean())
    assert accuracy == 1.0


@pytest.mark.parametrize("cell", CELLS)
def test_second_derivatives_are_those_of_the_unroll(cell):
    """Fisher-vector products go through the network twice."""
    encoder = recurrent(cell=cell).encoder(VECTOR)
    batch = story(t=5, b=2, size=encoder.state_size)
    parameters = list(encoder.parameters())

    def product(features):
        first = torch.autograd.grad(features.square().sum(), parameters, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), parameters)

    ours = product(encoder.along(batch, slice(0, encoder.state_size)))
    theirs = product(by_steps(encoder, batch)[0])
    assert all(g.abs().max() > 0.01 for g in theirs)
    assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
