"""Runs whose steps one program makes are those that are made alone, to the bit."""

import json

import jax
import numpy as np
import pytest
from support import small_rpn

from rpn_jax.data import PipelineConfig
from rpn_jax.distributed.progress import Progress
from rpn_jax.train import OptimizerConfig, Run, TrainConfig, together
from rpn_jax.train import run as run_module
from rpn_jax.train.programs import Programs

STEPS = 3
TIMES = ("images_per_second", "data_wait")  # what depends on the machine


@pytest.fixture
def open_run(tmp_path, monkeypatch):
    def build(config, rngs=None):
        return small_rpn.make_rpn(config.seed)

    monkeypatch.setattr(run_module, "build_model", build)
    shared = Programs()

    def open_run(name, seed, **options):
        config = TrainConfig(
            seed=seed,
            out=str(tmp_path / name),
            steps=STEPS,
            batch_size=2,
            log_every=1,
            checkpoint_every=2,
            optimizer=OptimizerConfig(name="sgd"),
            pipeline=PipelineConfig(min_side=48, max_side=64),
            rpn=small_rpn.RULES,
            **options,
        )
        return Run(config, shared)

    return open_run


def content_of(run):
    """The state, the log without times, and the names of the checkpoints."""
    lines = (run.folder.path / "metrics.jsonl").read_text().splitlines()
    metrics = [json.loads(line) for line in lines]
    kept = [{k: v for k, v in x.items() if k not in TIMES} for x in metrics]
    places = sorted(path.name for path in run.folder.path.rglob("manifest.json"))
    return [np.asarray(x) for x in jax.tree.leaves(run._state)], kept, places


def test_two_runs_together_are_both_runs_alone(open_run, monkeypatch):
    joint, compile_joint = [], together._compiled
    monkeypatch.setattr(
        together, "_compiled", lambda *args: joint.append(1) or compile_joint(*args)
    )
    runs = [open_run(f"together_{seed}", seed) for seed in (3, 4)]
    said = [(run.config.seed, x.step) for run, x in together.steps_together(runs)]
    assert said == [(seed, step) for step in (1, 2, 3) for seed in (3, 4)]
    assert joint == [1]
    found = [content_of(run) for run in runs]
    assert any((a != b).any() for a, b in zip(found[0][0], found[1][0], strict=True))
    for run, (state, *files) in zip(runs, found, strict=True):
        run.close()
        alone = open_run(f"alone_{run.config.seed}", run.config.seed)
        list(alone.steps())
        expected, *others = content_of(alone)
        for a, b in zip(state, expected, strict=True):
            np.testing.assert_array_equal(a, b)
        assert files == others
        alone.close()
    # A run that has ended leaves the others to themselves.
    ended, other = open_run("together_3", 3, resume=True), open_run("other", 4)
    said = [
        (run.config.seed, x.step) for run, x in together.steps_together([ended, other])
    ]
    assert said == [(4, 1), (4, 2), (4, 3)]
    assert joint == [1]
    for a, b in zip(content_of(other)[0], found[1][0], strict=True):
        np.testing.assert_array_equal(a, b)
    ended.close()
    other.close()


def test_a_run_has_read_its_batch_when_it_asks_for_a_step(open_run, monkeypatch):
    told = Progress()
    monkeypatch.setattr(run_module, "progress", told)
    monkeypatch.setattr(Run, "_compile", lambda _: {})
    monkeypatch.setattr(Run, "_wanted", lambda *_: told.record.has_read)
    run = open_run("reads", 3)
    loop = run.loop(lambda: False)
    assert next(loop) is True
    loop.close()
    run.close()
