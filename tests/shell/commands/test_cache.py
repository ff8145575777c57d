"""`pgrun cache`: what is kept of compiled code, and clearing it."""

from shell import pgrun_inside

from pgrun.system.artifacts import Artifacts, libraries_folder


def test_it_tells_and_clears(monkeypatch, tmp_path):
    monkeypatch.setenv("PGRUN_CACHE", str(tmp_path))
    assert pgrun_inside("cache", cwd=tmp_path).out.startswith("kept     0 compiled functions, 0.0 MB")
    path = Artifacts(libraries_folder(), ".so").get("key", lambda path: path.write_bytes(b"x" * 2_000_000))
    said = pgrun_inside("cache", cwd=tmp_path).out
    assert said.startswith("kept     1 compiled functions, 2.0 MB of at most 1,000")
    assert str(path.parent) in said
    assert pgrun_inside("cache", "--clear", cwd=tmp_path).out.startswith("deleted  1 compiled functions")
    assert not path.exists()


def test_a_folder_that_others_may_write_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PGRUN_CACHE", str(tmp_path))
    (tmp_path / "compiled").mkdir(mode=0o700)
    (tmp_path / "compiled").chmod(0o777)
    said = pgrun_inside("cache", cwd=tmp_path)
    assert said.code == 2
    assert "is not yours alone" in said.err
