"""Each form of the estimator against an MDP whose trajectories are all enumerated, and against loops by hand."""

import functools
from itertools import combinations_with_replacement, permutations

import gymnasium as gym
import numpy as np
import pytest
import torch
from probes import run
from running import compose, parts
from torch.testing import assert_close

from pgrun.algos.parts.scores import where_episodes_are
from pgrun.algos.policy_gradient import PolicyGradient
from pgrun.config.values import validate
from pgrun.core.advantages import GAE, TD, LearnedAdvantage, NStep, Ones, Q, RewardToGo, TotalReturn
from pgrun.core.baselines import Average, Optimal, Value, Zero
from pgrun.core.mixture import Mixture
from pgrun.data.types import Transition, map_transition
from pgrun.errors import UserError
from pgrun.nn import MLP, Recurrent
from pgrun.optim.rules import SGD

GAMMA = 0.7
STATES, ACTIONS = 3, 2
START = {0: 0.7, 2: 0.3}
MOVES = {  # (state, action) -> {next state: probability}; what is missing to 1 ends the episode. No state comes twice
    (0, 0): {1: 0.5, 2: 0.5},
    (0, 1): {2: 0.7},
    (1, 0): {},
    (1, 1): {2: 0.4},
    (2, 0): {},
    (2, 1): {},
}
REWARD = torch.tensor([[1.0, -2.0], [0.5, 3.0], [-1.0, 2.0]], dtype=torch.float64)
ANY, TRUE = "any", "true"


def network(**changes):
    kwargs = {"hidden": [], "activation": "tanh", "init_gain": 1.0, "head_gain": 1.0, "shared": False}
    return MLP(**{**kwargs, "log_std_init": 0.0, "normalize_obs": False, **changes})


def lstm():
    kwargs = {"activation": "tanh", "init_gain": 1.0, "head_gain": 1.0, "shared": True, "log_std_init": 0.0}
    return Recurrent(**kwargs, hidden=[5], normalize_obs=False, cell="lstm", size=4, sequence=None, channels=[4])


def algorithm(advantage, baseline=None, **changes):
    """A table of logits with a step of length 0, unless told otherwise."""
    kwargs = {
        "obs_space": gym.spaces.Box(0.0, 1.0, (STATES,), np.float32),
        "action_space": gym.spaces.Discrete(ACTIONS),
        "network": network(),
        "optimizer": functools.partial(SGD, lr=0.0, schedule="constant", momentum=0.0),
        "device": "cpu",
        "compile": False,
        "advantage": advantage,
        "baseline": baseline or Zero(),
        "gamma": GAMMA,
        "rollout": None,
        "whole_episodes": True,
        "normalize_reward": False,
        "max_grad_norm": None,
        "update": "rollout",
        "discount_states": False,
        "normalize": "none",
        "reduce": "sum",
        "entropy_coef": 0.0,
        "value_coef": 0.0,
    }
    return PolicyGradient(**{**kwargs, **changes})


def trajectories(pi):
    """Every (probability, [(s, a, r, s' or None)])."""

    def go_on(state, probability, path):
        for action in range(ACTIONS):
            here, reward = probability * float(pi[state, action]), float(REWARD[state, action])
            successors = MOVES[state, action]
            if (ends := 1.0 - sum(successors.values())) > 1e-12:
                yield here * ends, [*path, (state, action, reward, None)]
            for successor, p in successors.items():
                yield from go_on(successor, here * p, [*path, (state, action, reward, successor)])

    for state, mass in START.items():
        yield from go_on(state, mass, [])


def batch_of(*paths, length=None):
    """Trajectories as the columns of a rollout, with rows of padding below the shorter ones."""
    t, b = length or max(len(path) for path in paths), len(paths)
    eye = torch.eye(STATES)
    obs, next_obs = torch.full((t, b, STATES), 0.3), torch.full((t, b, STATES), 0.3)
    action, reward, last = torch.zeros(t, b).long(), torch.full((t, b), 9.0), torch.zeros(t, b) > 0
    valid, terminated = torch.zeros_like(last), torch.zeros_like(last)
    for column, path in enumerate(paths):
        for k, (s, a, r, successor) in enumerate(path):
            obs[k, column], action[k, column], reward[k, column], valid[k, column] = eye[s], a, r, True
            last[k, column] = terminated[k, column] = successor is None
            if successor is not None:
                next_obs[k, column] = eye[successor]
    i = GAMMA ** torch.arange(t).float().unsqueeze(1).expand(t, b)
    return Transition(obs, action, reward, 1.0 - terminated.float(), next_obs, last, valid, {"I": i})


