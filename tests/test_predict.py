"""Images as another system sees them."""

from typing import Any, NamedTuple, cast

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from support import data_files
from support.pipeline_data import PLAIN, FakeSource

from rpn_jax import Proposals, RPNConfig, predict
from rpn_jax.data import open_unannotated
from rpn_jax.distributed.progress import Progress
from rpn_jax.models.interop import padded_size, resized_size


@pytest.mark.parametrize("system", ["torchvision", "detectron2_c4", "jwyang_vgg16"])
def test_an_image_gets_the_size_and_the_padding_of_its_system(system):
    pixels = data_files.noise(43, 61)
    image = predict.prepare(pixels, system)
    height, width = resized_size(system, 43, 61)
    assert image.pixels.shape == (*padded_size(system, height, width), 3)
    assert image.size.tolist() == [height, width]
    np.testing.assert_allclose(image.scale, [height / 43, width / 61], rtol=1e-6)
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(image.pixels[:height, :width], resized)
    assert not image.pixels[height:].any()
    assert not image.pixels[:, width:].any()


def test_an_image_of_the_right_size_is_not_touched():
    pixels = data_files.noise(800, 1024)
    image = predict.prepare(pixels, "torchvision")
    np.testing.assert_array_equal(image.pixels, pixels)


class Whole(NamedTuple):
    """Stands in for a network: it proposes the whole image that it is given."""

    seen: list

    def __call__(self, images, sizes):
        self.seen.append(np.array(images))
        height, width = sizes[0]
        boxes = np.array([[[0, 0, width, height], [0, 0, 0, 0]]], np.float32)
        return Proposals(boxes, np.array([[0.5, 0]]), np.array([[True, False]]))


def test_proposals_do_not_depend_on_the_other_images(tmp_path, monkeypatch):
    shapes = ((40, 60), (90, 30), (51, 52))
    paths = [
        data_files.save(tmp_path / f"{i}.png", data_files.noise(*shape, seed=i))
        for i, shape in enumerate(shapes)
    ]
    network = Whole([])
    monkeypatch.setattr(predict, "_on_one_device", lambda *_: network)
    source, no_model = open_unannotated(paths), cast(Any, None)
    paths[1].write_bytes(paths[1].read_bytes()[:60])  # is not decoded
    options = {"system": "torchvision_320", "config": RPNConfig()}
    found = dict(predict.predict_alone(no_model, source, **options))
    assert list(found) == [0, 2]
    for row, proposals in found.items():
        height, width = shapes[row]
        np.testing.assert_allclose(proposals.boxes, [[0, 0, width, height]], rtol=1e-6)
        assert proposals.scores.tolist() == [0.5]
        alone = predict.predict_alone(
            no_model, open_unannotated([paths[row]]), **options
        )
        ((_, again),) = alone
        np.testing.assert_array_equal(again.boxes, proposals.boxes)
    first, last, *alone = network.seen
    np.testing.assert_array_equal(first, alone[0])
    np.testing.assert_array_equal(last, alone[1])


class Constant(nnx.Module):
    """Stands in for a network whose only weight is a score."""

    def __init__(self, score):
        self.score = nnx.Param(np.float32(score))


def test_networks_of_the_same_settings_share_their_programs(monkeypatch):
    traced = []

    def propose(model, config, images, sizes):
        traced.append(images.shape)
        size = sizes[:, None, ::-1]
        boxes = jnp.concatenate([jnp.zeros_like(size), size], axis=2)
        scores = jnp.broadcast_to(model.score[...], boxes.shape[:2])
        return Proposals(boxes, scores, jnp.ones(scores.shape, bool))

    monkeypatch.setattr(predict, "_propose", propose)
    source, config = FakeSource([(32, 64)] * 3), RPNConfig()
    for score in (0.25, 0.5):
        network = cast(Any, Constant(score))
        options = {"pipeline": PLAIN, "config": config, "batch_size": 2}
        found = dict(predict.predict(network, source, **options))
        alone = dict(
            predict.predict_alone(
                network, source, system="torchvision_320", config=config
            )
        )
        assert sorted(found) == sorted(alone) == [0, 1, 2]
        for proposals in (*found.values(), *alone.values()):
            assert proposals.scores.tolist() == [score]
            np.testing.assert_allclose(proposals.boxes, [[0, 0, 64, 32]], rtol=1e-6)
    assert traced == [(2, 32, 64, 3), (1, 320, 640, 3)]


def test_a_process_waits_for_others_once_it_has_read_its_batch(monkeypatch):
    told, seen, read = Progress(), [], predict.eval_batches
    monkeypatch.setattr(predict, "progress", told)

    def batches(*arguments, **options):
        for batch in read(*arguments, **options):
            seen.append(("read", told.record.has_read))
            yield batch

    def propose(batch):
        seen.append(("predicted", told.record.has_read))
        boxes = np.zeros((len(batch.images), 1, 4), np.float32)
        return Proposals(boxes, boxes[..., 0], np.zeros(boxes.shape[:2], bool))

    monkeypatch.setattr(predict, "eval_batches", batches)
    monkeypatch.setattr(predict, "_on_mesh", lambda *_: propose)
    options = {"pipeline": PLAIN, "config": RPNConfig(), "batch_size": 2}
    source = FakeSource([(32, 64)] * 3)
    assert len(dict(predict.predict(cast(Any, None), source, **options))) == 3
    assert seen == [("read", False), ("predicted", True)] * 2
    assert told.record.images == 3
