import copy
import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch
from running import parts
from torch import nn

from pgrun.algos.parts.base import Algorithm
from pgrun.collect.acting import ask, check_observations
from pgrun.collect.collector import ActingPolicy
from pgrun.collect.episode_stats import EpisodeStats
from pgrun.collect.episodes import Episodes
from pgrun.collect.rollouts import Rollouts
from pgrun.data.types import Step, Transition
from pgrun.envs import make
from pgrun.errors import Diverged, UserError

spaces = gym.spaces
OBS = spaces.Box(-np.inf, np.inf, (2,), np.float32)
LENGTHS = [[3, 1, 4], [5, 2], [1]]  # of each environment's episodes, round and round


def reward_of(b, episode, t):
    return 10.0 * b + episode + 0.1 * t


def story(b, *, same_step):
    """Every row of environment b for ever: (obs, next_obs, reward, discount, last, valid)."""
    for episode, length in enumerate(itertools.cycle(LENGTHS[b])):
        for t in range(length):
            last = t == length - 1
            ends = last and episode % 2 == 0  # the even episodes terminate, the odd ones are cut
            code = 100.0 * episode + t
            yield code, code + 1, reward_of(b, episode, t), 0.0 if ends else 1.0, last, True
        if not same_step:
            yield 100.0 * episode + length, 100.0 * (episode + 1), 0.0, 1.0, False, False


class Scripted:
    """Plays the stories; an observation is (environment, 100 · episode + step)."""

    obs_space, action_space = OBS, spaces.Discrete(1000)

    def __init__(self, num_envs=3, *, same_step=True, stateless=False):
        self.num_envs, self.same_step, self.stateless = num_envs, same_step, stateless
        self.seeds, self.actions = [], []
        self.state = {"rows": [0] * num_envs}

    def observe(self, codes):
        return torch.tensor([[float(b), code] for b, code in enumerate(codes)])

    def row(self, b):
        return next(itertools.islice(story(b, same_step=self.same_step), self.state["rows"][b], None))

    def reset(self, seed=None):
        self.seeds.append(seed)
        self.state = {"rows": [0] * self.num_envs}
        return self.observe([0.0] * self.num_envs)

    def step(self, action):
        self.actions.append(action.clone())
        rows = [self.row(b) for b in range(self.num_envs)]
        self.state["rows"] = [n + 1 for n in self.state["rows"]]
        _, successor, reward, discount, last, valid = (list(column) for column in zip(*rows, strict=True))
        after = self.observe([self.row(b)[0] for b in range(self.num_envs)])
        return Step(
            obs=after,
            next_obs=self.observe(successor),
            reward=torch.tensor(reward),
            discount=torch.tensor(discount),
            last=torch.tensor(last),
            valid=torch.tensor(valid),
        )

    def snapshot(self):
        return None if self.stateless else copy.deepcopy(self.state)

    def restore(self, state):
        self.state = copy.deepcopy(state)

    def close(self):
        pass


class Counter(Algorithm):
    """Its action is what it sees; it remembers how often it acted in this episode, and what it saw last."""

    def __init__(self):
        super().__init__(obs_space=OBS, action_space=Scripted.action_space)
        self.weight = nn.Parameter(torch.zeros(1))
        self.calls = 0

    def act(self, obs, carry, explore):
        assert explore
        assert not torch.is_grad_enabled()
        self.calls += 1
        count, seen = carry
        return obs[:, 1].long(), (count + 1, obs.clone()), {"count": count, "before": seen}

    def initial_carry(self, num_envs):
        return torch.zeros(num_envs), torch.full((num_envs, 2), -1.0)


def rollouts(env, length=4, random_steps=0, **kwargs):
    return Rollouts(env=env, length=length, random_steps=random_steps, device="cpu", seed=7, **kwargs)


def expected(num_envs, steps, *, same_step):
    """The first rows of every story, [T, B, 6]."""
    columns = [list(itertools.islice(story(b, same_step=same_step), steps)) for b in range(num_envs)]
    return torch.tensor(columns, dtype=torch.float64).transpose(0, 1)


def join(parts):
    return [torch.cat([getattr(p, name) for p in parts]) for name in Transition._fields[:-1]]


