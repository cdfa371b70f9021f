"""Runs with several seeds: their folders, what is repeated, and their mean."""

import json
import pathlib
import types

import pytest

from rpn_jax import cli
from rpn_jax.data import Scenes
from rpn_jax.train import Run, TrainConfig

STEPS = 4


class CountedRun:
    """A run that takes no time. Its recall depends on the seed, and steps are kept."""

    made = []
    stops_in, is_stopped = None, False

    def __init__(self, config, programs):
        self.config, self.num_steps, self.best, self.model = config, STEPS, None, None
        self.folder = types.SimpleNamespace(path=pathlib.Path(config.out))
        self.sources = types.SimpleNamespace(train=None, val=Scenes(1, 1))
        self.folder.path.mkdir(parents=True, exist_ok=True)
        (self.folder.path / "config.json").write_text("{}")
        state = self.folder.path / "step"
        self.step = int(state.read_text()) if state.exists() else 0

    @property
    def is_finished(self):
        return self.step == STEPS

    def steps(self, is_stopped):
        self.made.append(self.config.seed)
        while not self.is_finished:
            if self.config.seed == self.stops_in and self.step == 2:
                raise KeyboardInterrupt
            self.step += 1
            (self.folder.path / "step").write_text(str(self.step))
        yield from ()

    def close(self):
        pass


def in_turn(runs, is_stopped):
    """`steps_together`, whose own test is elsewhere."""
    for run in runs:
        yield from ((run, x) for x in run.steps(is_stopped))


@pytest.fixture
def command(monkeypatch, tmp_path):
    def evaluate(run):
        sizes = dict.fromkeys(("all", "small", "medium", "large"), run.config.seed / 10)
        names = [
            f"{x}@{n}" for x in ("AR", "recall_0.50", "recall_0.75") for n in LIMITS
        ]
        recall = {"coco": dict.fromkeys(names, sizes), "detectron2": {}}
        (run.folder.path / "recall.json").write_text(json.dumps(recall))
        return "the table of one run"

    module = "rpn_jax.commands.train"
    monkeypatch.setattr(f"{module}.Run", CountedRun)
    monkeypatch.setattr(f"{module}.draw_labels", lambda *_, **__: None)
    monkeypatch.setattr(f"{module}.steps_together", in_turn)
    monkeypatch.setattr(f"{module}._evaluate", evaluate)
    monkeypatch.setattr(CountedRun, "made", [])
    out = tmp_path / "out"
    return out, lambda *flags: cli.main(
        ["train", "--seed", "4", "--seeds", "3", "--out", str(out), *flags]
    )


LIMITS = (1, 10, 100, 300, 1000)


def test_each_seed_has_a_run_and_the_table_has_their_mean(command, capsys):
    out, train = command
    assert train() == 0
    assert CountedRun.made == [4, 5, 6]
    assert {x.name for x in out.iterdir()} == {
        "seed_4",
        "seed_5",
        "seed_6",
        "seeds.json",
    }
    text = capsys.readouterr().out
    assert "0.500 ± 0.248" in text
    assert f"Results are in {out}" in text
    facts = json.loads((out / "seeds.json").read_text())
    assert facts["seeds"] == [4, 5, 6]
    assert facts["coco"]["AR@100"]["all"]["values"] == [0.4, 0.5, 0.6]


@pytest.mark.parametrize("flags", [[], ["--seeds-mode", "together"]])
def test_resume_makes_only_what_is_missing(flags, command, monkeypatch, capsys):
    _, train_with = command

    def train(*others):
        return train_with(*flags, *others)

    monkeypatch.setattr(CountedRun, "stops_in", 5)
    assert train() == 130
    monkeypatch.setattr(CountedRun, "stops_in", None)
    assert train() == 1
    assert "Pass --resume" in capsys.readouterr().err
    assert train("--resume") == 0
    assert CountedRun.made == [4, 5, 5, 6]
    assert "0.500 ± 0.248" in capsys.readouterr().out


def test_runs_that_are_stopped_together_are_not_evaluated(command, monkeypatch, capsys):
    out, train = command
    monkeypatch.setattr(CountedRun, "is_stopped", True)
    assert train("--seeds-mode", "together") == 0
    assert "SIGTERM ended the run after step 4 of 4" in capsys.readouterr().out
    assert not list(out.rglob("recall.json"))


def test_one_seed_is_a_plain_run(command, capsys):
    out, train = command
    assert train("--seeds", "1") == 0
    assert (out / "config.json").exists()
    assert "the table of one run" in capsys.readouterr().out


def test_a_run_is_of_one_seed():
    with pytest.raises(ValueError, match="Run needs seeds=1, got 2"):
        Run(TrainConfig(seeds=2))
    with pytest.raises(ValueError, match="numbers above 0, got {'seeds': 0}"):
        TrainConfig(seeds=0)
    with pytest.raises(ValueError, match="seeds above 1 beside seeds_mode, got 1"):
        TrainConfig(seeds_mode="together")


def test_several_seeds_are_refused_in_a_run_of_several_processes(command, capsys):
    out, train = command
    assert train("--distributed") == 1
    assert "--seeds needs a run of one process, got 3" in capsys.readouterr().err
    assert not out.exists()
