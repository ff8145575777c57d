"""Wrong words of a subcommand get one line that says what would be right."""

import pytest
from shell import pgrun_inside

EVAL = "(pgrun eval --help)"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["eval", "RUN", "--epsiodes", "5"], f"pgrun eval has no --epsiodes; did you mean --episodes? {EVAL}"),
        (["eval", "RUN", "--epsiodes=5"], f"pgrun eval has no --epsiodes; did you mean --episodes? {EVAL}"),
        (["eval", "RUN", "--episodes", "0"], f"--episodes: 0 is not at least 1 {EVAL}"),
        (["eval", "RUN", "--episodes", "many"], f"--episodes many is no whole number {EVAL}"),
        (["reproduce", "RUN", "--until", "1.5"], "--until 1.5 is no whole number (pgrun reproduce --help)"),
        (
            ["play", "RUN", "--pick", "beste"],
            "--pick beste is not known; choose one of best, median, worst (pgrun play --help)",
        ),
        (["resume"], "pgrun resume needs RUN (pgrun resume --help)"),
        (["compare", "a"], "pgrun compare needs B (pgrun compare --help)"),
        (["list", "algos", "envs"], "pgrun list has no use for envs (pgrun list --help)"),
        (["evla", "RUN"], "there is no command evla; did you mean eval? To train: pgrun algo=NAME env=NAME"),
    ],
)
def test_a_wrong_word_is_one_line(words, says, tmp_path):
    said = pgrun_inside(*words, cwd=tmp_path)
    assert said.code == 2
    assert said.line == f"pgrun: {says}"
    assert not list(tmp_path.iterdir())


def test_help_is_argparse_s_own(tmp_path):
    said = pgrun_inside("eval", "--help", cwd=tmp_path)
    assert said.code == 0
    assert said.out.startswith("usage: pgrun eval")
