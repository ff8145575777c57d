"""Several agents: targets, gradients and clips against loops over agents, sub-policies, inferred policies."""

import gymnasium as gym
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from running import compose, parts

from pgrun.data.types import Transition
from pgrun.errors import UserError, WrongSpace
from pgrun.nn import MLP
from pgrun.run.instantiate import call

spaces = gym.spaces
OBS = spaces.Dict({name: spaces.Box(-1.0, 1.0, (n,), np.float32) for name, n in (("a", 3), ("b", 4), ("c", 2))})
ACTIONS = spaces.Dict(
    {"a": spaces.Discrete(3), "b": spaces.Box(-1.0, 1.0, (2,), np.float32), "c": spaces.MultiDiscrete([2, 2])}
)
CHOICES = spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Discrete(2), "c": spaces.Discrete(4)})
PLACES = {"a": slice(0, 3), "b": slice(3, 5), "c": slice(5, 9)}
M = 12


def made(algo="maddpg", *overrides, actions=ACTIONS):
    """The algorithm of a recipe, for three agents with spaces of their own."""
    config = compose(f"algo={algo}", "env=simple_spread", "network.hidden=[8,8]", *overrides)
    network = MLP(
        hidden=[8, 8],
        activation="tanh",
        init_gain=0.0,
        head_gain=0.0,
        shared=False,
        log_std_init=0.0,
        normalize_obs=False,
    )
    algo_config = {key: value for key, value in config.algo.items() if key != "init_from"}
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    return call(
        OmegaConf.create(algo_config),
        "algo",
        obs_space=OBS,
        action_space=actions,
        network=network,
        optimizer=instantiate(config.optimizer, _convert_="all"),
        device="cpu",
        compile=False,
    )


def observed():
    return {name: torch.randn(M, *space.shape) for name, space in OBS.items()}


def one_hot(n):
    return F.one_hot(torch.randint(n, (M,)), n).float()


def batch(extras=None):
    action = torch.cat([one_hot(3), torch.rand(M, 2) * 2 - 1, one_hot(2), one_hot(2)], -1)
    discount = (torch.rand(M, 3) > 0.3).float()
    yes = torch.ones(M, dtype=torch.bool)
    return Transition(observed(), action, torch.randn(M, 3), discount, observed(), ~yes, yes, extras or {})


def stir(algorithm):
    """Targets that differ from what they follow."""
    for theta in (algorithm.theta_target, algorithm.phi_target):
        theta += 0.3 * torch.randn_like(theta)
    if algorithm.inferred is not None:
        algorithm.psi_target.add_(0.3 * torch.randn_like(algorithm.psi_target))


def net(side, k, x):
    """Network k of a side on an input [M, W], layer after layer, by plain products; differentiable in theta."""
    parts, wide = side.theta[k].split(side.sizes), side.shapes[0][0]
    x = F.pad(x, (0, wide - x.shape[1]))
    for depth, shape in enumerate(side.shapes):
        x = x @ parts[2 * depth].view(shape) + parts[2 * depth + 1]
        x = x.tanh() if depth < len(side.shapes) - 1 else x
    return x


def policy(actors, k, name, obs, noise=None):
    """One agent's action by its k-th network: samples with noise, numbers as they are."""
    u = net(actors.side, k, obs[name])[:, : PLACES[name].stop - PLACES[name].start]
    g = torch.zeros_like(u) if noise is None else noise[:, PLACES[name]]
    if name == "b":
        return u.tanh()
    pieces = [(u, g)] if name == "a" else [(u[:, :2], g[:, :2]), (u[:, 2:], g[:, 2:])]
    done = []
    for logits, gumbel in pieces:
        soft = (logits + gumbel).softmax(-1)
        hard = F.one_hot((logits + gumbel).argmax(-1), logits.shape[-1]).float()
        done.append(hard + soft - soft.detach())
    return torch.cat(done, -1)


def everything(obs, action):
    return torch.cat([obs["a"], obs["b"], obs["c"], action], -1)


