"""Slow copies: when they move and how far, in every algorithm that has some; the count of updates in a checkpoint."""

import pytest
import torch
from omegaconf import OmegaConf
from recipes import ALGORITHMS, OF_AGENTS, OF_NUMBERS, recipe, sampled
from running import compose, parts, same
from torch.testing import assert_close

from pgrun.algos.parts.target_update import PeriodicUpdate, TargetUpdate, target_update
from pgrun.config.values import WrongSetting, validate
from pgrun.errors import UserError
from pgrun.run.build import build

F64 = torch.float64
HAVE = [algo for algo in ALGORITHMS if "target_every" in compose(f"algo={algo}").algo]
SHARE = {algo: "average_decay" if algo == "acer" else "tau" for algo in HAVE}
CASES: dict[str, tuple[str, ...]] = dict.fromkeys(HAVE, ()) | {"sql of its own draws": ("algo.proposal=policy",)}
QUICK = ("acer", "dqn", "td3", "sac", "sql of its own draws")


def test_every_algorithm_with_a_slow_copy_has_the_choice():
    assert {*HAVE} == {
        *("acer", "d4pg", "ddpg", "dqn", "iddpg", "maddpg", "mdpo_offpolicy", "redq", "sac", "sac_discrete"),
        *("sac_v1", "sql", "td3"),
    }
    for algo in ALGORITHMS:
        assert (algo in HAVE) == bool({"tau", "average_decay"} & {*map(str, compose(f"algo={algo}").algo)}), algo


# ---------------------------------------------------------------- the rules


def test_by_a_share_what_is_left_of_the_beginning_shrinks_geometrically():
    theta, slow = torch.tensor([3.0, -1.0], dtype=F64), torch.zeros(2, dtype=F64)
    rule = target_update(0.3, None)
    for k in range(1, 9):
        rule([(slow, theta)])
        assert_close(slow, (1.0 - 0.7**k) * theta, rtol=1e-14, atol=0.0)
    before = slow.clone()
    rule([(slow, theta)], due=False)
    assert torch.equal(slow, before)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_hard_copies_come_at_every_nth_update(n):
    slow, rule = torch.zeros(()), target_update(None, n)
    for i in range(1, 4 * n + 2):
        rule([(slow, torch.tensor(float(i)))], due=i % 3 == 0)  # whenever a share would be due
        assert float(slow) == i // n * n


def test_what_the_settings_make():
    assert type(target_update(0.5, None)) is TargetUpdate
    assert not target_update(0.5, None).state_dict()  # as in runs from before there was a choice
    for tau in (None, 1.0):
        rule = target_update(tau, 7)
        assert isinstance(rule, PeriodicUpdate)
        assert (rule.every, rule.share) == (7, 1.0)
    with pytest.raises(UserError, match=r"^algo.tau and algo.target_every=7 are two rules.*use algo.tau=null"):
        target_update(0.5, 7)
    rule = target_update(0.5, 7, mixed=True)
    assert isinstance(rule, PeriodicUpdate)
    assert rule.share == 0.5
    with pytest.raises(UserError, match=r"^algo.tau=null and algo.target_every=null leave"):
        target_update(None, None)


def test_the_count_is_the_rules_state():
    one, two = target_update(None, 5), target_update(None, 5)
    for _ in range(7):
        one([])
    two.load_state_dict(one.state_dict())
    assert two.updates == 7


# ---------------------------------------------------------------- in the algorithms


def made(case, *overrides):
    """An algorithm and rows of its memory."""
    algo, _, more = case.partition(" ")
    words = recipe(algo, "env=cartpole", "env=pendulum")
    if more:
        words[-1] = "env=pendulum"
    torch.manual_seed(0)
    p = parts(*words, *CASES[case], *overrides, "seed=3")
    batches = []
    while not batches:
        p.memory.add(p.collector.collect(p.algorithm))
        batches = list(p.memory.batches())
    return p.algorithm, batches[0]


def copies(a):
    """Pairs of a slow copy and what it follows."""
    if hasattr(a, "theta_average"):
        return [(a.theta_average, a.step.theta[: a.theta_average.numel()])]
    return a.targets()


def hard(case, n):
    return f"algo.{SHARE[case.partition(' ')[0]]}=null", f"algo.target_every={n}"


