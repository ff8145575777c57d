"""A slice of the wrong and right command lines and files that scripts/wrong_cases.py makes."""

import os
import sys
from pathlib import Path

import pytest
from recipes import sampled
from wrong_cases import Case, cases
from wrong_input import judge

from pgrun.shell.cli import main

SLICE = cases(0, lines=40, files=20, right=0)
RIGHT = cases(1, lines=0, files=0, right=30)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """`pgrun WORDS` in this process."""
    monkeypatch.setattr(sys, "argv", ["pgrun"])
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(words: list[str], folder: Path) -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        try:
            code = main(words)
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def ids(made: list[Case]) -> list[str]:
    return [f"{i} {case.kind}" for i, case in enumerate(made)]


@pytest.mark.parametrize("case", sampled(SLICE, 2), ids=ids(SLICE))
def test_wrong_input_is_one_line(case, in_process, tmp_path):
    outcome = judge(case, in_process, tmp_path, limit=60.0)
    assert outcome.fault == "", outcome


@pytest.mark.slow
@pytest.mark.parametrize("case", RIGHT, ids=ids(RIGHT))
def test_right_input_runs(case, in_process, tmp_path):
    outcome = judge(case, in_process, tmp_path, limit=60.0)
    assert outcome.fault == "", outcome


def test_the_judge_sees_faults(tmp_path):
    wrong = Case("range", ["algo.gamma=2"], "algo.gamma")
    line = "pgrun: algo.gamma=2 is out of range\n"
    made = {
        "": (2, "", line),
        "exit code 1": (1, "", line),
        "2 lines": (2, "", line * 2),
        "1 lines": (2, "", "Traceback\n"),
        "something on stdout": (2, "x", line),
        "does not name algo.gamma": (2, "", "pgrun: no\n"),
    }
    for fault, said in made.items():
        assert judge(wrong, lambda words, folder, said=said: said, tmp_path, limit=60.0).fault == fault

    def writes(words: list[str], folder: Path) -> tuple[int, str, str]:
        os.mkdir(folder / "runs")
        return 2, "", line

    assert judge(wrong, writes, tmp_path, limit=60.0).fault == "wrote runs"
