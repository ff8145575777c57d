"""One seed makes every generator, and evaluation takes none of training's numbers."""

import random

import numpy as np
import odd  # noqa: F401 (registers environments)
import torch
from running import new_run, parts, same

from pgrun.after.evaluation import evaluate_checkpoint
from pgrun.loop.evaluate import evaluate
from pgrun.run import checkpoint
from pgrun.system import randomness

WORDS = ("env=gym", "env.id=Global-v0", "num_envs=2", "algo.rollout=10", "algo.minibatch=20", "network.hidden=[8]")


def draws():
    return float(torch.rand(())), float(np.random.rand()), random.random()


def test_generators_go_on_after_a_block_of_its_own():
    randomness.seed_generators(7)
    on = [draws() for _ in range(2)]
    randomness.seed_generators(7)
    again = [draws()]
    with randomness.own_randomness(5):
        inner = draws()
    again.append(draws())
    assert again == on
    with randomness.own_randomness(5):
        assert draws() == inner


def test_evaluations_of_an_environment_with_global_draws_repeat():
    made = parts(*WORDS)
    figures = []
    for waste in range(3):
        [draws() for _ in range(waste)]
        env = made.make_eval_env(6)
        figures.append(evaluate(made.algorithm, env, 6, seed=5).returns)
        env.close()
    assert figures[0] == figures[1] == figures[2]
    assert len(set(figures[0])) == 6


def test_pgrun_eval_of_an_environment_with_global_draws_repeats(tmp_path):
    run = new_run(tmp_path, *WORDS, "total_steps=20", "eval.every=null", "eval.final_episodes=6")
    result = run.execute()
    (tmp_path / ".hydra").mkdir()
    from omegaconf import OmegaConf

    OmegaConf.save(run.config, tmp_path / ".hydra" / "config.yaml")
    (tmp_path / ".hydra" / "hydra.yaml").write_text("hydra: {runtime: {choices: {algo: ppo, env: gym}}}\n")

    def figure(seed):
        draws()
        found = evaluate_checkpoint(tmp_path, "latest", episodes=6, seed=seed, stochastic=False)
        return found["eval_return_mean"]

    assert figure(5) == figure(5)
    assert figure(5) != figure(6)
    assert figure(None) == result["eval_return_mean"]  # the run's own


def test_evaluation_changes_nothing_that_training_draws(tmp_path):
    often = new_run(tmp_path / "a", *WORDS, "total_steps=120", "eval.every=40", "eval.episodes=3")
    often.execute()
    never = new_run(tmp_path / "b", *WORDS, "total_steps=120", "eval.every=null")
    never.execute()
    assert same(often.parts.algorithm.snapshot(), never.parts.algorithm.snapshot())
    assert same(
        *(checkpoint.load(tmp_path / x / "checkpoints" / "latest.pt")["collector"]["stats"] for x in ("a", "b"))
    )


def test_a_run_of_an_environment_with_global_draws_resumes_exactly(tmp_path):
    for backend in ("sync", "async"):
        words = (*WORDS, f"env.backend={backend}", "eval.every=60", "eval.episodes=2", "checkpoint.every=60")
        words = (*words, "checkpoint.keep=9")
        whole = new_run(tmp_path / backend, *words, "total_steps=120")
        whole.execute()
        half = checkpoint.load(tmp_path / backend / "checkpoints" / "step_60.pt")
        draws()
        resumed = new_run(tmp_path / f"{backend}_2", *words, "total_steps=120", resume=half)
        resumed.execute()
        ends = [checkpoint.load(tmp_path / x / "checkpoints" / "latest.pt") for x in (backend, f"{backend}_2")]
        for part in ("algorithm", "collector", "generators"):
            assert same(ends[0][part], ends[1][part]), (backend, part)
