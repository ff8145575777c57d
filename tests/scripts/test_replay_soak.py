"""The soak of the replay, in little: a figure for a leak is seen, and there is none."""

import sys

import pytest
import replay_soak as script


def soak(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["replay_soak.py", *arguments])
    return script


@pytest.mark.parametrize("extra", [(), ("--memory", "prioritized", "--n-step", "3"), ("--kind", "image")])
def test_memory_stays_flat(monkeypatch, capsys, extra):
    capacity = "500" if "image" in extra else "5000"
    script = soak(monkeypatch, "--minutes", "0.005", "--capacity", capacity, *extra)
    assert script.main() == 0
    assert "grown since by" in capsys.readouterr().out


def test_growth_is_seen(monkeypatch, capsys):
    script = soak(monkeypatch, "--minutes", "0.005", "--capacity", "5000")
    sizes = iter(range(0, 10**12, 10**8))
    monkeypatch.setattr(script, "resident", lambda: next(sizes))
    assert script.main() == 1
