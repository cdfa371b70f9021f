"""Averaged weights, the best checkpoint and early stopping, also of a resumed run."""

import hashlib
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from support import small_rpn

from rpn_jax import predict
from rpn_jax.data import PipelineConfig, Scenes
from rpn_jax.data.open import Subset
from rpn_jax.evaluate import ImageProposals
from rpn_jax.train import (
    OptimizerConfig,
    Run,
    TrainConfig,
    load_run,
    make_optimizer,
    validation,
)
from rpn_jax.train import build as build_module
from rpn_jax.train import run as run_module
from rpn_jax.train.average import averaged
from rpn_jax.train.metrics_log import read_metrics
from rpn_jax.train.validation import measure


def test_the_average_follows_its_definition_and_skips_what_training_skips():
    decay = 0.3
    config = OptimizerConfig(name="sgd", momentum=0.0, weight_decay=0.0, clip_norm=None)
    optimizer = make_optimizer(config, lambda _: 0.5, ema=decay)
    params = {"w": jnp.arange(4.0)}
    state = optimizer.init(params)

    @jax.jit
    def step(gradients, state, params):
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    weights = average = np.arange(4.0, dtype=np.float32)
    count = 0
    for number in range(6):
        gradient = np.full(4, np.nan if number == 2 else number, np.float32)
        params, state = step({"w": gradient}, state, params)
        if number != 2:
            count += 1
            weights = weights - 0.5 * gradient
            kept = min(decay, (1 + count) / (10 + count))
            average = kept * average + (1 - kept) * weights
        np.testing.assert_allclose(params["w"], weights)
        found: Any = averaged(state, params)
        np.testing.assert_allclose(found["w"], average, rtol=1e-6)
    without = make_optimizer(config, lambda _: 0.5).init(params)
    assert averaged(without, params) is params


# The best is step 4: 6 is no better, and 8 is the second that is not.
SCORES = {2: 0.3, 4: 0.5, 6: 0.5, 8: 0.4}


@pytest.fixture
def open_run(tmp_path, monkeypatch):
    """Opens runs of the small network, which compile once and are scored by a table."""
    programs, compile_steps = {}, Run._compile

    def compiled(run):
        if not programs:
            programs.update(compile_steps(run))
        return programs

    for module in (run_module, build_module):
        monkeypatch.setattr(
            module, "build_model", lambda c, *_: small_rpn.make_rpn(c.seed)
        )
    monkeypatch.setattr(Run, "_compile", compiled)
    pipeline = PipelineConfig(min_side=64, max_side=96)

    def opened(name, **options):
        settings = dict(steps=20, batch_size=2, ema=0.9, log_every=1, seed=3)
        settings |= dict(eval_every=2, patience=2, checkpoint_every=3)
        config = TrainConfig(
            **settings, out=f"{tmp_path}/{name}", pipeline=pipeline, **options
        )
        config = type(config)(**{**vars(config), "rpn": small_rpn.RULES})
        run = Run(config)
        monkeypatch.setattr(run_module, "measure", lambda *_, **__: SCORES[run.step])
        return run

    return opened


def digest(state):
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(state):
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()


def weights_of(model):
    return [np.asarray(x) for x in jax.tree.leaves(nnx.state(model))]


def test_a_run_stops_early_and_keeps_its_best_step_even_if_it_was_killed(
    open_run, tmp_path
):
    run = open_run("whole")
    kept = {}
    for progress in run.steps():
        kept[progress.step] = weights_of(run.model)
    run.close()
    assert (run.step, run.best) == (8, (4, 0.5))
    lines = read_metrics(tmp_path / "whole/evaluations.jsonl")
    assert {line["step"]: line["ar@100"] for line in lines} == SCORES
    # The best and the newest model have averaged weights.
    for step, best in ((4, True), (8, False)):
        loaded = load_run(tmp_path / "whole", best=best)
        assert loaded.step == step
        for found, expected in zip(weights_of(loaded.model), kept[step], strict=True):
            np.testing.assert_array_equal(found, expected)
    raw = jax.tree.leaves(run._state.params)[0]
    assert not np.array_equal(raw, jax.tree.leaves(averaged_of(run))[0])
    # A run that is killed after steps 5 and 7 goes on from steps 3 and 6.
    for last, first in ((5, 0), (7, 3), (20, 6)):
        part = open_run("killed", resume=True)
        assert part.step == first
        for progress in part.steps():
            if progress.step == last:
                break
        part.close()
    assert digest(part._state) == digest(run._state)
    assert part.best == run.best
    assert load_run(tmp_path / "killed", best=True).step == 4
    # There is nothing left to do for a run that was stopped.
    again = open_run("whole", resume=True)
    assert list(again.steps()) == []
    again.close()


def test_evaluations_of_one_run_share_their_program():
    source = Scenes(1, 3, size=(64, 96))
    settings: Any = {"pipeline": PipelineConfig(min_side=64, max_side=96)}
    settings |= {"config": small_rpn.RULES, "batch_size": 2}
    program: Any = predict._propose_on_mesh
    before = program._cache_size()
    recalls = [measure(small_rpn.make_rpn(s), source, **settings) for s in (0, 1)]
    assert all(0.0 <= recall <= 1.0 for recall in recalls)
    assert recalls[0] != recalls[1]
    assert program._cache_size() == before + 1


def averaged_of(run):
    return averaged(run._state.optimizer, run._state.params)


def test_images_whose_file_cannot_be_opened_count_during_training_too(monkeypatch):
    source = Scenes(1, 4, size=(64, 96))
    part = Subset(source, [0, 1], left_out=[source.truth(2), source.truth(3)])
    found = [
        (row, ImageProposals(truth.image_id, truth.boxes, np.ones(len(truth.boxes))))
        for row, truth in enumerate(map(source.truth, range(2)))
    ]
    monkeypatch.setattr(validation, "predict", lambda *_, **__: found)
    settings: Any = {"pipeline": None, "config": None, "batch_size": 2}
    objects = [int((~source.truth(row).is_ignored).sum()) for row in range(4)]
    share = sum(objects[:2]) / sum(objects)
    assert 0 < share < 1
    assert measure(small_rpn.make_rpn(0), part, **settings) == pytest.approx(share)


def test_a_best_checkpoint_that_is_not_there_leaves_no_folder(open_run, tmp_path):
    open_run("plain").close()
    folder = tmp_path / "plain"
    for path in folder.glob("best*"):
        shutil.rmtree(path)
    with pytest.raises(ValueError, match=r"best, got none. Load the newest one"):
        load_run(folder, best=True)
    assert not (folder / "best").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"ema": 1.0},
        {"ema": 0.0},
        {"patience": 3},
        {"eval_every": 0},
        {"lr": float("nan")},
        {"lr": float("inf")},
    ],
)
def test_settings_that_mean_nothing_are_refused(options):
    with pytest.raises(ValueError, match="TrainConfig needs"):
        TrainConfig(**options)
