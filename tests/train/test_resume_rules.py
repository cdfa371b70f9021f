"""A run with other rules than the default: resumed, and evaluated as it was trained."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from flax import nnx
from support import data_files, small_rpn

from rpn_jax.commands import evaluate
from rpn_jax.data import PipelineConfig
from rpn_jax.train import Run, TrainConfig
from rpn_jax.train import build as build_module
from rpn_jax.train import run as run_module
from rpn_jax.train.programs import Programs

RULES = dataclasses.replace(
    small_rpn.RULES,
    targets=dataclasses.replace(small_rpn.RULES.targets, assigner="atss"),
    losses=dataclasses.replace(small_rpn.RULES.losses, objectness="iou"),
)


@pytest.fixture
def config(tmp_path, monkeypatch):
    def build(config, rngs=None):
        return small_rpn.make_rpn(config.seed)

    monkeypatch.setattr(run_module, "build_model", build)
    monkeypatch.setattr(build_module, "build_model", build)
    boxes = [data_files.coco_record(i + 1, [5, 6, 20, 15]) for i in range(3)]
    data = data_files.coco_set(tmp_path, boxes, names=["a.png", "b.png", "c.png"])
    return TrainConfig(
        data=str(data),
        out=str(tmp_path / "run"),
        steps=3,
        batch_size=2,
        checkpoint_every=2,
        log_every=1,
        pipeline=PipelineConfig(min_side=48, max_side=64),
        rpn=RULES,
    )


def finish(config, programs):
    """The losses of the steps that are made, and the run."""
    run = Run(config, programs)
    losses = [progress.metrics["loss"] for progress in run.steps()]
    run.close()
    return losses, run


def assert_same_weights(model, other):
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model), nnx.state(other))


def test_other_rules_are_resumed_and_evaluated(config, monkeypatch):
    programs = Programs()
    losses, run = finish(config, programs)
    with pytest.raises(ValueError, match=r"rpn\.targets\.assigner was atss"):
        Run(dataclasses.replace(config, resume=True, rpn=small_rpn.RULES))
    shutil.rmtree(run.folder.checkpoints / "3")
    again, resumed = finish(dataclasses.replace(config, resume=True), programs)
    assert again == losses[2:]
    assert_same_weights(resumed.model, run.model)
    # `evaluate` has no flags for the rules, so that the run alone decides them.
    seen = {}

    def look(model, *_, **options):
        seen.update(options, model=model)
        raise KeyboardInterrupt  # nothing else is needed

    monkeypatch.setattr(evaluate, "write_evaluation", look)
    with pytest.raises(KeyboardInterrupt):
        evaluate.main(["--run", config.out, "--data", config.data])
    assert seen["config"] == RULES == run.config.rpn
    assert seen["pipeline"] == config.pipeline
    assert_same_weights(seen["model"], run.model)
