"""State-dependent exploration in rollouts: whose matrix it is, how long it lasts, and what evaluation sees of it."""

import copy

import pytest
import torch
from recipes import recipe, sampled
from running import parts, same

SDE = "network.std=sde"
NEW = {  # of 3 rollouts of 5 steps, in the steps where each copy has a new matrix
    "a rollout": ((), [0, 5, 10]),
    "three steps": (("network.sde_sample_freq=3",), [0, 3, 6, 9, 12]),
    "more than a rollout": (("network.sde_sample_freq=7",), [0, 7, 14]),
    "a step": (("network.sde_sample_freq=1",), list(range(15))),
}


def followed(made, updates=0, rollouts=3):
    """Collect rollouts; -> the matrices [T, B, M] and the actions that each step was taken with, and the rollouts."""
    algorithm, seen, collected = made.algorithm, [], []
    act = algorithm.act

    def noted(obs, carry, explore):
        action, after, extras = act(obs, carry, explore)
        seen.append(after[-1][:, 1:].clone())
        return action, after, extras

    algorithm.act = noted
    for _ in range(rollouts):
        collected.append(made.collector.collect(algorithm))
        if updates:
            algorithm.update(collected[-1])
    del algorithm.act
    return torch.stack(seen), collected


def changes(matrices):
    """The steps in which each copy's matrix is a new one; [] of copies that differ in that."""
    new = [[0, *(t for t in range(1, len(m)) if not torch.equal(m[t], m[t - 1]))] for m in matrices.unbind(1)]
    assert all(not torch.equal(a, b) for a, b in zip(*matrices.unbind(1)[:2], strict=True)), "copies share a matrix"
    return new[0] if all(steps == new[0] for steps in new) else new


@pytest.mark.parametrize("name", sampled(list(NEW), ("a rollout", "more than a rollout")))
def test_a_matrix_lasts_a_rollout_or_as_long_as_it_is_told(name):
    """Episodes of 4 steps end within the rollouts of 5, and change nothing."""
    words, new = NEW[name]
    made = parts(*recipe("ppo", "env=pendulum", ""), SDE, "env.max_episode_steps=4", *words)
    matrices, rollouts = followed(made, updates=1)
    assert sum(int(rollout.last.any(1).sum()) for rollout in rollouts) == 3
    assert changes(matrices) == new
    made.collector.env.close()


def test_with_whole_episodes_it_lasts_one():
    made = parts(*recipe("reinforce", "env=pendulum", ""), SDE, "env.max_episode_steps=4", "collector.episodes=8")
    matrices, rollouts = followed(made, rollouts=2)  # each of two episodes a copy
    assert rollouts[0].last.sum() == 8
    assert changes(matrices) == [0, 4, 8, 12]
    made.collector.env.close()


@pytest.mark.parametrize(("words", "new"), [((), [0, 4, 8]), (("network.sde_sample_freq=3",), [0, 3, 6, 9])])
def test_with_a_replay_it_lasts_an_episode(words, new):
    made = parts(*recipe("sac", "", "env=pendulum"), SDE, "env.max_episode_steps=4", "collector.random_steps=0", *words)
    matrices, _ = followed(made, rollouts=2)  # of 5 steps each
    assert changes(matrices) == new
    made.collector.env.close()


@pytest.mark.parametrize("network", [(), ("network.squash=true",), ("network=gru", "network.size=8")])
def test_actions_are_the_matrixs_function_of_the_state(network):
    words = [
        word for word in recipe("ppo", "env=pendulum", "") if word != "network=mlp" or "network=gru" not in network
    ]
    made = parts(*words, SDE, *network)
    matrices, (rollout, *_) = followed(made, rollouts=1)
    model = made.algorithm.model
    with torch.no_grad():
        z = model.actor.encoder.along(rollout, model.slots[0])
        for t, action in enumerate(rollout.action):
            mean, noise = model.actor.head.layer(z[t]), model.actor.head.noise
            expect = mean + noise(z[t]).exp() * noise.standard(z[t], matrices[t])
            torch.testing.assert_close(action, expect.tanh() if "squash" in "".join(network) else expect)
    made.collector.env.close()


@pytest.mark.parametrize("algo", sampled(["ppo", "acer", "gps", "sac", "sac_v1"], ("ppo", "sac")))
def test_evaluation_draws_nothing_and_takes_the_mode(algo):
    made = parts(*recipe(algo, "env=pendulum", "env=pendulum"), SDE)
    algorithm, obs = made.algorithm, torch.randn(3, 3)
    carry, state = algorithm.initial_carry(3), torch.get_rng_state()
    action, after, _ = algorithm.act(obs, carry, False)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(after[-1], carry[-1])
    actor = algorithm.actor if algo.startswith("sac") else algorithm.model.actor
    assert torch.equal(action, actor(obs).mode())
    assert not torch.equal(algorithm.act(obs, carry, True)[0], action)
    made.collector.env.close()


def test_probabilities_that_are_recorded_are_those_of_learning():
    made = parts(*recipe("a2c", "env=pendulum", ""), SDE, "algo/advantage=vtrace")
    rollout = made.collector.collect(made.algorithm)
    torch.testing.assert_close(rollout.extras["log_prob"], made.algorithm.log_prob(rollout))
    made.collector.env.close()


@pytest.mark.parametrize(("algo", "moment"), [("ppo", 3), ("reinforce", 6), ("sac", 3)])
def test_a_rollout_goes_on_from_its_middle_with_its_matrix(algo, moment):
    """From what a checkpoint holds, in parts that are built anew; another matrix would act otherwise."""
    words = (*recipe(algo, "env=pendulum", "env=pendulum"), SDE, "env.max_episode_steps=9")
    words = (*words, "collector.random_steps=0") if algo == "sac" else words
    one, other = parts(*words), parts(*words)
    asked = []

    def interrupted():
        asked.append(1)
        return len(asked) == moment + 1

    one.collector.interrupted = interrupted
    assert one.collector.collect(one.algorithm) is None
    other.algorithm.load_state_dict(one.algorithm.state_dict())
    state = copy.deepcopy(one.collector.snapshot())
    found = []
    for made in (one, other):
        made.collector.interrupted = lambda: False
        if made is other:
            made.collector.restore(state)
        torch.manual_seed(7)
        found.append(made.collector.collect(made.algorithm))
        made.collector.env.close()
    assert same(*(rollout._asdict() for rollout in found))
