"""The figure of what many modes are good for: whose policies it starts from, what it counts, and its picture."""

import csv
import sys
from collections import Counter

import arms
import pytest
import soft_q_transfer as transfer
from pictures import picture
from recipes import sampled
from running import compose

ALL = [arm for stage in transfer.STAGES for arm in stage]


@pytest.mark.parametrize("arm", sampled(ALL, 4))
def test_its_commands_compose_and_begin_with_runs_of_the_stage_before(arm, tmp_path):
    config = compose(*arm.with_seed(1001))
    here = arm.place(tmp_path, 1001).parent  # where its command is run
    before = [other.place(tmp_path, 1001) for other in transfer.STAGES[0]]
    named = [config.algo.get("init_from"), *config.algo.get("compose", [])]
    begun = [(here / run).resolve() for run in named if run]
    assert all(run in before for run in begun)
    assert len(begun) == (2 if arm is transfer.COMPOSED else int("from all four" in arm.name))


def test_the_table_and_the_figure(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(arms, "train", lambda place, command: asked.append(place) or "trained")
    monkeypatch.setattr(arms, "scalars", lambda place, tag, seconds: ([200, 400], [-100.0, -50.0]))
    monkeypatch.setattr(arms, "result", lambda place: {"eval_return_mean": -40.0})

    def shares(place, goals, explore):
        """Half of the episodes end at the first goal that there is, a quarter at the second, the others nowhere."""
        return Counter({goals[0]: 0.5, goals[1]: 0.25, "none": 0.25})

    monkeypatch.setattr(transfer, "shares", shares)
    monkeypatch.setattr(transfer, "changed_gravity", gravity)
    monkeypatch.setattr(sys, "argv", ["soft_q_transfer.py", "--runs", str(tmp_path), "--out", str(tmp_path)])
    axes = picture(tmp_path / "soft_q_transfer.png", transfer.main).axes
    assert len({*asked}) == len(asked) == 5 * len(ALL)
    table = list(csv.DictReader((tmp_path / "soft_q_transfer.csv").open()))
    figures = {(line["study"], line["arm"], line["what"]): float(line["iqm"]) for line in table}
    name = "soft Q-learning from scratch"
    assert figures["fine-tuning", name, "mean return while learning"] == -75.0
    assert figures["fine-tuning", name, "return at the end"] == -40.0
    assert figures["composing", "their mean", "share that ends in the north"] == 0.5
    assert figures["a goal gone", "DDPG", "share that reaches one of the other three"] == 0.75
    assert [len(ax.patches) for ax in axes[1:3]] == [3, 4]


def gravity(folder):
    return [
        transfer.row("gravity", arm, f"return at g = {g:g}", [-100.0 * g] * 5)
        for arm in transfer.PENDULUM.values()
        for g in transfer.GRAVITY
    ]