def exact(logits):
    """J and Q of a softmax table, by linear algebra."""
    pi = logits.softmax(-1)
    p = torch.zeros(STATES, ACTIONS, STATES, dtype=torch.float64)
    for (s, a), successors in MOVES.items():
        for successor, probability in successors.items():
            p[s, a, successor] = probability
    p_pi, r_pi = torch.einsum("sa,sat->st", pi, p), (pi * REWARD).sum(-1)
    v = torch.linalg.solve(torch.eye(STATES, dtype=torch.float64) - GAMMA * p_pi, r_pi)
    return sum(mass * v[s] for s, mass in START.items()), REWARD + GAMMA * p @ v, v


def bias(algo, *, critic=None, at_once=1):
    """How far the mean gradient of the actor over every batch of `at_once` trajectories is from the exact one."""
    g = torch.Generator().manual_seed(3)
    actor = list(algo.model.actor.parameters())
    with torch.no_grad():
        for p in algo.parameters():
            p.copy_(torch.randn(p.shape, generator=g))
    table = [p.detach().double().requires_grad_() for p in actor]
    logits = table[0].T + table[1]
    j, q, v = exact(logits)
    truth = torch.cat([x.flatten() for x in torch.autograd.grad(j, table)])
    if critic is not None:
        weight, offset = algo.model.critic.head.parameters()  # [outputs, S]
        outputs = {1: v[:, None], 2: q, 3: torch.cat([v[:, None], q - v[:, None]], 1)}[len(weight)]
        with torch.no_grad():
            off = torch.outer(torch.tensor([1.0, -0.5, 2.0])[: len(weight)], torch.tensor([2.0, -3.0, 4.0]))
            weight.copy_(outputs.T + (critic == ANY) * off)
            offset.zero_()
    every = list(trajectories(logits.detach().softmax(-1)))
    mean, mass = torch.zeros_like(truth), 0.0
    for some in combinations_with_replacement(every, at_once):
        orders = len(set(permutations(id(path) for _, path in some)))
        probability = orders * float(np.prod([p for p, _ in some]))
        algo.update(batch_of(*(path for _, path in some)))
        mean -= probability * torch.cat([p.grad.flatten() for p in actor]).double()  # J is ascended
        mass += probability
    assert mass == pytest.approx(1.0)
    assert truth.norm() > 0.3
    return float((mean - truth).norm() / truth.norm())