@pytest.mark.parametrize("infer", [False, True])
def test_targets_are_each_agents_own(infer):
    algorithm, data = made("maddpg", f"algo.infer_policies={infer}"), batch()
    stir(algorithm)
    noise = torch.randn(M, 9)
    y = algorithm.target(data, noise)
    for i, name in enumerate(PLACES):
        actions = []
        for j, other in enumerate(PLACES):
            if infer and j != i:
                actions.append(policy(algorithm.inferred_target, 3 * i + j, other, data.next_obs, noise))
            else:
                actions.append(policy(algorithm.actor_target, j, other, data.next_obs, noise))
        q = net(algorithm.q_target.side, i, everything(data.next_obs, torch.cat(actions, -1)))[:, 0]
        for m in range(M):
            want = data.reward[m, i] + algorithm.gamma * q[m] if data.discount[m, i] else data.reward[m, i]
            torch.testing.assert_close(y[i, m], want, msg=name)


def actor_gradient(algorithm, data, noise):
    algorithm.actor_step.theta.grad.zero_()
    algorithm.actor_loss(data.obs, data.action, data.extras, noise)[0].backward(
        inputs=list(algorithm.actor.parameters())
    )
    return algorithm.actor.side.theta.grad.clone()


@pytest.mark.parametrize("algo", ["maddpg", "iddpg"])
def test_each_actor_follows_its_own_critic_alone(algo):
    algorithm, data, noise = made(algo, "algo.logit_penalty=0"), batch(), torch.randn(M, 9)
    got = actor_gradient(algorithm, data, noise)
    for i, name in enumerate(PLACES):
        own = policy(algorithm.actor, i, name, data.obs, noise)
        if algo == "maddpg":
            action = torch.cat([own if other == name else data.action[:, at] for other, at in PLACES.items()], -1)
            q = net(algorithm.q.side, i, everything(data.obs, action))[:, 0]
        else:
            q = net(algorithm.q.side, i, torch.cat([data.obs[name], own], -1))[:, 0]
        (gradient,) = torch.autograd.grad(-q.mean(), algorithm.actor.side.theta)
        assert float(gradient[i].abs().max()) > 0
        torch.testing.assert_close(got[i], gradient[i])


def test_the_penalty_is_the_mean_square_of_each_agents_outputs():
    algorithm, data, noise = made("maddpg", "algo.logit_penalty=0.5"), batch(), torch.randn(M, 9)
    u = algorithm.actor(data.obs).squeeze(0)
    bare = made("maddpg", "algo.logit_penalty=0")
    bare.load_state_dict(algorithm.state_dict())
    got = (
        algorithm.actor_loss(data.obs, data.action, {}, noise)[0] - bare.actor_loss(data.obs, data.action, {}, noise)[0]
    )
    torch.testing.assert_close(got, 0.5 * sum(u[:, at].square().mean() for at in PLACES.values()))


def test_each_critic_is_fitted_to_its_own_target():
    algorithm, data, y = made(), batch(), torch.randn(3, M)
    loss, _ = algorithm.critic_loss(data.obs, data.action, y, None)
    (got,) = torch.autograd.grad(loss, algorithm.q.side.theta)
    for i in range(3):
        q = net(algorithm.q.side, i, everything(data.obs, data.action))[:, 0]
        (gradient,) = torch.autograd.grad(0.5 * (q - y[i]).square().mean(), algorithm.q.side.theta)
        torch.testing.assert_close(got[i], gradient[i])