@pytest.mark.parametrize("same_step", [True, False])
def test_rows_line_up_over_several_rollouts(same_step):
    env, policy = Scripted(same_step=same_step), Counter()
    collector = rollouts(env)
    obs, action, reward, discount, next_obs, last, valid = join([collector.collect(policy) for _ in range(5)])
    want = expected(3, 20, same_step=same_step)
    assert obs.shape == next_obs.shape == (20, 3, 2)
    assert torch.equal(obs[..., 0], torch.arange(3.0).expand(20, 3))
    assert torch.equal(obs[..., 1].double(), want[..., 0])
    assert torch.equal(next_obs[..., 1].double(), want[..., 1])
    assert torch.equal(reward, want[..., 2].float())
    assert torch.equal(discount.double(), want[..., 3])
    assert torch.equal(last, want[..., 4].bool())
    assert torch.equal(valid, want[..., 5].bool())
    assert torch.equal(action, obs[..., 1].long())
    assert torch.equal(action, torch.stack(env.actions))
    assert env.seeds == [7]
    assert torch.equal(obs[1:][~last[:-1]], next_obs[:-1][~last[:-1]])


def test_the_carry_begins_anew_where_an_episode_ended():
    collector, policy = rollouts(Scripted()), Counter()
    parts = [collector.collect(policy) for _ in range(5)]
    count, before = (torch.cat([p.extras[key] for p in parts]) for key in ("count", "before"))
    want = expected(3, 20, same_step=True)
    assert torch.equal(count.double(), want[..., 0] % 100)  # the step within the episode
    previous = torch.where(want[..., 0] % 100 == 0, -1.0, want[..., 0] - 1.0)
    assert torch.equal(before[..., 1].double(), previous)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("PPO", ("algo=ppo", "env=cartpole")),
        ("ACER", ("algo=acer", "env=cartpole")),
        ("OffPolicyPG", ("algo=offpolicy_pg", "env=cartpole")),
        ("MADDPG", ("algo=maddpg", "env=simple_spread", "algo.ensembles=2")),
    ],
)
def test_what_learns_from_its_own_steps_alone_takes_no_random_ones(name, words):
    with pytest.raises(UserError, match=f"{name} learns from steps of its own policy alone"):
        parts(*words, "collector.random_steps=100")


def test_random_steps_come_first_and_leave_the_policy_alone():
    env, policy = Scripted(), Counter()
    collector = rollouts(env, random_steps=10)  # four steps in three environments
    first = collector.collect(policy)
    assert policy.calls == 0
    assert first.extras == {}
    assert not torch.equal(first.action, first.obs[..., 1].long())
    assert env.action_space.contains(int(first.action.max()))
    second = collector.collect(policy)
    assert policy.calls == 4
    assert torch.equal(second.action, second.obs[..., 1].long())


def test_a_rollout_half_random_goes_on_with_the_policy():
    policy = Counter()
    rollout = rollouts(Scripted(), length=5, random_steps=6).collect(policy)
    assert policy.calls == 3
    assert torch.equal(rollout.action[2:], rollout.obs[2:, :, 1].long())


def test_random_actions_are_held_over_rollouts_and_a_resume():
    def actions(collector, k):
        return torch.cat([collector.collect(Counter()).action for _ in range(k)])

    one, two = (rollouts(Scripted(), random_steps=45, random_hold=5) for _ in range(2))  # fifteen steps of three
    torch.manual_seed(0)
    whole = actions(one, 3)
    for i in range(10):
        assert torch.equal(whole[i], whole[i - i % 5])
    assert len({tuple(row) for row in whole.tolist()}) == 3
    assert len(set(whole[0].tolist())) == 3  # each environment has its own
    torch.manual_seed(0)
    first = actions(two, 2)
    saved, three = copy.deepcopy(two.snapshot()), rollouts(Scripted(), random_steps=45, random_hold=5)
    assert three.restore(saved)
    assert torch.equal(torch.cat([first, actions(three, 1)]), whole)


def equal(one, two):
    for x, y in zip(one[:-1], two[:-1], strict=True):
        assert torch.equal(x, y)
    assert one.extras.keys() == two.extras.keys()
    assert all(torch.equal(one.extras[k], two.extras[k]) for k in one.extras)


@pytest.mark.parametrize("same_step", [True, False])
def test_rollouts_go_on_from_a_snapshot(same_step):
    policy = Counter()
    one, two = (rollouts(Scripted(same_step=same_step)) for _ in range(2))
    for _ in range(3):
        one.collect(policy)
    saved = copy.deepcopy(one.snapshot())
    assert two.restore(saved)
    for _ in range(3):
        equal(one.collect(policy), two.collect(policy))
    assert two.stats.finished == one.stats.finished
    assert np.array_equal(two.stats.returns, one.stats.returns)


