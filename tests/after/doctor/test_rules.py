"""Each rule fires on curves that show its fault, and is silent on those of a healthy run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgrun.after.doctor.diagnose import diagnosis
from pgrun.after.doctor.evidence import Evidence
from pgrun.after.doctor.findings import Diagnosis
from pgrun.after.doctor.rules import RULES
from pgrun.run.curves import Curve

N = 20  # points of a curve
STEPS = 500 * np.arange(1, N + 1)
FLAT = 20.0 + np.resize([1.0, -1.0, 0.5], N)  # a return that doesn't rise
RISING = np.linspace(20.0, 200.0, N)
CONFIG = {
    "optimizer.lr": 3e-4,
    "algo.gamma": 0.99,
    "algo.entropy_coef": 0.0,
    "algo.normalize_reward": False,
    "network.normalize_obs": False,
    "network.log_std_init": 0.0,
}


def curves(**changes: Any) -> dict[str, Curve]:
    """Curves of a healthy run of PPO with two discrete actions, some changed or (None) left out; `__` is a slash."""
    healthy = {
        "train__return": RISING,
        "train__episode_length": RISING,
        "reward__mean": 1.0,
        "reward__std": 0.5,
        "reward__largest": 2.0,
        "action__most_taken": 0.6,
        "action__uniform_entropy": np.log(2.0),
        "obs__largest_rms": 1.0,
        "episode__terminated": 1.0,
        "episode__longest_terminated": RISING + 50.0,
        "episode__terminated_at_longest": 0.02,
        "policy__entropy": np.linspace(0.69, 0.4, N),
        "policy__kl": 0.01,
        "policy__clip_fraction": 0.1,
        "value__explained_variance": np.linspace(0.0, 0.8, N),
        "schedule__lr": 3e-4,
        "loss__policy": 0.1,
        "eval__return": RISING,
    }
    wanted = {tag: value for tag, value in {**healthy, **changes}.items() if value is not None}
    arrays = {tag.replace("__", "/"): np.broadcast_to(np.asarray(x, float), (N,)) for tag, x in wanted.items()}
    return {tag: Curve(STEPS, values.copy()) for tag, values in arrays.items()}


def examine(changes: dict[str, Any], config: dict[str, Any] | None = None, **result: Any) -> Diagnosis:
    """Diagnose a run whose curves differ from a healthy one's."""
    run = Evidence(
        curves(**changes),
        {**CONFIG, **(config or {})},
        {"env_steps": int(STEPS[-1]), "updates": 100, "status": "finished", **result},
        {"algo": "ppo", "env": "cartpole"},
        ("algo=ppo", "env=cartpole", "optimizer.lr=0.3"),
    )
    return diagnosis(Path("run"), run)


def names(*args: Any, **kwargs: Any) -> set[str]:
    """The rules that find something."""
    return {finding.rule for finding in examine(*args, **kwargs).findings}