I = {"discount_states": True}  # noqa: E741 (the paper's symbol)
MIX = Mixture(terms={"td": TD(), "to_go": RewardToGo()}, weights={"td": 0.3, "to_go": 0.7})
SINGLE = {
    "reward-to-go with γ^t": (algorithm(RewardToGo(), **I), None, True),
    "reward-to-go with γ^t, a batch a time step": (algorithm(RewardToGo(), **I, reduce="rows"), None, False),
    "the mean over steps": (algorithm(RewardToGo(), **I, reduce="mean"), None, False),
    "standardised over the episode": (algorithm(RewardToGo(), **I, normalize="episode"), None, False),
    "Q": (algorithm(Q(center=False, dueling=False, lambda_=0.9), **I), TRUE, True),
    "Q, centred": (algorithm(Q(center=True, dueling=False, lambda_=0.9), **I), TRUE, True),
    "Q, a wrong one": (algorithm(Q(center=True, dueling=False, lambda_=0.9), **I), ANY, False),
    "Q, dueling": (algorithm(Q(center=False, dueling=True, lambda_=0.9), **I), TRUE, True),
    "A": (algorithm(LearnedAdvantage(lambda_=0.9), **I), TRUE, True),
    "A, a wrong one": (algorithm(LearnedAdvantage(lambda_=0.9), **I), ANY, False),
    "a mixture with the true V": (algorithm(MIX, Value(), **I), TRUE, True),
    "a mixture with a wrong V": (algorithm(MIX, Value(), **I), ANY, False),
    "a window of two with a wrong V": (algorithm(NStep(n=2, window="fixed"), Value(), **I), ANY, False),
    "a window to the end with a wrong V": (algorithm(NStep(n=None, window="rollout"), Value(), **I), ANY, True),
}
PAIRS = {
    "the sum": (algorithm(TotalReturn()), True),
    "the mean over all steps": (algorithm(TotalReturn(), reduce="rows"), False),
    "standardised over the batch": (algorithm(TotalReturn(), normalize="batch"), False),
    "the average of the others": (algorithm(RewardToGo(), Average(), **I), True),
    "the average of the others' total return": (algorithm(TotalReturn(), Average()), True),
    "the optimum of the others": (algorithm(RewardToGo(), Optimal(per_parameter=False), **I), True),
    "the optimum of the others' total return": (algorithm(TotalReturn(), Optimal(per_parameter=False)), True),
    "the optimum per parameter": (algorithm(RewardToGo(), Optimal(per_parameter=True), **I), True),
    "the optimum per parameter, total return": (algorithm(TotalReturn(), Optimal(per_parameter=True)), True),
}


@pytest.mark.parametrize("name", SINGLE)
def test_over_every_trajectory(name):
    algo, critic, unbiased = SINGLE[name]
    found = bias(algo, critic=critic)
    assert found < 1e-4 if unbiased else found > 0.02


@pytest.mark.parametrize("name", PAIRS)
def test_over_every_pair_of_trajectories(name):
    algo, unbiased = PAIRS[name]
    found = bias(algo, at_once=2)
    assert found < 1e-4 if unbiased else found > 0.01


def test_a_q_minus_its_mean_is_the_advantage():
    """Centred or not, the mean gradient is the same; sample by sample it is not."""
    one, two = (algorithm(Q(center=center, dueling=False, lambda_=0.0), **I, reduce="rows") for center in (True, False))
    two.load_state_dict(one.state_dict())
    batch = batch_of([(0, 1, 1.0, 2), (2, 0, 2.0, None)])
    first, second = one.estimate(batch).extras, two.estimate(batch).extras
    pi, q = one.model.policy(batch).logits.softmax(-1), one.model.critic(batch.obs)
    centred = (q - (pi * q).sum(-1, keepdim=True)).gather(-1, batch.action.unsqueeze(-1)).squeeze(-1)
    assert_close(first["psi"], (centred * batch.extras["I"]).detach())
    assert (first["psi"] - second["psi"]).abs().max() > 0.05


# several episodes a column, with filler after some, padding below


def story(num_envs=3, carry=0, seed=4):
    """[T, B]; where an episode ended there may be a row of filler. Also the list of episodes [(column, [t, …])]."""
    g = torch.Generator().manual_seed(seed)
    lengths = [[3, 4], [2, 1, 5], [6]][:num_envs]
    filler = [True, False, False]
    t, b = 9, num_envs
    batch = Transition(
        obs=torch.randn(t, b, STATES, generator=g),
        action=torch.randint(ACTIONS, (t, b), generator=g),
        reward=torch.randn(t, b, generator=g) + 1.0,
        discount=torch.ones(t, b),
        next_obs=torch.randn(t, b, STATES, generator=g),
        last=torch.zeros(t, b) > 0,
        valid=torch.zeros(t, b) > 0,
        extras={"carry": torch.randn(t, b, carry, generator=g), "I": torch.ones(t, b)},
    )
    episodes = []
    for column in range(b):
        row = 0
        for length in lengths[column]:
            steps = list(range(row, row + length))
            batch.valid[steps, column] = True
            batch.last[steps[-1], column] = True
            batch.discount[steps[-1], column] = 0.0
            batch.extras["carry"][row, column] = 0.0
            batch.extras["I"][steps, column] = GAMMA ** torch.arange(length).float()
            episodes.append((column, steps))
            row += length + filler[column]
    return batch, episodes


