"""Hooks of a config: made from their nodes, and refused in one line where they can't be."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf
from own_hooks import Noisy
from running import compose, new_run
from shell import pgrun_inside

from pgrun.config.values import validate
from pgrun.errors import UserError
from pgrun.hooks.info import Info
from pgrun.run.config_hooks import check_hooks, make_hooks, reads_of, stop_holds

REFUSED = {
    "Misnamed": "hooks.own: own_hooks.Misnamed has a method on_update, which is no moment; did you mean update?",
    "Fewer": "hooks.own: own_hooks.Fewer: update is called as update(self, view), and can't be (too many positional",
    "Empty": "hooks.own: own_hooks.Empty has none of the moments, so nothing would call it: the moments are start, ",
    "NoHook": "hooks.own: own_hooks.NoHook is no subclass of RunHook, which is in pgrun.loop.moments",
    "Breaks": "hooks.own: own_hooks.Breaks can't be made (ValueError: there is no key)",
    "Refuses": "hooks.own failed at check: KeyError: 'seed'",
    "Keeps": "hooks.own (own_hooks.Keeps) failed at state_dict: its state.file is a builtin_function_or_method",
    "Nowhere": "hooks.own: own_hooks.Nowhere can't be had (",
    "Changes": "hooks.own: own_hooks.Changes needs at, what: give it as hooks.own.at=…",
}


def made(**nodes):
    config = OmegaConf.create({"hooks": nodes})
    hooks = make_hooks(config)
    check_hooks(hooks, config, None, 1, None)
    return hooks


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_hook_is_refused(name):
    with pytest.raises(UserError) as caught:
        made(own={"_target_": f"own_hooks.{name}"})
    assert str(caught.value).startswith(REFUSED[name])
    assert "\n" not in str(caught.value)


def test_a_name_without_a_value_has_none():
    hooks = made(own={"_target_": "own_hooks.Noisy", "unit": 3}, other=None)
    assert list(hooks) == ["own"]
    assert isinstance(hooks["own"], Noisy)
    assert hooks["own"].unit == 3


def test_a_key_of_info_is_read_in_one_way():
    one, other = Info(keys=["x", "y"], over="last"), Info(keys=["y"], over="mean")
    assert reads_of({"one": one}) == {"x": "last", "y": "last"}
    with pytest.raises(UserError, match=r"hooks.b reads info\['y'\] by its mean, and another hook by its last"):
        reads_of({"a": one, "b": other})


@pytest.mark.parametrize(("at", "stopped"), [(2, True), (4, False)])
def test_a_run_that_is_at_its_end_is_not_stopped_by_a_hook(tmp_path, at, stopped):
    words = ("algo=a2c", "env=cartpole", "num_envs=2", "total_steps=56", "algo.rollout=8")
    own = ("+hooks.own._target_=own_hooks.Changes", f"+hooks.own.at={at}", "+hooks.own.what=stop")
    result = new_run(tmp_path / "run", *words, *own, "eval.final_episodes=0").execute()
    assert (result["updates"], result["env_steps"] < 56) == (at, stopped)
    assert result.get("stopped") == ({"by": "own", "why": "it has had enough"} if stopped else None)


def test_a_stop_holds_while_the_hook_s_settings_are_the_same():
    config = OmegaConf.create({"hooks": {"a": {"n": 1}, "b": {"n": 1}}})
    state = {"hooks": {"stopped": {"by": "a", "why": ""}}, "config": {"hooks": {"a": {"n": 1}, "b": {"n": 2}}}}
    assert stop_holds(state, config)
    config.hooks.a.n = 2
    assert not stop_holds(state, config)
    assert not stop_holds({"hooks": {"stopped": None}, "config": {}}, config)


WRONG = {
    ("hooks.own._target_=own_hooks.Noisy", "hooks.own.unti=3"): "there is no key hooks.own.unti: own_hooks.Noisy takes",
    ("hooks.own._target_=own_hooks.Nothing",): "hooks.own._target_=own_hooks.Nothing can't be had (",
    ("hooks.own.key=3",): "hooks.own has no _target_, which says what it makes; name a class by hooks.own._target_=",
    ("hooks.own=3",): "hooks.own=3 should be a part with keys of its own; name a class by hooks.own._target_=",
    ("+hook=budget", "hooks.budget.minutes=0"): "hooks.budget.minutes=0 is out of range: it must be above 0, or null",
    ("+hook=budget", "hooks.budget.minuts=1"): "there is no key hooks.budget.minuts: Budget takes no 'minuts'; did you",
}


@pytest.mark.parametrize("given", [pytest.param(key, marks=pytest.mark.slow) for key in WRONG], ids=lambda key: key[-1])
def test_a_wrong_setting_is_told_before_anything_is_made(given):
    with pytest.raises(UserError) as caught:
        validate(compose(*(word if word[0] == "+" else f"++{word}" for word in given)))
    assert str(caught.value).startswith(WRONG[given])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("hooks.own._target_=own_hooks.Misnamed", "which is no moment; did you mean update?"),
        pytest.param("hook=budget", "it is added: write +hook=NAME", marks=pytest.mark.slow),
        pytest.param(
            "+hook=budgt",
            "hook=budgt is not known; did you mean budget? hook is one of ",
            marks=pytest.mark.slow,
        ),
        pytest.param("+hook=budget", "hooks.budget: it needs a number of seconds or minutes", marks=pytest.mark.slow),
    ],
)
def test_a_refused_hook_leaves_nothing(line, words, tmp_path):
    said = pgrun_inside("algo=ppo", "env=cartpole", line, cwd=tmp_path)
    assert (said.code, words in said.line) == (2, True), said.err
    assert not list(tmp_path.iterdir())
