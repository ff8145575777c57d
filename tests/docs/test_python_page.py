"""The examples of docs/python.md run as they stand there, only shorter."""

import pytest
from docs_pages import ROOT, blocks

import pgrun

PAGE = ROOT / "docs" / "python.md"


@pytest.mark.slow
def test_its_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = ["\n".join(block.lines) for block in blocks(PAGE) if block.language == "python"]
    assert len(code) == 3
    names = {"pgrun": pgrun}
    for text, long, short in zip(code, ("20_000", "", "range(5)"), ("500, quiet=True", "", "range(1)"), strict=True):
        assert long in text
        text = text.replace(long, short) if long else text
        exec(text.replace("seed=seed,", "seed=seed, total_steps=300,"), names)
    assert str(names["run"].folder) not in ("", ".")
    assert names["run"].status == "finished"
    assert capsys.readouterr().out.startswith(str(pgrun.Run(min(tmp_path.glob("runs/*/*"))).result["eval_return_mean"]))


def test_it_names_what_there_is():
    page = PAGE.read_text(encoding="utf-8")
    for name in ("train", "resume", "evaluate", "load", "compose", "Run", "UserError", "Diverged", "EnvFailed"):
        assert f"pgrun.{name}" in page
        assert getattr(pgrun, name).__doc__