def to_go(batch, column, steps):
    """Σ_{k≥t} γ^{k−t} r_k at each of an episode's steps."""
    r = batch.reward[steps, column].tolist()
    return [sum(GAMMA ** (k - t) * r[k] for k in range(t, len(r))) for t in range(len(r))]


def check_psi(algo, batch, episodes, expected, **tolerance):
    psi = algo.estimate(batch).extras["psi"]
    for (column, steps), weights in zip(episodes, expected, strict=True):
        assert_close(psi[steps, column], torch.tensor(weights), rtol=1e-4, atol=1e-5, **tolerance)
    return psi


def test_the_average_baseline_is_a_loop_over_the_others():
    batch, episodes = story()
    g = [to_go(batch, *episode) for episode in episodes]
    expected = []
    for i, mine in enumerate(g):
        others = [[x[t] for j, x in enumerate(g) if j != i and len(x) > t] for t in range(len(mine))]
        assert i != 5 or others[-1] == []  # the longest stands alone in the end
        expected.append([x - (sum(o) / len(o) if o else 0.0) for x, o in zip(mine, others, strict=True)])
    check_psi(algorithm(RewardToGo(), Average(), reduce="rows"), batch, episodes, expected)


@pytest.mark.parametrize("make", [network, lambda: network(hidden=[6], shared=True), lstm])
@pytest.mark.parametrize("per_parameter", [False, True])
def test_the_optimal_baseline_is_a_loop_over_the_others(make, per_parameter):
    baseline = Optimal(per_parameter=per_parameter)
    algo = algorithm(RewardToGo(), baseline, network=make(), **I, reduce="rows")
    batch, episodes = story(carry=algo.model.state_size)
    actor = list(algo.model.actor.parameters())

    def gradient(column, steps, weights):
        """Of one episode alone, by autograd."""
        alone = map_transition(lambda x: x[steps][:, [column]], batch)
        total = (algo.model.policy(alone).log_prob(alone.action).squeeze(1) * torch.tensor(weights)).sum()
        return torch.cat([x.flatten() for x in torch.autograd.grad(total, actor)]).double()

    time = [[GAMMA**t for t in range(len(steps))] for _, steps in episodes]
    psi = [[w * x for w, x in zip(i, to_go(batch, *e), strict=True)] for i, e in zip(time, episodes, strict=True)]
    g = [gradient(*e, w) for e, w in zip(episodes, time, strict=True)]
    g_hat = [gradient(*e, w) for e, w in zip(episodes, psi, strict=True)]
    n = range(len(g))
    products, squares = [h * x for h, x in zip(g_hat, g, strict=True)], [x * x for x in g]
    if not per_parameter:
        products, squares = [x.sum() for x in products], [x.sum() for x in squares]
    above, below = ([sum(x[j] for j in n if j != i) for i in n] for x in (products, squares))
    b = [torch.where(y > 0, x / y.clamp(min=1e-30), 0.0) for x, y in zip(above, below, strict=True)]
    taken = [0.0] * len(g) if per_parameter else [float(x) for x in b]  # off Ψ; the rest off the gradient
    expected = [[x - c * w for x, w in zip(*both, strict=True)] for *both, c in zip(psi, time, taken, strict=True)]
    check_psi(algo, batch, episodes, expected)
    algo.update(batch)
    found = torch.cat([p.grad.flatten() for p in actor]).double()
    estimator = sum(h - c * x for h, c, x in zip(g_hat, b, g, strict=True))
    assert_close(-found * batch.valid.sum(), estimator, rtol=2e-3, atol=2e-4)
    assert estimator.norm() > 0.1


def test_one_trajectory_alone_has_no_baseline():
    batch, episodes = story(num_envs=3)
    batch = map_transition(lambda x: x[:, 2:], batch)
    expected = [to_go(batch, 0, episodes[-1][1])]
    for baseline in (Average(), Optimal(per_parameter=False)):
        check_psi(algorithm(RewardToGo(), baseline, reduce="rows"), batch, [(0, episodes[-1][1])], expected)