STUCK = {"train__return": FLAT, "eval__return": FLAT}
BOX = {"action__most_taken": None, "action__at_bounds": 0.1, "policy__entropy": 1.4}
ENDS = {"episode__longest_terminated": None, "episode__terminated_at_longest": None}
OFF_POLICY = {"policy__kl": None, "policy__clip_fraction": None, "value__explained_variance": None}
CASES: tuple[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]], ...] = (
    ("rewards-constant", {**STUCK, "reward__largest": 0.0, "reward__mean": 0.0, "reward__std": 0.0}, {}, {}),
    (
        "rewards-constant",
        {
            **STUCK,
            **ENDS,
            "reward__std": 0.0,
            "episode__terminated": 0.0,
            "episode__shortest_truncated": 200,
            "episode__longest_truncated": 200,
        },
        {},
        {},
    ),
    ("rewards-sparse", {**STUCK, "reward__largest": np.arange(N) == 3}, {}, {}),
    ("rewards-tiny", {"reward__largest": 1e-5}, {}, {}),
    ("rewards-huge", {"reward__mean": -5000.0}, {}, {}),
    (
        "time-limit-as-death",
        {"episode__longest_terminated": 60.0, "episode__terminated_at_longest": 0.9},
        {},
        {},
    ),
    (
        "death-as-time-limit",
        {
            **ENDS,
            "episode__terminated": 0.0,
            "episode__shortest_truncated": 9.0,
            "episode__longest_truncated": np.linspace(30, 80, N),
        },
        {},
        {},
    ),
    ("observations-unscaled", {"obs__largest_rms": 800.0}, {}, {}),
    ("observations-unscaled", {"obs__largest_rms": 1e-5}, {}, {}),
    ("normalizer-stale", {"network__normalizer_rows": 128.0}, {"network.normalize_obs": True}, {}),
    (
        "replay-never-fills",
        {"memory__fill": 0.001, "loss__policy": None, "train__return": FLAT},
        {"memory.warmup": 1_000_000},
        {"updates": 0},
    ),
    ("replay-small", {**STUCK, "memory__fill": 1.0}, {"memory.capacity": 100}, {}),
    ("gradient-noisy", {**STUCK, "gradient__snr": 1.05}, {"algo.rollout": 2, "env.num_envs": 2}, {}),
    ("actions-at-bounds", {**STUCK, **BOX, "action__at_bounds": 0.95}, {"network.log_std_init": 3.0}, {}),
    ("one-action", {**STUCK, "action__most_taken": 1.0}, {}, {}),
    ("entropy-collapsed", {**STUCK, "policy__entropy": np.geomspace(0.69, 1e-4, N)}, {}, {}),
    ("entropy-collapsed", {**STUCK, **BOX, "policy__entropy": -5.0}, {"network.log_std_init": -6.0}, {}),
    ("entropy-never-falls", {**STUCK, "policy__entropy": 0.69}, {"algo.entropy_coef": 1.0}, {}),
    ("entropy-never-falls", {**STUCK, **BOX, "policy__entropy": np.linspace(1.4, 4.0, N)}, {}, {}),
    ("learning-rate-high", {**STUCK, "policy__kl": 0.4}, {"optimizer.lr": 0.3}, {}),
    ("learning-rate-high", {**STUCK, "policy__kl": np.where(np.arange(N) == 0, 3.0, 1e-5)}, {}, {}),
    ("learning-rate-high", {**STUCK, "policy__clip_fraction": 0.8}, {}, {}),
    ("kl-spikes", {**STUCK, "policy__kl": np.where(np.arange(N) == 12, 3.0, 0.01)}, {}, {}),
    ("learning-rate-low", {**STUCK, "policy__kl": 1e-9, "schedule__lr": 1e-8}, {"optimizer.lr": 1e-8}, {}),
    ("learning-rate-low", {**STUCK, **OFF_POLICY, "schedule__lr": 1e-8}, {"optimizer.lr": 1e-8}, {}),
    ("value-explodes", {**OFF_POLICY, "value__q": np.geomspace(1.0, 1e6, N)}, {"algo.tau": 1.0}, {}),
    ("diverged", STUCK, {}, {"status": "diverged"}),
    ("critic-never-fits", {**STUCK, "value__explained_variance": 0.01}, {"algo.value_coef": 0.5}, {}),
    ("critic-never-fits", {"value__explained_variance": 0.01}, {"algo.value_coef": 0.0}, {}),
    ("entropy-collapsed", {**BOX, "policy__entropy": -5.0}, {"network.log_std_init": -6.0}, {}),
    ("evaluation-unlike-training", {"eval__return": 21.0}, {}, {}),
    ("no-better-than-random", STUCK, {}, {}),
)


@pytest.mark.parametrize(
    ("rule", "changes", "config", "result"), CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)]
)
def test_a_rule_fires_on_its_fault(
    rule: str, changes: dict[str, Any], config: dict[str, Any], result: dict[str, Any]
) -> None:
    assert rule in names(changes, config, **result)


def test_every_rule_has_a_case_and_a_source() -> None:
    assert {rule.name for rule in RULES} == {case[0] for case in CASES}
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.source, rule.name
        assert rule.link.startswith("http"), rule.name


