"""Films of a policy."""

from __future__ import annotations

import imageio
import numpy as np
import pytest
from hooked import CORRIDOR, SMALL
from resumable import finish
from running import compose, new_run, same

from pgrun.errors import UserError
from pgrun.run import checkpoint
from pgrun.run.build import build

FILMED = (*CORRIDOR, "total_steps=320", "+hook=video", "hooks.video.every=2", "hooks.video.fps=10")


def test_every_second_evaluation_is_filmed_from_its_first_state_to_its_last(tmp_path):
    new_run(tmp_path, *FILMED).execute()
    films = sorted((tmp_path / "videos").iterdir())
    assert [path.name for path in films] == ["step_128.mp4"]  # of the evaluations at 128 and 256
    with imageio.get_reader(films[0]) as reader:
        frames, about = list(reader.iter_data()), reader.get_meta_data()
    assert (about["fps"], frames[0].shape) == (10.0, (34, 42, 3))  # 33 × 41 made even
    levels = [float(np.mean(frame)) for frame in frames]
    assert levels == pytest.approx([0, 20, 40, 60, 80], abs=4)  # one at the reset, one after each of four steps


@pytest.mark.slow
def test_what_can_not_draw_itself_is_refused():
    for line, words in {
        (
            "env=lqr",
        ): "the environment can't draw itself (render_mode=rgb_array): pgrun.envs.TensorEnv takes no env.kwargs",
        (
            "env=gym",
            "env.id=breaking:Breaks-v0",
        ): "the environment can't draw itself (render_mode=rgb_array): env.kwargs: ",
        ("env=cartpole", "eval.every=null"): "it films after evaluations, and eval.every=null makes none",
    }.items():
        with pytest.raises(UserError) as caught:
            build(compose(*SMALL, *line, "+hook=video"))
        assert str(caught.value).startswith(f"hooks.video: {words}")


@pytest.mark.slow
@pytest.mark.parametrize("env", ["cartpole", "pendulum", "simple_spread", "halfcheetah"])
def test_shipped_environments_draw_themselves(env, tmp_path):
    own = ("algo=ppo", "network.hidden=[8]", "num_envs=2", "algo.rollout=16", "algo.minibatch=16", "total_steps=64")
    short = ("eval.every=32", "eval.episodes=1", "eval.max_steps=5", "eval.final_episodes=0", "hooks.video.max_steps=5")
    run = new_run(tmp_path, *own, f"env={env}", *short, "+hook=video")
    run.execute()
    films = sorted((tmp_path / "videos").iterdir())
    assert films
    with imageio.get_reader(films[0]) as reader:
        frames = list(reader.iter_data())
    assert len(frames) >= 5
    assert float(np.std(frames[0])) > 1.0  # something is to be seen


@pytest.mark.slow
def test_a_resumed_run_films_the_same_evaluations(tmp_path):
    overrides = (*FILMED, "total_steps=640")
    whole = new_run(tmp_path / "whole", *overrides)
    want = finish(whole)
    again = new_run(tmp_path / "again", *overrides, resume=checkpoint.load(whole.checkpoints / "step_256.pt"))
    got = finish(again)
    without = finish(new_run(tmp_path / "without", *CORRIDOR, "total_steps=640"))
    assert not [key for key in without if not same(without[key], want[key])]
    assert not [key for key in want if not same(want[key], got[key])]
    names = [{path.name for path in (tmp_path / run / "videos").iterdir()} for run in ("whole", "again")]
    assert names == [{"step_128.mp4", "step_384.mp4", "step_640.mp4"}, {"step_384.mp4", "step_640.mp4"}]