def test_rollouts_without_the_environments_state_start_fresh_episodes():
    policy, env = Counter(), Scripted(stateless=True)
    one, two = rollouts(Scripted(stateless=True), random_steps=6), rollouts(env, random_steps=6)
    one.collect(policy)
    saved = one.snapshot()
    assert saved["env"] is None
    assert not two.restore(saved)
    assert two.stats.count == one.stats.count > 0
    assert list(two.stats.recent) == list(one.stats.recent)
    assert not two.stats.lengths.any()  # the open episodes are lost
    rollout = two.collect(policy)
    assert rollout.obs[0, :, 1].tolist() == [0.0] * 3
    assert torch.equal(rollout.action, rollout.obs[..., 1].long())  # the random steps are over
    assert rollout.extras["count"][0].tolist() == [0.0] * 3
    assert env.seeds != [7]


def test_a_snapshot_before_the_first_step():
    one, two, policy = rollouts(Scripted()), rollouts(Scripted()), Counter()
    assert two.restore(one.snapshot())
    equal(two.collect(policy), one.collect(policy))


def episodes(env, n):
    return Episodes(env=env, episodes=n, device="cpu", seed=7)


@pytest.mark.parametrize("same_step", [True, False])
@pytest.mark.parametrize(("n", "share"), [(3, 1), (6, 2), (4, 2), (9, 3)])
def test_each_environment_brings_exactly_its_share_of_episodes(n, share, same_step):
    collector, policy = episodes(Scripted(same_step=same_step), n), Counter()
    rollout = collector.collect(policy)
    lengths = [list(itertools.islice(itertools.cycle(LENGTHS[b]), share)) for b in range(3)]
    filler = 0 if same_step else share - 1  # rows between episodes
    assert (rollout.last & rollout.valid).sum(0).tolist() == [share] * 3
    assert rollout.valid.sum(0).tolist() == [sum(each) for each in lengths]
    assert rollout.reward.shape[0] == max(sum(each) for each in lengths) + filler
    for b, each in enumerate(lengths):  # past its share all is padding
        assert not rollout.valid[sum(each) + filler :, b].any()
    returns = sorted(
        (sum(reward_of(b, episode, t) for t in range(length)), length)
        for b in range(3)
        for episode, length in enumerate(lengths[b])
    )
    finished = sorted(collector.stats.take())
    assert [length for _, length in finished] == [length for _, length in returns]
    assert [r for r, _ in finished] == pytest.approx([r for r, _ in returns])
    assert not collector.stats.returns.any()  # padding is in no open episode
    assert not collector.stats.lengths.any()


def test_every_rollout_of_episodes_begins_with_fresh_ones():
    env, policy = Scripted(), Counter()
    collector = episodes(env, 3)
    for _ in range(2):
        rollout = collector.collect(policy)
        assert rollout.obs[0, :, 1].tolist() == [0.0] * 3
        assert rollout.extras["count"][0].tolist() == [0.0] * 3
    assert env.seeds == [7, None]  # seeded once, so that the episodes differ
    assert collector.stats.count == 6


def test_episodes_go_on_from_a_snapshot():
    policy, env = Counter(), Scripted()
    one, two = episodes(Scripted(), 3), episodes(env, 3)
    one.collect(policy)
    assert two.restore(one.snapshot())
    equal(one.collect(policy), two.collect(policy))
    assert env.seeds == [7, None]
    assert two.stats.count == one.stats.count == 6


def test_episodes_without_the_environments_state():
    policy, env = Counter(), Scripted(stateless=True)
    one, two = episodes(Scripted(stateless=True), 3), episodes(env, 3)
    assert episodes(Scripted(), 3).restore(one.snapshot())  # nothing was played, so nothing is lost
    one.collect(policy)
    assert not two.restore(one.snapshot())
    two.collect(policy)
    assert env.seeds[0] not in (None, 7)


def test_episode_stats_against_a_loop():
    """Nine rollouts of different lengths; filler rows carry rewards here, which must count nowhere."""
    g, b = torch.Generator().manual_seed(0), 4
    stats, total, length, every = EpisodeStats(b), [0.0] * b, [0] * b, []
    for t_max in (1, 7, 3, 1, 20, 2, 2, 5, 11):
        reward = torch.randn(t_max, b, generator=g)
        last = torch.rand(t_max, b, generator=g) < (0.0 if t_max == 3 else 0.25)
        valid = torch.rand(t_max, b, generator=g) < 0.8
        finished = []
        for t, i in itertools.product(range(t_max), range(b)):
            if not valid[t, i]:
                continue
            total[i] += float(reward[t, i])
            length[i] += 1
            if last[t, i]:
                finished.append((total[i], length[i]))
                total[i], length[i] = 0.0, 0
        stats.add(reward, last, valid)
        got = stats.take()
        assert [n for _, n in got] == [n for _, n in finished]
        assert [r for r, _ in got] == pytest.approx([r for r, _ in finished], abs=1e-5)
        assert list(stats.returns) == pytest.approx(total, abs=1e-5)
        assert list(stats.lengths) == length
        every += finished
    assert stats.count == len(every) > 20
    assert list(stats.recent) == pytest.approx([r for r, _ in every], abs=1e-5)
    assert stats.take() == []