HEALTHY: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({}, {}),
    # rewards are all 1, and episodes of different lengths
    ({"reward__std": 0.0, "reward__mean": 1.0, "reward__largest": 1.0}, {}),
    # a solved task: no entropy, one length, actions at their bounds
    ({**BOX, "action__at_bounds": 1.0, "policy__entropy": np.linspace(1.4, -9.0, N)}, {}),
    # a critic that explains nothing yet, in a run that learns
    ({"value__explained_variance": 0.01}, {"algo.value_coef": 0.5}),
    # a time limit that is one, beside deaths
    (
        {
            "episode__terminated": 0.5,
            "episode__shortest_truncated": 200,
            "episode__longest_truncated": 200,
            "episode__longest_terminated": 199,
            "episode__terminated_at_longest": 0.5,
        },
        {},
    ),
    # steps of one length by nature
    ({"episode__longest_terminated": 1, "episode__terminated_at_longest": 1.0}, {}),
    # large rewards and observations that are normalised
    ({"reward__mean": 5000.0}, {"algo.normalize_reward": True}),
    ({"obs__largest_rms": 900.0}, {"network.normalize_obs": True}),
    ({"network__normalizer_rows": STEPS}, {"network.normalize_obs": True}),
    # a replay that fills, and values within what the rewards allow
    ({**OFF_POLICY, "memory__fill": np.linspace(0.0, 1.0, N), "value__q": np.linspace(0.0, 180.0, N)}, {}),
    # a learning rate that a schedule takes to 0
    ({"schedule__lr": np.linspace(3e-4, 0.0, N), "policy__kl": np.linspace(0.02, 0.0, N)}, {}),
    # evaluation better than training
    ({"eval__return": 2.0 * RISING}, {}),
)


@pytest.mark.parametrize(("changes", "config"), HEALTHY)
def test_healthy_curves_give_no_finding(changes: dict[str, Any], config: dict[str, Any]) -> None:
    assert names(changes, config) == set()


def test_curves_that_are_not_logged_are_no_finding() -> None:
    everything = curves()
    for tag in everything:
        less = {name: curve for name, curve in everything.items() if name != tag}
        assert diagnosis(Path("run"), Evidence(less, CONFIG, {"updates": 1})).findings == ()


def of(config: dict[str, Any], *words: str, **changes: Any) -> Evidence:
    """Return the evidence of a run that doesn't learn and was started by these words."""
    return Evidence(curves(**{**STUCK, **changes}), {**CONFIG, **config}, {"updates": 9}, words=words)


def test_a_finding_can_be_pasted() -> None:
    run = of({"optimizer.lr": 0.3}, "algo=ppo", "env=cartpole", "seed=1", policy__kl=0.4)
    finding = next(f for f in diagnosis(Path("run"), run).findings if f.command)
    assert finding.changes[0] == "optimizer.lr=0.0003"
    assert finding.command == "pgrun algo=ppo env=cartpole seed=1 optimizer.lr=0.0003"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("algo=ppo", "env=cartpole"), "leave optimizer.lr out: 0.001 is tuned for this pair"),
        (("algo=ppo", "env=cartpole", "tuned=none"), "leave optimizer.lr out: 0.0003 is its default"),
        (("algo=mine", "env=cartpole"), ""),  # who knows what that has
    ],
)
def test_what_was_typed_is_left_out_where_something_better_is_shipped(words: tuple[str, ...], said: str) -> None:
    run = of({"optimizer.lr": 0.1}, *words, "optimizer.lr=1e-1", policy__kl=0.4)
    finding = next(f for f in diagnosis(Path("run"), run).findings if f.command)
    assert finding.leave_out == said
    assert finding.command == " ".join(["pgrun", *words, *([] if said else ["optimizer.lr=0.0003"])])


def test_what_is_shipped_is_no_advice_where_it_leads_the_other_way() -> None:
    run = of({"optimizer.lr": 1e-4}, "algo=ppo", "env=cartpole", "optimizer.lr=1e-4", policy__kl=0.4)
    finding = next(f for f in diagnosis(Path("run"), run).findings if f.command)
    assert (finding.leave_out, finding.command) == ("", "pgrun algo=ppo env=cartpole optimizer.lr=1e-05")


def test_a_command_mends_what_the_findings_before_it_do() -> None:
    config = {"optimizer.lr": 0.1, "algo.entropy_coef": 0.0, "algo.value_coef": 0.0}
    words = ("algo=ppo", "env=cartpole", "optimizer.lr=1e-1")
    run = of(config, *words, policy__kl=0.4, policy__entropy=1e-4, value__explained_variance=0.0)
    findings = {f.rule: f for f in diagnosis(Path("run"), run).findings if f.command}
    assert findings["learning-rate-high"].others == ("optimizer.lr=0.0003",)
    assert findings["entropy-collapsed"].others == ()  # its second is a lower rate, too
    commands = {rule: finding.command for rule, finding in findings.items()}
    assert list(commands.items()) == [
        ("learning-rate-high", "pgrun algo=ppo env=cartpole"),
        ("entropy-collapsed", "pgrun algo=ppo env=cartpole algo.entropy_coef=0.01"),
        ("critic-never-fits", "pgrun algo=ppo env=cartpole algo.entropy_coef=0.01 algo.value_coef=0.5"),
    ]


