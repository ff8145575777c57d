"""joblib's launcher, by itself."""

from __future__ import annotations

import time

import pytest

from pgrun.sweep.launchers.joblib import JoblibLauncher


def test_ctrl_c_while_workers_are_started(monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = JoblibLauncher(n_jobs=2)

    def interrupted(self: JoblibLauncher) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(JoblibLauncher, "start", interrupted)
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        launcher.open(2)
    launcher.stop()
    launcher.close()
    assert time.monotonic() - begin < 2.0