@pytest.mark.parametrize("paid", [False, True])
def test_streams_against_a_loop(paid):
    """Returns of other streams; one that is called `return` is the one that counts as the return."""
    g, b = torch.Generator().manual_seed(1), 3
    names = ["return_a", "return_b", *(["return"] if paid else [])]
    stats, total, finished = EpisodeStats(b), {}, []
    for t_max in (4, 1, 9, 2, 6):
        reward, last = torch.randn(t_max, b, generator=g), torch.rand(t_max, b, generator=g) < 0.25
        valid = torch.rand(t_max, b, generator=g) < 0.8
        streams = {name: torch.randn(t_max, b, generator=g) for name in names}
        for t, i in itertools.product(range(t_max), range(b)):
            for name, x in {"return": reward, **streams}.items():
                total[name, i] = total.get((name, i), 0.0) + float(x[t, i]) * bool(valid[t, i])
            if last[t, i] and valid[t, i]:
                finished.append([total.pop((name, i)) for name in ("return", "return_a", "return_b")])
        stats.add(reward, last, valid, streams)
        if t_max == 9:  # and over a resume
            saved, stats = copy.deepcopy(stats.snapshot()), EpisodeStats(b)
            stats.restore(saved, open_episodes=True)
    want = list(zip(*finished, strict=True))
    assert len(finished) > 5
    assert [r for r, _ in stats.take()] == pytest.approx(want[0], abs=1e-5)
    assert list(stats.recent) == pytest.approx(want[0], abs=1e-5)
    others = stats.take_streams()
    assert sorted(others) == ["return_a", "return_b"]
    assert others["return_a"] == pytest.approx(want[1], abs=1e-5)
    assert others["return_b"] == pytest.approx(want[2], abs=1e-5)
    assert stats.take_streams() == {}


@pytest.mark.parametrize("make_collector", [lambda env: rollouts(env, length=9), lambda env: episodes(env, 3)])
def test_an_environments_streams_reach_the_statistics(make_collector):
    class Two(Scripted):
        def step(self, action):
            step = super().step(action)
            return step._replace(streams={"return_twice": 2.0 * step.reward})

    collector = make_collector(Two())
    rollout = collector.collect(Counter())
    assert "return_twice" not in rollout.extras
    twice = collector.stats.take_streams()["return_twice"]
    assert twice == pytest.approx([2.0 * r for r, _ in collector.stats.take()])
    assert len(twice) >= 3


def test_episode_stats_keep_the_last_hundred():
    stats, yes = EpisodeStats(1), torch.ones(150, 1, dtype=torch.bool)
    stats.add(torch.arange(150.0).unsqueeze(1), yes, yes)
    assert list(stats.recent) == [float(i) for i in range(50, 150)]
    assert stats.count == len(stats.take()) == 150


@pytest.mark.parametrize("open_episodes", [True, False])
def test_episode_stats_snapshot(open_episodes):
    stats, other = EpisodeStats(2), EpisodeStats(2)
    reward, valid = torch.tensor([[1.0, 2.0], [4.0, 8.0]]), torch.ones(2, 2, dtype=torch.bool)
    stats.add(reward, torch.tensor([[True, False], [False, False]]), valid)
    saved = stats.snapshot()
    stats.add(reward, ~valid, valid)  # a snapshot is no view
    other.restore(saved, open_episodes=open_episodes)
    assert other.finished == [(1.0, 1)]
    assert (list(other.recent), other.count) == ([1.0], 1)
    assert list(other.returns) == ([4.0, 10.0] if open_episodes else [0.0, 0.0])
    assert list(other.lengths) == ([1, 2] if open_episodes else [0, 0])


class Broken(Scripted):
    """Says something that is no number at one step of one environment."""

    def __init__(self, what, value):
        super().__init__()
        self.what, self.value = what, value

    def step(self, action):
        step = super().step(action)
        if len(self.actions) == 2:
            if self.what == "reward":
                step.reward[2] = self.value
            else:
                step.next_obs[1, 1] = self.value
        return step


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("make_collector", [rollouts, lambda env: episodes(env, 9)])
def test_what_is_not_finite_is_named(value, make_collector):
    with pytest.raises(Diverged, match=rf"^the reward of environment 2 is {value}$"):
        make_collector(Broken("reward", value)).collect(Counter())
    with pytest.raises(Diverged, match=rf"^the observation of environment 1 is {value}, coordinate \[1\]$"):
        make_collector(Broken("observation", value)).collect(Counter())