def test_where_the_episodes_are():
    batch, episodes = story()
    row, column, there = where_episodes_are(batch)
    found = [(int(column[0, i]), row[there[:, i], i].tolist()) for i in range(row.shape[1])]
    assert sorted(found) == sorted(episodes)


@pytest.mark.parametrize("reduce", ["rows", "sum", "mean"])
def test_what_the_scores_are_averaged_over(reduce):
    algo = algorithm(RewardToGo(), reduce=reduce)
    batch, episodes = story()
    log_prob = algo.model.policy(batch).log_prob(batch.action)
    each = [log_prob[steps, c] @ torch.tensor(to_go(batch, c, steps)) for c, steps in episodes]
    steps = [len(s) for _, s in episodes]
    total = {
        "rows": sum(each) / sum(steps),
        "sum": sum(each) / len(each),
        "mean": sum(x / n for x, n in zip(each, steps, strict=True)) / len(each),
    }[reduce]
    expected = torch.autograd.grad(total, list(algo.model.actor.parameters()))
    algo.update(batch)
    for p, e in zip(algo.model.actor.parameters(), expected, strict=True):
        assert_close(p.grad, -e, rtol=1e-4, atol=1e-5)


def test_standardised_over_the_batch_and_over_each_episode():
    batch, episodes = story()
    every = [torch.tensor(to_go(batch, *e)) for e in episodes]
    flat = torch.cat(every)
    whole = [((x - flat.mean()) / flat.std()).tolist() for x in every]
    alone = [((x - x.mean()) / (x.std() if len(x) > 1 else 1.0)).tolist() for x in every]
    check_psi(algorithm(RewardToGo(), normalize="batch", reduce="rows"), batch, episodes, whole)
    check_psi(algorithm(RewardToGo(), normalize="episode", reduce="rows"), batch, episodes, alone)


def test_filler_is_no_part_of_the_next_episode():
    """The total return and the average baseline count from an episode's own first step."""
    batch, episodes = story()
    total = [[to_go(batch, *e)[0]] * len(e[1]) for e in episodes]
    check_psi(algorithm(TotalReturn(), reduce="rows"), batch, episodes, total)


# an update at every step


def sgd(lr):
    return functools.partial(SGD, lr=lr, schedule="constant", momentum=0.0)


def test_the_textbooks_loop_steps_at_every_t():
    """θ ← θ + α γ^t G_t ∇log π(a_t|s_t), Sutton & Barto 2018, section 13.3, with the θ of each moment."""
    path = [(0, 0, 1.0, 1), (1, 1, 3.0, 2), (2, 1, 2.0, None)]
    algo = algorithm(RewardToGo(), update="step", reduce="rows", optimizer=sgd(0.5), **I)
    weight, offset = (p.detach().clone().requires_grad_() for p in algo.model.actor.parameters())
    batch = batch_of(path)
    for t, (s, a, _, _) in enumerate(path):
        log_prob = (torch.eye(STATES)[s] @ weight.T + offset).log_softmax(-1)[a]
        g = sum(GAMMA ** (k - t) * path[k][2] for k in range(t, 3))
        for p, gradient in zip((weight, offset), torch.autograd.grad(log_prob, (weight, offset)), strict=True):
            p.data += 0.5 * GAMMA**t * g * gradient
    at_once = algorithm(RewardToGo(), reduce="sum", optimizer=sgd(0.5), **I)
    at_once.load_state_dict(algo.state_dict())
    at_once.update(batch)
    algo.update(batch)
    mine = list(algo.model.actor.parameters())
    assert_close(mine[0], weight, rtol=1e-5, atol=1e-6)
    assert_close(mine[1], offset, rtol=1e-5, atol=1e-6)
    assert (mine[0] - next(iter(at_once.model.actor.parameters()))).abs().max() > 0.01  # θ moved in between


