"""The compiled step, which runs of other seeds share."""

import jax
import numpy as np
import pytest
from support import small_rpn

from rpn_jax.data import PipelineConfig
from rpn_jax.train import Run, TrainConfig
from rpn_jax.train import run as run_module
from rpn_jax.train.programs import Programs


@pytest.fixture
def train(tmp_path, monkeypatch):
    def build(config, rngs=None):
        return small_rpn.make_rpn(config.seed)

    monkeypatch.setattr(run_module, "build_model", build)

    def train(name, seed, programs):
        config = TrainConfig(
            seed=seed,
            out=str(tmp_path / name),
            steps=2,
            batch_size=2,
            pipeline=PipelineConfig(min_side=48, max_side=64),
            rpn=small_rpn.RULES,
        )
        run = Run(config, programs)
        for _ in run.steps():
            pass
        run.close()
        return [np.asarray(leaf) for leaf in jax.tree.leaves(run._state)]

    return train


def test_runs_that_share_a_program_are_those_that_are_made_alone(train, monkeypatch):
    compiled, lower = [], jax.stages.Lowered.compile
    monkeypatch.setattr(
        jax.stages.Lowered,
        "compile",
        lambda *args, **options: compiled.append(1) or lower(*args, **options),
    )
    shared = Programs()
    first, second = (train(f"seed_{seed}", seed, shared) for seed in (3, 4))
    assert len(compiled) == 1
    for together, alone in zip(second, train("alone", 4, None), strict=True):
        np.testing.assert_array_equal(together, alone)
    assert any((a != b).any() for a, b in zip(first, second, strict=True))