def test_dict_observations_are_checked_by_their_parts():
    rollout = rollouts(Scripted()).collect(Counter())
    parts = {"pixels": torch.zeros(4, 3, 2, 2, dtype=torch.uint8), "speed": torch.zeros(4, 3)}
    check_observations(rollout._replace(next_obs=parts))
    parts["speed"][3, 1] = float("nan")
    with pytest.raises(Diverged, match=r"^the observation 'speed' of environment 1 is nan$"):
        check_observations(rollout._replace(next_obs=parts))


def test_dict_observations_are_stacked_by_their_parts():
    class Dicts(Scripted):
        def observe(self, codes):
            x = super().observe(codes)
            return {"b": x[:, 0], "code": x[:, 1]}

    class Policy(Counter):
        def act(self, obs, carry, explore):
            return super().act(torch.stack([obs["b"], obs["code"]], -1), carry, explore)

    rollout = rollouts(Dicts()).collect(Policy())
    assert torch.equal(rollout.obs["code"].double(), expected(3, 4, same_step=True)[..., 0])
    assert torch.equal(rollout.next_obs["code"].double(), expected(3, 4, same_step=True)[..., 1])
    assert rollout.obs["b"].tolist() == [[0.0, 1.0, 2.0]] * 4


def test_a_policy_that_learns_elsewhere_is_followed_by_a_copy():
    algorithm = Counter()
    assert ActingPolicy("cpu").of(algorithm) is algorithm
    algorithm.device = torch.device("meta")  # where it says it learns
    actor = ActingPolicy("cpu")
    twin = actor.of(algorithm)
    assert twin is not algorithm
    assert twin.device.type == "cpu"
    with torch.no_grad():
        algorithm.weight.fill_(3.0)
    algorithm.set_progress(0.5)
    assert twin.weight.item() == 0.0
    assert actor.of(algorithm) is twin
    assert twin.weight.item() == 3.0
    assert twin.progress == 0.5


@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
def test_a_gymnasium_environment_seen_through_the_collector(autoreset):
    """CartPole pays 1 a step: an episode's return is its length; what follows an end is a fresh start near zero."""
    env = make(
        id="CartPole-v1",
        num_envs=3,
        backend="sync",
        autoreset=autoreset,
        max_episode_steps=30,
        extra=None,
        kwargs={},
        wrappers=[],
        float64=False,
        seed=0,
    )

    class Alternate(Counter):
        def act(self, obs, carry, explore):
            return torch.randint(2, (3,)), carry, {}

    collector = rollouts(env, length=100)
    rollout = collector.collect(Alternate())
    last = rollout.last[:-1]
    assert last.sum() > 5
    assert torch.equal(rollout.obs[1:][~last], rollout.next_obs[:-1][~last])
    starts = rollout.next_obs[1:][~rollout.valid[1:]] if autoreset == "next_step" else rollout.obs[1:][last]
    assert starts.abs().max() <= 0.05
    assert (~rollout.valid).sum() == (last.sum() if autoreset == "next_step" else 0)
    died = rollout.last & (rollout.discount == 0)
    out = (rollout.next_obs[..., 0].abs() > 2.4) | (rollout.next_obs[..., 2].abs() > 0.2095)
    assert torch.equal(out & rollout.valid, died)
    assert (rollout.reward[rollout.valid] == 1.0).all()
    assert (rollout.reward[~rollout.valid] == 0.0).all()
    for total, length in collector.stats.take():
        assert total == length <= 30


class Elsewhere:
    """A policy on another device: torch's meta device, which has shapes and no numbers, stands for a GPU."""

    device = torch.device("meta")

    def act(self, obs, carry, explore):
        assert obs["x"].device.type == carry[0].device.type == "meta"
        self.seen = obs["x"].shape, explore
        return Back((4,)), (carry[0] + 1,), {"log_prob": Back((4,))}


class Back:
    """A result that comes back from the other device."""

    def __init__(self, shape):
        self.shape = shape

    def cpu(self):
        return torch.zeros(self.shape)


def test_a_policy_on_another_device_sees_and_answers():
    policy = Elsewhere()
    action, (carry,), extras = ask(policy, {"x": torch.ones(4, 3)}, (torch.ones(4, 2),), explore=True)
    assert policy.seen == ((4, 3), True)
    assert action.device.type == extras["log_prob"].device.type == "cpu"
    assert carry.device.type == "meta"  # what is remembered stays with the policy