def test_the_online_actor_critic_is_the_textbooks():
    """δ, then w ← w + α δ ∇V and θ ← θ + α I δ ∇log π, I ← γI: Sutton & Barto 2018, section 13.5."""
    path = [(0, 0, 1.0, 1), (1, 0, 3.0, 2), (2, 1, 2.0, None)]
    kwargs = {"rollout": 1, "whole_episodes": False, "reduce": "rows", "value_coef": 1.0, "optimizer": sgd(0.3)}
    algo = algorithm(TD(), Value(), **kwargs, **I)
    eye = torch.eye(STATES)
    w, theta = [[p.detach().clone() for p in m.parameters()] for m in (algo.model.critic, algo.model.actor)]
    i, carry = 1.0, algo.initial_carry(1)
    for s, a, r, successor in path:
        v = float(eye[s] @ w[0][0] + w[1])
        ahead = 0.0 if successor is None else float(eye[successor] @ w[0][0] + w[1])
        delta = r + GAMMA * ahead - v
        score = torch.eye(ACTIONS)[a] - (eye[s] @ theta[0].T + theta[1]).softmax(-1)
        w[0][0] += 0.3 * delta * eye[s]
        w[1] += 0.3 * delta
        theta[0] += 0.3 * i * delta * torch.outer(score, eye[s])
        theta[1] += 0.3 * i * delta * score
        _, carry, extras = algo.act(eye[[s]], carry, True)
        assert_close(extras["I"], torch.tensor([i]))
        i *= GAMMA
        batch = batch_of([(s, a, r, successor)])
        algo.update(batch._replace(extras={"I": extras["I"].unsqueeze(0)}))
    mine = [*algo.model.critic.parameters(), *algo.model.actor.parameters()]
    for got, expected in zip(mine, [*w, *theta], strict=True):
        assert_close(got, expected, rtol=1e-5, atol=1e-6)


ONLINE = ("algo=actor_critic", "algo.discount_states=true", "num_envs=2", "env=gym", "env.id=ProbeMortal-v0")


@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
@pytest.mark.parametrize("network", ["mlp", "gru"])
def test_the_factor_goes_on_over_the_borders_of_rollouts_and_begins_anew_with_an_episode(autoreset, network):
    made = parts(*ONLINE, f"env.autoreset={autoreset}", f"network={network}", "algo.rollout=3", f"algo.gamma={GAMMA}")
    batches = [made.collector.collect(made.algorithm) for _ in range(5)]
    i, valid = (torch.cat([get(b) for b in batches])[:, 0] for get in (lambda b: b.extras["I"], lambda b: b.valid))
    assert_close(i[valid], torch.tensor([GAMMA ** (k % 5) for k in range(int(valid.sum()))]))
    assert int(valid.sum()) == 15 if autoreset == "same_step" else 11 < int(valid.sum()) < 15


def test_the_factor_survives_a_resume():
    whole = parts(*ONLINE, "algo.rollout=3")
    for _ in range(2):
        whole.algorithm.update(whole.collector.collect(whole.algorithm))
    again = parts(*ONLINE, "algo.rollout=3")
    again.algorithm.restore(whole.algorithm.snapshot())
    again.collector.restore(whole.collector.snapshot())
    expected = whole.collector.collect(whole.algorithm).extras["I"]
    assert torch.equal(again.collector.collect(again.algorithm).extras["I"], expected)
    assert expected[0, 0] == pytest.approx(0.99)  # the second episode's second step


# learning

Q_FORMS = [("q", "none", "algo.advantage.dueling=false"), ("a", "value", "algo.advantage.lambda_=0.5")]


@pytest.mark.parametrize(("advantage", "baseline", "key"), Q_FORMS)
def test_q_is_learned_and_the_policy_climbs(advantage, baseline, key):
    """Match: +1 for the action that goes with what is seen, −1 for the other. Q's of both actions are seen."""
    made, _ = run(
        *("algo=actor_critic", f"algo/advantage={advantage}", f"algo/baseline={baseline}", "env=gym", "num_envs=8"),
        *("env.id=ProbeMatch-v0", "network.hidden=[32]", "optimizer.lr=0.01", "optimizer.schedule=constant"),
        *(key, "total_steps=2500", "algo.rollout=2", "algo.entropy_coef=1"),  # so that no action dies out
    )
    algo, obs = made.algorithm, torch.tensor([[1.0], [-1.0]])
    pi = algo.model.actor(obs)
    assert pi.mode().tolist() == [1, 0]
    with torch.no_grad():
        q = algo.model.critic.q(algo.model.critic.encoder(obs), pi)
    assert_close(q, torch.tensor([[-1.0, 1.0], [1.0, -1.0]]), rtol=0.0, atol=0.25)


