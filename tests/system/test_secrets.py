"""Settings that look like secrets are not kept; others are left as they are."""

from __future__ import annotations

import pytest

from pgrun.system.repository import without_private_files
from pgrun.system.secrets import masked, masked_values


@pytest.mark.parametrize(
    "text",
    [
        "password = SECRET1",
        "DB_PASSWORD='SECRET1 two'",
        '+  "api_key": "SECRET1",',
        "WANDB_API_KEY=SECRET1",
        "--token SECRET1",
        "pgrun +log.token=SECRET1",
        "https://user:SECRET1@host/path",
        "x = 'sk-SECRET1aaaaaaaaaaaaaaaaaaaaa'",
        "ghp_SECRET1aaaaaaaaaaaaaaaaaaaaa",
        "-----BEGIN RSA PRIVATE KEY-----\nSECRET1\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_masked(text):
    assert "SECRET1" not in masked(text)
    assert "***" in masked(text)


@pytest.mark.parametrize(
    "text",
    ["algo=ppo env=cartpole seed=1", "the token embeddings are long", "x = monkey(1)", "https://host/path", "keys: 3"],
)
def test_left_alone(text):
    assert masked(text) == text


def test_values_by_their_keys():
    content = {"log": {"api_key": "SECRET1", "every": 3, "list": ["a", "password=SECRET1"]}, "token": None, "n": 1.5}
    assert masked_values(content) == {
        "log": {"api_key": "***", "every": 3, "list": ["a", "password=***"]},
        "token": None,
        "n": 1.5,
    }


def test_private_files_in_a_diff():
    diff = (
        "diff --git a/.env b/.env\n+A=SECRET1\ndiff --git a/x.py b/x.py\n+y = 1\ndiff --git a/k.pem b/k.pem\n+SECRET1\n"
    )
    kept = without_private_files(diff)
    assert "SECRET1" not in kept
    assert "+y = 1" in kept
