"""Demonstrations from a CSV file: what is read, and every fault with its line."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from shell import pgrun_inside

from pgrun.envs.episode_file import load
from pgrun.envs.gymnasium import action_codec, observation_codec
from pgrun.errors import UserError

spaces = gym.spaces
OBS = spaces.Box(-np.inf, np.inf, (2,), np.float32)
BOX = spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32), (2,), np.float32)
HEAD = "episode,obs_0,obs_1,action_0,action_1,reward,terminated,truncated"
GOOD = f"""{HEAD}
a,0.5,1,-2,0,1.5,0,0
a,0.25,2,2,10,2.5,1,0

7,1,1,0,5,0,0,0
7,2,2,1,2.5,1,0,true
7,3,3,,,,,
"""


def read(tmp_path, text, obs=OBS, taken=BOX):
    path = tmp_path / "demos.csv"
    path.write_text(text, encoding="utf-8")
    return load(str(path), observation_codec(obs)[0], action_codec(taken)[0], taken)


def test_rows_become_episodes_in_a_policy_s_units(tmp_path):
    data = read(tmp_path, GOOD)
    assert data.obs.tolist() == [[[0.5, 1], [1, 1]], [[0.25, 2], [2, 2]]]
    assert data.action.tolist() == [[[-1, -1], [0, 0]], [[1, 1], [0.5, -0.5]]]
    assert data.reward.tolist() == [[1.5, 0], [2.5, 1]]
    assert data.discount.tolist() == [[1, 1], [0, 1]]
    assert data.last.tolist() == [[False, False], [True, True]]
    assert data.valid.all()
    assert data.next_obs[0].tolist() == [[0.25, 2], [2, 2]]
    assert data.next_obs[1, 1].tolist() == [3, 3]
    taken = action_codec(BOX)[1](data.action[1])
    assert np.allclose(taken, [[2, 10], [1, 2.5]])


def test_choices_dicts_densities_and_one_column_of_ends(tmp_path):
    obs = spaces.Dict({"gear": spaces.Discrete(3), "x": spaces.Box(-9, 9, (1,), np.float32)})
    text = "obs_gear, obs_x_0,action,log_prob,reward,episode,terminated,note\n2,0.5,6,-0.1,1,0,1,well\n"
    text += "0,1,5,-2,1,1,TRUE,\n"
    data = read(tmp_path, text, obs, spaces.Discrete(3, start=5))
    assert data.obs["gear"].tolist() == [[2, 0]]
    assert data.obs["x"].tolist() == [[[0.5], [1.0]]]
    assert data.action.dtype == torch.int64
    assert data.action.tolist() == [[1, 0]]
    assert torch.allclose(data.extras["log_prob"], torch.tensor([[-0.1, -2.0]]))
    many = spaces.MultiDiscrete([2, 3])
    data = read(tmp_path, "episode,obs,action_0,action_1,reward,terminated\n0,1,1,2,0,1\n", spaces.Discrete(2), many)
    assert data.action.tolist() == [[[1, 2]]]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("obs_1,", "", "line 1: there is no column obs_1: here it needs episode, obs_0, obs_1, action_0, action_1, re"),
        (",terminated,truncated", ",end,cut", "line 1: there is no column terminated or truncated: here it needs"),
        ("reward,", "obs_2,", "line 1: there is no column reward"),
        ("episode,", "episode,reward,", "line 1: there are several columns reward"),
        ("episode,", "episode,obs_2,", "line 1: the column obs_2 is none of this environment's"),
        ("a,0.5", "a,b,0.5", "line 2: there are 9 values, and 8 columns"),
        ("a,0.5", "a,half", "line 2: obs_0 should be a number, not 'half'"),
        ("a,0.5", "a,nan", "line 2: obs_0 is nan, which is not finite"),
        ("2.5,1,0", "2.5,yes,0", "line 3: terminated should be 0 or 1, not 'yes'"),
        ("2.5,1,0", "2.5,0,0", "line 3: episode a ends here, and its last row says neither terminated nor truncated"),
        ("1.5,0,0", "1.5,1,0", "line 3: episode a goes on after its end in line 2"),
        ("7,3,3,,,,,\n", "", "line 6: episode 7 is cut here: a row with obs alone should say what was seen then"),
        (
            "7,3,3,,,,,\n",
            "7,3,3,,,,,\n7,1,1,0,5,0,1,0\n",
            "line 8: episode 7 goes on after line 7, which has",
        ),
        ("7,3,3,,,,,\n", "7,3,3,,,,,\na,1,1,0,5,0,1,0\n", "line 8: episode a goes on, but another one began in"),
        ("7,1,1,0,5,0", ",1,1,0,5,0", "line 5: it says no episode"),
        ("7,1,1,0,5,0", "7,1,1,,,0", "line 5: episode 7 begins with a row without action_0"),
        ("7,1,1,0,5,0", "7,1,1,2.5,5,0", "line 5: action_0 is 2.5, and should be from -2 to 2"),
        ("7,1,1,0,5,0", "7,1,1,0,,0", "line 5: action_1 should be a number, not ''"),
        ("7,1,1,0,5,0", "7,1,1,0,5,", "line 5: reward should be a number, not ''"),
        ("a,0.5", '"a,0.5', "is no CSV file: unexpected end of data"),
        (GOOD, HEAD, "holds no steps: a row for each comes below its first line"),
        (GOOD, "", "line 1: there is no column episode"),
        (GOOD, GOOD.replace(",", ";"), "line 1: there is no column episode: here it needs"),
    ],
)
def test_a_fault_is_one_line_with_its_place(tmp_path, old, new, why):
    assert old in GOOD
    with pytest.raises(UserError) as caught:
        read(tmp_path, GOOD.replace(old, new, 1))
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}/demos.csv")
    assert why in text
    assert "\n" not in text


def test_choices_that_there_are_not(tmp_path):
    head = "episode,obs,action,reward,terminated\n"
    for row, why in (
        ("0,3,1,0,1", "obs should be one of 0 … 2"),
        ("0,1,1.5,0,1", "action is 1.5, and should be a whole"),
    ):
        with pytest.raises(UserError, match=f"line 2: {why}"):
            read(tmp_path, f"{head}{row}\n", spaces.Discrete(3), spaces.Discrete(2))
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00episode")
    with pytest.raises(UserError, match="is no text in UTF-8"):
        load(str(tmp_path / "bytes.csv"), OBS, BOX)
    with pytest.raises(UserError, match=r"there is no file of demonstrations .*none\.csv"):
        load(str(tmp_path / "none.csv"), OBS, BOX)


@pytest.mark.slow
def test_the_shell_clones_what_a_table_shows(tmp_path):
    rows = ["episode,obs_0,obs_1,obs_2,action,reward,terminated"]
    rows += [f"{i},1,0,{i % 5 - 2},{-1.5 if i % 5 < 2 else 1.5},0,1" for i in range(40)]
    (tmp_path / "demos.csv").write_text("\n".join(rows).replace("action", "action_0"))
    line = ("algo=behaviour_cloning", "env=pendulum", "demonstrations=demos.csv", "total_steps=400")
    short = ("eval.every=null", "eval.final_episodes=0", "hydra.run.dir=run")
    ran = pgrun_inside(*line, *short, cwd=tmp_path)
    assert ran.code == 0, ran.err
    (tmp_path / "demos.csv").write_text("\n".join(rows))
    refused = pgrun_inside(*line, *short[:-1], "hydra.run.dir=again", cwd=tmp_path)
    assert refused.code == 2
    assert f"{tmp_path}/demos.csv, line 1: there is no column action_0" in refused.line
    assert not (tmp_path / "again").exists()
