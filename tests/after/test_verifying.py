"""`pgrun verify` finds one flipped bit in each kind of file, and nothing wrong with a run that was killed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from shell import pgrun_inside

import pgrun
from pgrun.errors import UserError
from pgrun.run import manifest, provenance

RUN = [
    *("algo=reinforce", "env=cartpole", "num_envs=2", "total_steps=400", "network.hidden=[8]"),
    *("eval.every=200", "eval.episodes=1", "eval.final_episodes=1", "checkpoint.every=200", "threads=1"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify") / "run"
    pgrun.train(*RUN, quiet=True, **{"hydra.run.dir": str(folder)})
    (folder / "code.diff").write_bytes(b"")  # as if the code had had changes
    manifest.write_known(folder, provenance.DIFF, b"diff --git a/x b/x\n")
    return folder


def flipped(path: Path, where: float) -> None:
    """Flip one bit of a file, at a share of its length."""
    data = bytearray(path.read_bytes())
    data[int(where * (len(data) - 1))] ^= 1
    path.write_bytes(data)


def test_whole_run(run: Path, tmp_path: Path) -> None:
    found = pgrun.verify(run)
    assert found.problems == []
    assert found.files >= 10
    said = pgrun_inside("verify", str(run), cwd=tmp_path)
    assert (said.code, said.err) == (0, "")
    assert f"{found.files} files are as the run wrote them" in said.out


@pytest.mark.parametrize("where", [0.0, 0.3, 0.6, 1.0])
def test_one_bit_of_each_kind_of_file(run: Path, where: float, tmp_path: Path) -> None:
    kinds = [".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "result.json", "provenance.json"]
    kinds += ["run.json", "curves.npz", "code.diff", "manifest.json", "checkpoints/.written-by-pgrun"]
    for pattern in ("step_*.pt", "best_*.pt", "step_*.sha256", "best_*.sha256"):
        kinds += [f"checkpoints/{next((run / 'checkpoints').glob(pattern)).name}"]
    for name in kinds:
        path = run / name
        kept = path.read_bytes()
        flipped(path, where)
        problems = pgrun.verify(run).problems
        assert problems, name
        assert any(name.removesuffix(".sha256") in problem for problem in problems) or "written-by" in name
        path.write_bytes(kept)
    assert pgrun.verify(run).problems == []


def test_the_command_says_which(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy", symlinks=True)
    flipped(copy / "result.json", 0.5)
    (copy / ".hydra" / "overrides.yaml").unlink()
    said = pgrun_inside("verify", "copy", cwd=tmp_path)
    assert said.code == 1
    assert said.err.splitlines() == [
        "pgrun: copy: .hydra/overrides.yaml is missing",
        "pgrun: copy: result.json is not as it was written",
    ]


def test_wherever_a_write_is_cut_off_nothing_is_called_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between any two of the writes that replace a file."""
    real = manifest.replace
    for cut in range(4):
        folder = tmp_path / str(cut)
        (folder / "checkpoints").mkdir(parents=True)
        manifest.write_known(folder, "result.json", b"old")
        left = cut

        def replace(path: Path, data: bytes) -> None:
            nonlocal left
            if not left:
                raise KeyboardInterrupt
            left -= 1
            real(path, data)

        with monkeypatch.context() as patch:
            patch.setattr(manifest, "replace", replace)
            if cut < 3:
                with pytest.raises(KeyboardInterrupt):
                    manifest.write_known(folder, "result.json", b"new")
            else:
                manifest.write_known(folder, "result.json", b"new")
        known = manifest.read(folder)
        assert known is not None
        assert manifest.digest((folder / "result.json").read_bytes()) in known["result.json"]
        manifest.delete_known(folder, "result.json")
        assert manifest.ABSENT in (manifest.read(folder) or {})["result.json"]


def test_a_resumed_run_is_whole(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy", symlinks=True)
    pgrun.resume(copy, total_steps=600, quiet=True)
    assert pgrun.verify(copy).problems == []


def test_no_run_and_an_old_one(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run directory"):
        pgrun.verify(tmp_path)
    copy = shutil.copytree(run, tmp_path / "old", symlinks=True)
    (copy / "manifest.json").unlink()
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(UserError, match="an older version"):
        pgrun.verify(copy)


def test_a_finished_run_lacks_no_checkpoint(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy", symlinks=True)
    folder = copy / "checkpoints"
    latest = (folder / "latest.pt").resolve().name
    for path in folder.glob("*_*.pt"):
        path.unlink()
    said = pgrun_inside("verify", "copy", cwd=tmp_path)
    assert said.code == 1
    assert f"pgrun: copy: checkpoints/{latest} is missing" in said.err.splitlines()
    (folder / "latest.pt").unlink()
    assert "checkpoints/latest.pt is missing" in pgrun.verify(copy).problems
    shutil.rmtree(folder)
    assert pgrun.verify(copy).problems == [
        "checkpoints/.written-by-pgrun is missing",
        "checkpoints/latest.pt is missing",
    ]
    (copy / "curves.npz").unlink()
    assert "curves.npz is missing" in pgrun.verify(copy).problems


def test_what_the_run_deleted_itself_is_not_missing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    more = ("checkpoint.every=100", "checkpoint.keep=1", "eval.every=100")
    pgrun.train(*RUN, *more, quiet=True, **{"hydra.run.dir": str(folder)})
    assert len(list((folder / "checkpoints").glob("step_*.pt"))) == 1
    assert pgrun.verify(folder).problems == []
    manifest.delete_known(folder, "result.json")  # as one that was resumed and killed
    (folder / "checkpoints" / "latest.pt").unlink()
    assert pgrun.verify(folder).problems == []
