"""Errors of Hydra's are one line that says what would be right."""

import contextlib
from pathlib import Path

import pytest

import pgrun
from pgrun.errors import UserError


def refusal(*words, **given):
    with pytest.raises(UserError) as refused:
        pgrun.compose(*words, **given)
    return str(refused.value)


def test_a_file_that_lies_in_a_folder_here(tmp_path):
    with contextlib.chdir(tmp_path):
        for name in ("mine/algo/my_idea", "mine/algo/advantage/my_psi", "other/env/my_env"):
            Path(f"{name}.yaml").parent.mkdir(parents=True, exist_ok=True)
            Path(f"{name}.yaml").write_text("gamma: 1\n")
        said = "algo=my_idea is not known, but mine/algo/my_idea.yaml is here: add --config-dir mine"
        assert refusal("algo=my_idea") == said
        assert refusal("algo/advantage=my_psi").endswith(
            "mine/algo/advantage/my_psi.yaml is here: add --config-dir mine"
        )
        assert refusal("env=my_env").endswith("but other/env/my_env.yaml is here: add --config-dir other")
        assert refusal("algo=my_ide").startswith("algo=my_ide is not known; algo is one of a2c")
        assert refusal("env=my_env", config_dir="mine").startswith("env=my_env is not known; ")
