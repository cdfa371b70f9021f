"""Labels of whole images: their anchors, before and after a cascade moves them."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from support.small_resnet import CASCADE, make_rpn

import rpn_jax
from rpn_jax.data import PipelineConfig, Scenes, eval_batches
from rpn_jax.label import label_images

SCENES = Scenes(seed=1, num_images=2, size=(48, 64))
PIPELINE = PipelineConfig(min_side=48, max_side=64)


@pytest.fixture(scope="module")
def model():
    return make_rpn(CASCADE)


@pytest.fixture(scope="module")
def labelled(model):
    return dict(label_images(model, SCENES, pipeline=PIPELINE, config=CASCADE))


def test_a_cascade_labels_the_anchors_that_its_first_stage_moved(model, labelled):
    (batch,) = eval_batches(SCENES, PIPELINE, batch_size=2)

    @jax.jit
    def by_parts(images, sizes, boxes, valid):
        first = model.head.first(model.features(images, sizes))
        moved = first.moved(labelled[0].grid)
        match = functools.partial(rpn_jax.match_anchors, config=CASCADE.targets)
        return moved, jax.vmap(match)(moved, boxes, valid)

    truth = batch.images, batch.image_sizes, batch.gt_boxes, batch.gt_valid
    moved, matches = jax.tree.map(np.asarray, by_parts(*truth))
    for row, labels in labelled.items():
        positives = np.flatnonzero(matches.labels[row] == 1)
        assert labels.anchor.tolist() == positives.tolist() != []
        assert labels.row.tolist() == matches.gt_index[row, positives].tolist()
        np.testing.assert_allclose(labels.boxes, moved[row, positives], atol=1e-4)
        assert (labels.boxes != np.asarray(labels.grid.boxes)[positives]).any()


def test_positives_are_shared_if_anchor_and_object_are_the_same(labelled):
    first = labelled[0]
    other = first._replace(anchor=first.anchor[1:], row=first.row[1:])
    counts = np.bincount(first.row[1:], minlength=len(first.objects))
    assert first.shared_with(other).tolist() == counts.tolist()
    coarser = dataclasses.replace(CASCADE.anchors, strides=(8, 16, 32))
    grid = rpn_jax.make_anchors(coarser, [(6, 8), (3, 4), (2, 2)])
    assert first.shared_with(first._replace(grid=grid)) is None