def test_the_probe_is_named_with_the_run_s_folder() -> None:
    said = diagnosis(Path("some run"), of({}, "algo=ppo")).findings[-1].otherwise
    assert "pgrun doctor 'some run' --probe" in said


def noisy(*returns: float) -> dict[str, Any]:
    """A training return of a few points from which nothing can be told."""
    return {"train__return": np.resize(returns, N)}


SOLVED = {"eval_return_mean": -149.0, "eval_return_std": 90.0, "eval_episodes": 100}
WAVES = noisy(-1345.0, -1374.0, -458.0)


@pytest.mark.parametrize(
    ("changes", "result", "learns"),
    [
        ({**WAVES, "eval__return": np.linspace(-1114.0, -149.0, N)}, SOLVED, True),
        ({**WAVES, "eval__return": -1300.0}, {**SOLVED, "eval_return_mean": -1290.0}, False),
        ({**WAVES, "eval__return": -400.0}, {**SOLVED, "eval_return_mean": -390.0}, False),  # so it was from the start
        ({**WAVES, "eval__return": -1300.0}, {**SOLVED, "eval_return_mean": -600.0, "eval_return_std": 3000.0}, False),
        ({**noisy(20.0, 25.0, 22.0), "eval__return": None}, {**SOLVED, "eval_return_mean": 101.7}, True),
        ({**noisy(20.0, 25.0, 22.0), "eval__return": None}, {**SOLVED, "eval_return_mean": 30.0}, False),
        ({**WAVES, "eval__return": None}, {}, False),
    ],
)
def test_an_evaluation_tells_whether_a_run_learns(
    changes: dict[str, Any], result: dict[str, Any], learns: bool
) -> None:
    said = examine(changes, **result)
    assert ("no-better-than-random" not in {f.rule for f in said.findings}) is learns
    assert said.learning.startswith("it learns: eval/return" if learns else "train/return does not rise")


def test_a_run_that_diverged_before_its_first_point_has_a_cause() -> None:
    result = {"status": "diverged", "env_steps": 992}
    run = Evidence({}, CONFIG, result, words=("algo=ppo", "optimizer.lr=1e30"), cause="loss/policy is nan")
    (finding,) = diagnosis(Path("run"), run).findings
    assert finding.evidence == "it diverged at step 992 (loss/policy is nan), before its first point"
    assert finding.command == "pgrun algo=ppo optimizer.lr=3e-05"
    run = Evidence({}, CONFIG, result, words=("algo=ppo",), cause="a reward of copy 0 is nan", blames_env=True)
    (finding,) = diagnosis(Path("run"), run).findings
    assert (finding.command, finding.changes) == ("", ())


def test_only_keys_that_the_config_has_are_suggested() -> None:
    run = Evidence({}, {"algo.entropy_coef": 0.01})
    assert run.choose("algo.entropy_coef=0.1", "algo.kl_stop=1", "algo.entropy_coef=0.01") == ("algo.entropy_coef=0.1",)


def test_symptoms_come_last() -> None:
    findings = examine({**STUCK, "policy__kl": 0.4}, {"optimizer.lr": 0.3}).findings
    assert [f.symptom for f in findings] == sorted(f.symptom for f in findings)
    assert findings[-1].rule == "no-better-than-random"


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ({"train/return": 2}, "train/return has 2 points, which is too few to tell whether it learns"),
        ({"eval/return": 1}, "eval/return has 1 point, which is too few to tell whether it learns"),
        ({"policy/kl": 9}, "no episode has ended yet that would tell whether it learns"),
    ],
)
def test_too_few_points_are_said_to_be_few(points: dict[str, int], said: str) -> None:
    assert Evidence({tag: Curve(STEPS[:n], FLAT[:n]) for tag, n in points.items()}).lasting() == said