def test_the_gradient_of_each_agent_is_clipped_by_itself():
    algorithm, data = made("maddpg", "algo.max_grad_norm=0.01", "optimizer=sgd", "optimizer.lr=1"), batch()
    y = torch.zeros(3, M)
    y[1] = 1000.0  # a huge gradient of one critic, and small ones of the others
    algorithm.q.side.theta.data.mul_(0.1)
    loss, _ = algorithm.critic_loss(data.obs, data.action, y, None)
    (gradient,) = torch.autograd.grad(loss, algorithm.q.side.theta)
    norms = gradient.norm(dim=1)
    before = algorithm.q.side.theta.detach().clone()
    algorithm.target = lambda batch: y
    metrics = algorithm.critic_step(data)
    moved = before - algorithm.q.side.theta.detach()
    assert float(norms[1]) > 100 > 1 > float(norms[0]) > 0.01
    torch.testing.assert_close(moved, gradient * (0.01 / norms).unsqueeze(-1), rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(metrics["gradient/norm_critic"], norms.mean())


def test_an_update_moves_everything_and_targets_by_tau():
    algorithm, data = made("maddpg", "algo.infer_policies=true"), batch()
    names = ("q", "actor", "inferred")
    before = {name: getattr(algorithm, name).side.theta.detach().clone() for name in names}
    metrics = algorithm.update(data)
    assert {"loss/critic", "loss/actor", "loss/inferred", "gradient/norm_actor"} <= metrics.keys()
    for name in names:
        now, target = (getattr(algorithm, x).side.theta.detach() for x in (name, f"{name}_target"))
        assert not torch.equal(now, before[name])
        torch.testing.assert_close(target, before[name] + algorithm.tau * (now - before[name]))


# ---- acting


def test_choices_are_drawn_from_the_policy_and_evaluation_takes_the_likeliest():
    algorithm = made(actions=CHOICES)
    obs = {name: torch.randn(1, *space.shape).expand(8_000, -1) for name, space in OBS.items()}
    u = algorithm.actor(obs).squeeze(0)
    drawn, carry, extras = algorithm.act(obs, (), True)
    greedy, *_ = algorithm.act(obs, (), False)
    assert (carry, extras) == ((), {})
    for at in PLACES.values():
        torch.testing.assert_close(drawn[:, at].mean(0), u[0, at].softmax(-1), atol=0.025, rtol=0)
        assert torch.equal(greedy[0, at].argmax(), u[0, at].argmax())
        assert torch.equal(drawn[:, at].sum(-1), torch.ones(8_000))


def test_numbers_are_explored_by_noise():
    algorithm, obs = made("maddpg", "algo.exploration.sigma=0.2"), observed()
    u = algorithm.actor(obs).squeeze(0)
    spread = torch.stack([algorithm.act(obs, (), True)[0][:, 3:5] for _ in range(400)]) - u[:, 3:5].tanh()
    assert float(spread.std()) == pytest.approx(0.2, rel=0.1)
    torch.testing.assert_close(algorithm.act(obs, (), False)[0][:, 3:5], u[:, 3:5].tanh())
    ou = made("maddpg", "algo/exploration=ou")
    carry = ou.initial_carry(M)
    action, carry, _ = ou.act(obs, carry, True)
    assert len(carry) == 1
    assert float(carry[0].abs().max()) > 0
    assert bool((action[:, 3:5].abs() <= 1).all())


# ---- sub-policies


def test_a_sub_policy_is_drawn_for_each_agent_and_episode():
    algorithm = made("maddpg", "algo.ensembles=3")
    (tag,) = algorithm.initial_carry(6000)
    assert tag.shape == (6000, 3)
    counts = torch.stack([(tag == k).sum(0) for k in range(3)]).float()
    torch.testing.assert_close(counts / 6000, torch.full((3, 3), 1 / 3), atol=0.03, rtol=0)
    pairs = (3 * tag[:, 0] + tag[:, 1]).bincount() / 6000  # independent of each other
    torch.testing.assert_close(pairs, torch.full((9,), 1 / 9), atol=0.025, rtol=0)


def test_an_agent_acts_by_its_sub_policy():
    algorithm, obs = made("maddpg", "algo.ensembles=2"), observed()
    tag = torch.randint(2, (M, 3))
    action, (kept,), extras = algorithm.act(obs, (tag,), False)
    assert torch.equal(kept, tag)
    assert torch.equal(extras["sub_policy"], tag)
    for n, (name, at) in enumerate(PLACES.items()):
        each = torch.stack([policy(algorithm.actor, 3 * k + n, name, obs) for k in range(2)])
        want = each[tag[:, n], torch.arange(M)]
        torch.testing.assert_close(action[:, at], want)


def test_a_sub_policy_learns_from_its_own_rows():
    """Eq. 9: each has 1/K of the mean over its own replay, which is the rows that it acted in."""
    algorithm = made("maddpg", "algo.ensembles=2", "algo.logit_penalty=0")
    tag = torch.zeros(M, 3, dtype=torch.long)
    tag[: M // 2] = 1
    data, noise = batch({"sub_policy": tag}), torch.randn(M, 9)
    got = actor_gradient(algorithm, data, noise)
    for k, rows in ((0, slice(M // 2, M)), (1, slice(0, M // 2))):
        for i, name in enumerate(PLACES):
            obs = {key: x[rows] for key, x in data.obs.items()}
            own = policy(algorithm.actor, 3 * k + i, name, obs, noise[rows])
            action = torch.cat([own if other == name else data.action[rows, at] for other, at in PLACES.items()], -1)
            q = net(algorithm.q.side, i, everything(obs, action))[:, 0]
            (gradient,) = torch.autograd.grad(-q.mean() / 2, algorithm.actor.side.theta)
            torch.testing.assert_close(got[3 * k + i], gradient[3 * k + i])


def test_sub_policies_go_on_in_targets():
    algorithm, tag = made("maddpg", "algo.ensembles=2"), torch.randint(2, (M, 3))
    stir(algorithm)
    data, noise = batch({"sub_policy": tag}), torch.randn(M, 9)
    actions = []
    for n, name in enumerate(PLACES):
        each = torch.stack([policy(algorithm.actor_target, 3 * k + n, name, data.next_obs, noise) for k in range(2)])
        actions.append(each[tag[:, n], torch.arange(M)])
    q = net(algorithm.q_target.side, 2, everything(data.next_obs, torch.cat(actions, -1)))[:, 0]
    want = data.reward[:, 2] + algorithm.gamma * data.discount[:, 2] * q
    torch.testing.assert_close(algorithm.target(data, noise)[2], want)


# ---- inferred policies


def test_what_is_inferred_becomes_the_policy_that_acts():
    torch.manual_seed(1)
    algorithm = made("maddpg", "algo.infer_policies=true", "algo.infer_entropy=0", "optimizer.lr=3e-3", actions=CHOICES)
    algorithm.actor.side.theta.data.mul_(3.0)  # a policy that is sure of something
    for _ in range(400):
        obs = {name: torch.randn(256, *space.shape) for name, space in OBS.items()}
        algorithm.infer_step(obs, algorithm.act(obs, (), True)[0])
    true, inferred = algorithm.actor(obs).squeeze(0), algorithm.inferred(obs)
    for i in range(3):
        for j, at in enumerate(PLACES.values()):
            if i != j:
                p, guess = true[:, at].softmax(-1), inferred[i][:, at].softmax(-1)
                uniform = torch.full_like(p, 1 / p.shape[-1])
                kl, before = (float((p * (p.log() - x.log())).sum(-1).mean()) for x in (guess, uniform))
                assert kl < 0.03
                assert before > 2 * kl


def test_entropy_and_the_own_policy_in_what_is_inferred():
    algorithm, data = made("maddpg", "algo.infer_policies=true", "algo.infer_entropy=0.7", actions=CHOICES), batch()
    action = torch.cat([one_hot(3), one_hot(2), one_hot(4)], -1)
    loss, _ = algorithm.infer_loss(data.obs, action)
    want, u = 0.0, algorithm.inferred(data.obs)
    for i in range(3):
        for j, at in enumerate(PLACES.values()):
            if i != j:
                pi = torch.distributions.Categorical(logits=u[i][:, at])
                want -= (pi.log_prob(action[:, at].argmax(-1)) + 0.7 * pi.entropy()).mean()
    torch.testing.assert_close(loss, want)


# ---- what does not fit


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("algo=maddpg", "env=cartpole"), "MADDPG can't act in Discrete.2.*several agents.*agents=joint"),
        (("algo=iddpg", "env=simple_spread", "agents=rows"), "IDDPG can't act in Discrete.5.*agents=joint"),
        (("algo=sac", "env=simple_spread", "agents=joint"), "SAC can't act in Dict"),
        (("algo=ppo", "env=simple_spread", "agents=joint"), "PPO can't act in Dict"),
    ],
)
def test_spaces_that_do_not_fit(overrides, words):
    with pytest.raises(WrongSpace, match=f"^{words}"):
        parts(*overrides)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("network.normalize_obs=true",), "network.normalize_obs=true takes its statistics"),
        (("network=cnn",), "use network=mlp"),
        (("algo/exploration=epsilon_greedy",), "use algo/exploration=gaussian, none or ou"),
    ],
)
def test_settings_that_do_not_fit(overrides, words):
    with pytest.raises(UserError, match=words):
        parts("algo=maddpg", "env=simple_spread", *overrides)
