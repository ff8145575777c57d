"""Prints can be read on any terminal, and JSON stands alone on stdout."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import printing
import pytest
from running import new_run
from shell import pgrun

from pgrun.shell.cli import main
from pgrun.shell.terminal import spell_what_is_lacking, spelt, stdout_alone

SMALL = (
    *("env=gym", "env.id=printing:Prints-v0", "num_envs=1", "algo.rollout=4", "algo.minibatch=4"),
    *("network.hidden=[4]", "total_steps=8", "eval.every=null", "eval.final_episodes=0"),
)


def test_json_stands_alone_on_stdout(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(printing, "HERE", sys.stderr)  # where pytest has stdout, it is not its descriptor
    new_run(tmp_path, *SMALL).execute()
    capfd.readouterr()
    assert main(["eval", str(tmp_path), "--episodes", "2", "--json"]) == 0
    print("after")
    said = capfd.readouterr()
    line, after, rest = said.out.split("\n")
    assert json.loads(line)["eval_return_mean"] == 5.0
    assert (after, rest) == ("after", "")
    for word in ("of Python's", "by a descriptor", "of C's", "of a process"):
        assert f"a word {word}" in said.err


@pytest.mark.slow
def test_json_stands_alone_though_something_is_printed_as_the_process_ends(tmp_path: Path) -> None:
    new_run(tmp_path / "run", *SMALL).execute()
    parting = "import atexit, printing\natexit.register(print, 'a parting word')\nimport gymnasium\n"
    parting += "gymnasium.register('Parting-v0', entry_point=printing.Prints)\n"
    (tmp_path / "parting.py").write_text(parting)
    words = ("run", "--episodes", "2", "--json", "eval.env.id=parting:Parting-v0")
    said = pgrun("eval", *words, cwd=tmp_path, PYTHONPATH=str(Path(__file__).parents[1] / "support"))
    assert said.code == 0, said.err
    assert len(json.loads(said.out)) > 5
    for word in ("a parting word", "a word by another name", "a word of C's"):
        assert word in said.err


def test_a_closed_descriptor_is_no_harm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def dup(descriptor: int) -> int:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(os, "dup", dup)
    with stdout_alone():
        print("a word")
    assert capsys.readouterr() == ("", "a word\n")


@pytest.mark.parametrize(
    ("text", "plain"),
    [("21.6 ± 3.9", "21.6 +/- 3.9"), ("σ² – θ", "sigma2 - theta"), ("Σ_t …", "sum_t ..."), ("Φ(é) → x", "Phi(e) -> x")],
)
def test_what_a_terminal_lacks_is_spelt(text: str, plain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "".join(c if c.isascii() else spelt(c) for c in text) == plain
    for name in ("stdout", "stderr"):
        written = io.BytesIO()
        monkeypatch.setattr(sys, name, io.TextIOWrapper(written, "ascii", errors="strict", write_through=True))
        spell_what_is_lacking()
        print(text, end="", file=getattr(sys, name))
        assert written.getvalue().decode() == plain


def test_what_a_terminal_has_stays() -> None:
    written = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="pgrun.spelt", write_through=True)
    print("21.6 ± 3.9, σ, a name that is no text: \udce9", end="", file=written)
    assert written.buffer.getvalue() == "21.6 ± 3.9, σ, a name that is no text: ".encode() + b"\xe9"  # type: ignore[attr-defined]


@pytest.mark.slow
def test_an_ascii_terminal_sees_a_whole_run(tmp_path: Path) -> None:
    short = ("total_steps=64", "eval.every=null", "eval.final_episodes=1", "num_envs=2", "algo.rollout=32")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    said = pgrun(*short, "algo.minibatch=64", "hydra.run.dir=run", cwd=tmp_path, **plain)
    assert said.code == 0, said.err
    assert said.out.isascii()
    assert " +/- 0.0 over 1 episodes" in said.out