@pytest.mark.slow
@pytest.mark.parametrize("advantage", ["q", "a"])
def test_q_of_numbers_is_learned_and_the_policy_climbs(advantage):
    """Match: 1 − 4 (a − s/2)² of a number a; what is fitted is a quadratic of the action."""
    made, _ = run(
        *("algo=trpo", f"algo/advantage={advantage}", "env=gym", "num_envs=8", "env.id=ProbeMatch-v0"),
        *("+env.kwargs.continuous=true", "network.hidden=[32]", "network.log_std_init=-1", "optimizer.lr=0.01"),
        *("total_steps=1500", "algo.rollout=16", "algo.delta=0.05", "algo.critic_fit.epochs=20"),
        *("algo.critic_fit.minibatch=32", "algo.advantage.lambda_=0.5"),
    )
    algo, obs = made.algorithm, torch.tensor([[1.0], [-1.0]])
    with torch.no_grad():
        pi, features = algo.model.actor(obs), algo.model.critic.encoder(obs)
        action = pi.mean + pi.log_std.exp() * torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1)
        q = algo.model.critic.taken(features, action, pi)
    assert_close(pi.mean, torch.tensor([[0.5], [-0.5]]), rtol=0.0, atol=0.15)
    assert_close(q, 1.0 - 4.0 * (action - 0.5 * obs).squeeze(-1).square(), rtol=0.0, atol=0.15)


def test_q_looks_ahead():
    """Two steps and 1 at the end, whatever is done: Q(s_0) = γ, Q(s_1) = 1."""
    made, _ = run(
        *(
            "algo=actor_critic",
            "algo/advantage=q",
            "algo.advantage.dueling=false",
            "algo.advantage.lambda_=0",
            "env=gym",
            "env.id=ProbeTwo-v0",
        ),
        *(
            "num_envs=8",
            "network.hidden=[32]",
            "optimizer.lr=0.01",
            "total_steps=3000",
            "algo.rollout=2",
            "algo.gamma=0.8",
        ),
    )
    q = made.algorithm.model.critic(torch.tensor([[0.0], [1.0]]))
    assert_close(q.detach(), torch.tensor([[0.8, 0.8], [1.0, 1.0]]), rtol=0.0, atol=0.1)


@pytest.mark.parametrize("baseline", ["average", "optimal"])
def test_baselines_of_the_others_learn(baseline):
    made, _ = run(
        *("algo=reinforce", f"algo/baseline={baseline}", "env=gym", "env.id=ProbeMatch-v0", "num_envs=8"),
        *("network.hidden=[16]", "optimizer.lr=0.01", "total_steps=800", "algo.normalize=none"),
    )
    assert made.algorithm.model.actor(torch.tensor([[1.0], [-1.0]])).mode().tolist() == [1, 0]


# compiled

FORMS = {
    "v-trace": ("algo=a2c", "env=cartpole", "algo/advantage=vtrace"),
    "a sum of either sign": (
        *("algo=a2c", "env=pendulum", "algo/advantage=mixture", "algo.advantage.weights.td=-0.5"),
        *("algo.advantage.weights.vtrace=1", "algo.advantage.weights.a=0.7"),
    ),
    "q of two numbers": ("algo=ppo", "env=lqr", "algo/advantage=q", "algo.advantage.dueling=false", "algo.minibatch=8"),
}