@pytest.mark.parametrize("case", sampled(list(CASES), QUICK))
def test_hard_copies_are_of_every_nth_update_and_go_on_within_a_period(case):
    n = 3
    a, batch = made(case, *hard(case, n))
    assert len(copies(a)) == {"acer": 1, "sac_v1": 1, "sql of its own draws": 2}.get(
        case, 2 if case in OF_AGENTS | {"td3", "ddpg", "d4pg"} else 1
    )
    for i in range(1, 5):
        before = [slow.clone() for slow, _ in copies(a)]
        a.update(batch)
        pairs = copies(a)
        for (slow, learned), old in zip(pairs, before, strict=True):
            assert torch.equal(slow, learned if i % n == 0 else old)
        assert i % n == 0 or not torch.equal(*pairs[0])  # else nothing could be seen
    b, _ = made(case, *hard(case, n), "seed=4")
    b.restore(a.snapshot())
    assert same(b.snapshot()["module"], a.snapshot()["module"])
    for i in range(5, 8):
        torch.manual_seed(i)
        a.update(batch)
        torch.manual_seed(i)
        b.update(batch)
        assert all(torch.equal(slow, learned) for slow, learned in copies(b)) == (i % n == 0)
    assert same(b.snapshot(), a.snapshot())


@pytest.mark.parametrize("case", sampled(list(CASES), ("sac",)))
def test_a_copy_at_every_update_is_a_share_of_one(case):
    algo = case.partition(" ")[0]
    delay = ("algo.policy_delay=1",) if algo == "td3" else ()
    whole = "algo.average_decay=0" if algo == "acer" else "algo.tau=1"
    a, batch = made(case, *hard(case, 1), *delay)
    b, same_batch = made(case, whole, "algo.target_every=null", *delay)
    assert same(batch.obs, same_batch.obs)
    for i in range(3):
        for each in (a, b):
            torch.manual_seed(i)
            each.update(batch)
    for mine, theirs in zip(a.steps().values(), b.steps().values(), strict=True):
        assert torch.equal(mine.theta, theirs.theta)
    assert all(torch.equal(slow, learned) for slow, learned in (*copies(a), *copies(b)))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("algo=td3", "algo.tau=null", "algo.target_every=0"), "algo.target_every=0 is out of range"),
        (("algo=dqn", "algo.target_every=-5"), "algo.target_every=-5 is out of range"),
        (("algo=sac", "algo.tau=null", "algo.target_every=2.5"), "algo.target_every=2.5 should be a whole number"),
        (("algo=sac", "algo.tau=0"), "algo.tau=0 is out of range"),
        (("algo=dpg_offpolicy", "+algo.target_every=5"), "there is no key algo.target_every"),
    ],
)
def test_impossible_periods_are_told(words, says):
    with pytest.raises(WrongSetting, match=says):
        validate(compose(*words))


@pytest.mark.parametrize("algo", sampled(HAVE, ("acer", "dqn")))
def test_two_rules_and_none_are_refused(algo):
    key, env = SHARE[algo], "env=pendulum" if algo in OF_NUMBERS else "env=cartpole"
    env = "env=simple_spread" if algo in OF_AGENTS else env
    words = (f"algo={algo}", "network=mlp", "network.hidden=[4]", env, "tuned=none")
    if algo != "dqn":  # whose settings are the period and the share
        with pytest.raises(UserError, match=rf"^algo.{key} and algo.target_every=10 are two rules"):
            parts(*words, f"algo.{key}=0.5", "algo.target_every=10")
    with pytest.raises(UserError, match=rf"^algo.{key}=null and algo.target_every=null leave"):
        parts(*words, f"algo.{key}=null", "algo.target_every=null")


# ---------------------------------------------------------------- older runs

DQN = ("algo=dqn", "env=cartpole", "network.hidden=[8]", "tuned=none")


def older(a, updates):
    """A snapshot as version 0.2 wrote it, with the count of updates as the algorithm's own."""
    state = a.snapshot()
    module = {key: x for key, x in state["module"].items() if not key.endswith("_extra_state")}
    return {**state, "module": {"_extra_state": torch.tensor(updates), **module}}


@pytest.mark.parametrize(("tau", "every"), [(1.0, 4), (0.5, 4), (0.5, 1)])
def test_older_runs_of_dqn_go_on(tau, every):
    """Their configs have both settings, and their checkpoints the count under another name."""
    a = parts(*DQN, f"algo.tau={tau}", f"algo.target_every={every}").algorithm
    a.restore(older(a, 7), optimizers=False)
    assert a.target_update.updates == 7
    before = a.theta_target.clone()
    a.critic_step.theta.add_(1.0)
    a.update_targets()
    assert_close(a.theta_target, before + tau)


def test_configs_without_the_key_follow_by_their_share():
    for algo in ("sac", "acer"):
        config = compose(f"algo={algo}", "env=pendulum", "network=mlp", "network.hidden=[4]")
        OmegaConf.set_struct(config, False)
        del config.algo.target_every
        assert type(build(config).algorithm.target_update) is TargetUpdate
