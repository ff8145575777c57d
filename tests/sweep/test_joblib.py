"""joblib's launcher, by itself."""

from __future__ import annotations

import threading

import pytest

from pgrun.sweep.launchers import joblib
from pgrun.sweep.launchers.joblib import JoblibLauncher


def test_ctrl_c_while_workers_are_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """No job runs yet, so there is none to wait for."""
    monkeypatch.setattr(joblib, "GRACE", 1e6)
    launcher = JoblibLauncher(n_jobs=2)

    def interrupted(self: JoblibLauncher) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(JoblibLauncher, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        launcher.open(2)
    stopping = threading.Thread(target=launcher.stop, daemon=True)
    stopping.start()
    stopping.join(60.0)
    assert not stopping.is_alive()
    launcher.close()