@pytest.mark.parametrize("backend", ["none", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", FORMS)
def test_a_compiled_step_is_the_same(form, backend, monkeypatch):
    """Without a compiler, as a function of its parameters and of what a rollout holds; and as compiled code."""
    if backend == "none":
        monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    torch.manual_seed(0)
    one = parts(*FORMS[form], "num_envs=4", "network.hidden=[8]", "algo.rollout=8", "device=cpu")
    two = parts(*FORMS[form], "num_envs=4", "network.hidden=[8]", "algo.rollout=8", "device=cpu", "compile=true")
    two.algorithm.restore(one.algorithm.snapshot())
    for _ in range(2):
        batch = one.collector.collect(one.algorithm)
        found = []
        for algorithm in (one.algorithm, two.algorithm):
            torch.manual_seed(1)  # of the minibatches
            found.append(algorithm.update(map_transition(torch.clone, batch)))
        assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)
        assert_close(one.algorithm.step.theta, two.algorithm.step.theta, rtol=1e-3, atol=1e-5)
    one.collector.env.close()
    two.collector.env.close()


# what has no meaning is refused

PER_PARAMETER = Optimal(per_parameter=True)
REFUSED = {
    "discount_states=true: .*total_return has the factor": {"advantage": TotalReturn(), **I},
    "normalize=batch leaves nothing of a Ψ that is always 1": {"advantage": Ones(), "normalize": "batch"},
    "reduce=sum is of sums .*update=rollout": {"update": "step"},
    "per_parameter=true is of sums": {"update": "step", "reduce": "rows", "baseline": PER_PARAMETER},
    "update=step needs whole episodes: .*algo.update=rollout": {"update": "step", "reduce": "rows", "rollout": 5},
    "reduce=mean needs whole episodes: .*algo.reduce=rows": {"reduce": "mean", "rollout": 5},
    "normalize=episode needs whole episodes: .*none or batch": {"normalize": "episode", "reduce": "rows", "rollout": 5},
    "baseline=average needs whole episodes: add collector=episodes": {"baseline": Average(), "rollout": 5},
    "baseline=optimal takes the place of a learned value": {"advantage": TD(), "baseline": PER_PARAMETER},
    "baseline=average takes the place": {"advantage": MIX, "baseline": Average()},
    "advantage=mixture needs a learned value": {"advantage": MIX},
    "advantage=q has a baseline in its own critic": {
        "advantage": Q(center=True, dueling=False, lambda_=0.9),
        "baseline": Average(),
    },
    "advantage=ones is no return": {"advantage": Ones(), "baseline": Average()},
    "advantage=q and a, and a mixture with them, take means over all actions.*Discrete or Box": {
        "advantage": LearnedAdvantage(lambda_=0.9),
        "action_space": gym.spaces.MultiBinary(2),
    },
}


@pytest.mark.parametrize("words", REFUSED)
def test_refused_by_name(words):
    kwargs = {"advantage": RewardToGo(), **REFUSED[words]}
    kwargs["whole_episodes"] = "rollout" not in kwargs
    with pytest.raises(UserError, match=words) as refusal:
        algorithm(**kwargs)
    assert "use " in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_per_parameter_goes_with_plain_steps_only():
    command = ("algo/baseline=optimal", "algo/advantage=reward_to_go", "algo.baseline.per_parameter=true")
    parts("algo=reinforce", *command)
    with pytest.raises(UserError, match=r"plain and natural steps.* use algo\.baseline\.per_parameter=false"):
        parts("algo=ppo", "collector=episodes", *command)
    parts("algo=ppo", "collector=episodes", *command[:2])


@pytest.mark.parametrize("key", ["update=rollouts", "normalize=all", "reduce=total"])
def test_a_word_that_is_none_of_the_choices(key):
    with pytest.raises(UserError, match=r"is not known; choose one of"):
        validate(compose("algo=reinforce", f"algo.{key}"))


def test_gae_and_the_others_are_what_they_were():
    """A Ψ ahead of the loss and one within it are the same."""
    batch, _ = story()
    inside, ahead = (algorithm(GAE(lambda_=0.9), Value(), normalize="batch", reduce="rows") for _ in range(2))
    ahead.load_state_dict(inside.state_dict())
    ahead.ahead = True
    inside.update(batch)
    ahead.update(batch)
    assert inside.step.theta.grad.norm() > 0.01
    assert torch.equal(inside.step.theta.grad, ahead.step.theta.grad)
