"""Which images of a data set `rpn-jax evaluate` takes."""

import types

import pytest
from support import data_files

from rpn_jax.commands import evaluate
from rpn_jax.evaluate import evaluate as recall_of
from rpn_jax.train import TrainConfig


@pytest.mark.parametrize(
    ("flags", "number", "said"),
    [
        ([], 2, ["All images of {} are evaluated: those of test, train. Choose with "]),
        (["--split", "test"], 1, []),
    ],
)
def test_it_says_that_it_takes_all_splits(
    flags, number, said, tmp_path, monkeypatch, caplog
):
    names = ("a.png", "b.png")
    files = {x: data_files.voc_xml((3, 4, 20, 30), filename=x) for x in names}
    folder = data_files.voc_set(tmp_path, files, split="a")
    (folder / "ImageSets" / "Main" / "test.txt").write_text("b")
    run = types.SimpleNamespace(config=TrainConfig(), model=None, step=0)
    monkeypatch.setattr(evaluate, "load_run", lambda *_, **__: run)
    taken = []
    monkeypatch.setattr(
        evaluate,
        "write_evaluation",
        lambda _, source, *__, **___: taken.append(len(source)) or recall_of([], []),
    )
    evaluate.main(["--run", "run", "--data", str(tmp_path), *flags])
    assert taken == [number]
    begins = [text.format(tmp_path) for text in said]
    messages = [x.getMessage() for x in caplog.records]
    assert len(messages) == len(begins)
    assert all(m.startswith(b) for m, b in zip(messages, begins, strict=True))
