"""The contents of a batch: sizes, boxes and masks."""

import dataclasses
import itertools
import logging
import math

import numpy as np
import pytest
from PIL import Image
from support import data_files
from support.pipeline_data import COMPOSED, MIXED, PLAIN, VARIED, FakeSource, take

from rpn_jax.data import (
    CopyPasteConfig,
    Decoded,
    IoUCropConfig,
    MosaicConfig,
    PhotometricConfig,
    PipelineConfig,
    Scenes,
    ZoomOutConfig,
    bucket_shapes,
    num_gt_rows,
    read_coco,
)
from rpn_jax.train.reading_tally import ReadingTally


def test_a_batch_has_the_promised_arrays():
    (batch,) = take(FakeSource(MIXED, [[4, 6, 20, 30]]), VARIED, 1)
    shape = batch.images.shape
    assert shape[0] == 2
    assert shape[1:3] in bucket_shapes(FakeSource(MIXED), VARIED)
    expected = {
        "images": (shape, np.uint8),
        "image_sizes": ((2, 2), np.float32),
        "gt_boxes": ((2, 8, 4), np.float32),
        "gt_valid": ((2, 8), np.bool),
        "gt_ignore": ((2, 8), np.bool),
        "rows": ((2,), np.int32),
        "asked_rows": ((2,), np.int32),
        "scales": ((2, 2), np.float32),
        "problems": ((2,), np.int32),
        "dropped_boxes": ((2,), np.int32),
        "cut_boxes": ((2,), np.int32),
        "hidden_boxes": ((2,), np.int32),
    }
    actual = {name: (a.shape, a.dtype) for name, a in batch._asdict().items()}
    assert actual == expected


@pytest.mark.parametrize("config", [PLAIN, VARIED])
@pytest.mark.parametrize(
    "sizes",
    [
        MIXED,
        [(40, 60)] * 4,
        [(1, 500), (500, 1), (3, 3)],
        [(7, 5000), (600, 800), (800, 600)],
    ],
)
def test_every_image_fits_its_shape_and_keeps_its_aspect(sizes, config):
    source = FakeSource(sizes)
    assert len(bucket_shapes(source, config)) <= 3
    for batch in take(source, config, 6):
        height, width = batch.images.shape[1:3]
        assert height % 16 == width % 16 == 0
        assert (batch.image_sizes <= (height, width)).all()
        assert (batch.image_sizes >= 1).all()
        for row, size, scale, image in zip(
            batch.rows, batch.image_sizes, batch.scales, batch.images, strict=True
        ):
            original = np.array(sizes[row])
            np.testing.assert_allclose(size, original * scale, rtol=1e-6)
            wanted = size.max() / original.max()
            assert (np.abs(size - np.maximum(original * wanted, 1)) <= 1).all()
            h, w = size.astype(int)
            assert (image[:h, :w] == row + 1).all()
            assert not image[h:].any()
            assert not image[:, w:].any()


def test_shapes_are_the_tightest_for_the_largest_images():
    landscape, portrait = [(30, 60)] * 9, [(60, 30)] * 9
    assert bucket_shapes(FakeSource(landscape), PLAIN) == ((32, 64),)
    both = FakeSource(landscape + portrait)
    assert bucket_shapes(both, PLAIN) == ((32, 64), (64, 32))
    bigger = PipelineConfig(
        min_side=32, max_side=64, size_multiple=16, scale_jitter=(0.5, 1.25)
    )
    assert bucket_shapes(both, bigger) == ((48, 80), (80, 48))
    assert bucket_shapes(Scenes(), PLAIN) == ((32, 48),)


def test_shapes_that_save_little_are_not_worth_a_compilation():
    one_in_a_hundred = [(30, 60)] * 99 + [(40, 60)]
    assert bucket_shapes(FakeSource(one_in_a_hundred), PLAIN) == ((32, 64),)
    half = [(30, 60)] * 50 + [(40, 60)] * 50
    assert bucket_shapes(FakeSource(half), PLAIN) == ((32, 48), (32, 64))


def test_the_shapes_are_the_cheapest_of_all_divisions():
    rng = np.random.default_rng(0)
    config = PipelineConfig(min_side=100, max_side=100, size_multiple=1, max_buckets=4)
    for _ in range(5):
        short = rng.choice(np.arange(20, 100), 8, replace=False).tolist()
        sizes = [(s, 100) if i % 2 else (100, s) for i, s in enumerate(short)]
        sizes.sort(key=lambda size: size[0] / size[1])

        def parts(cuts, sizes=sizes):
            ends = [0, *cuts, len(sizes)]
            return [sizes[a:b] for a, b in itertools.pairwise(ends)]

        def cost(cuts, sizes=sizes):
            pixels = sum(math.prod(np.max(x, 0)) * len(x) for x in parts(cuts))
            whole = math.prod(np.max(sizes, 0)) * len(sizes)
            return pixels + 0.05 * whole * len(cuts)

        options = [x for n in range(4) for x in itertools.combinations(range(1, 8), n)]
        shapes = [np.max(x, 0).tolist() for x in parts(min(options, key=cost))]
        used = [
            min((x for x in shapes if np.all(np.array(size) <= x)), key=math.prod)
            for size in sizes
        ]
        assert bucket_shapes(FakeSource(sizes), config) == tuple(
            sorted({(height, width) for height, width in used})
        )


def test_a_large_number_of_shapes_is_searched_at_once():
    source = FakeSource([(height, 100) for height in range(20, 44)])
    few, many = (
        PipelineConfig(min_side=100, max_side=100, size_multiple=1, max_buckets=number)
        for number in (6, 24)
    )
    assert bucket_shapes(source, many) == bucket_shapes(source, few)


def test_one_shape_can_be_asked_for():
    single = PipelineConfig(min_side=32, max_side=64, max_buckets=1)
    assert bucket_shapes(FakeSource(MIXED), single) == ((64, 64),)


def test_min_side_sets_the_size_unless_the_longer_side_gets_too_long():
    for sizes, expected in [((40, 60), (32, 48)), ((20, 100), (13, 64))]:
        (batch,) = take(FakeSource([sizes]), PLAIN, 1, batch_size=1)
        assert tuple(batch.image_sizes[0]) == expected


def test_jitter_changes_the_size_within_its_limits():
    batches = take(FakeSource([(40, 60)] * 4), VARIED, 30)
    heights = np.concatenate([batch.image_sizes[:, 0] for batch in batches])
    assert 16 <= heights.min() < 20
    assert 44 < heights.max() <= 48


class MarkedSource(FakeSource):
    """White images with a black box, which is the ground truth."""

    def decode(self, row):
        pixels = np.full((*self.image_sizes[row], 3), 255, np.uint8)
        for x0, y0, x1, y1 in self.boxes[row].astype(int):
            pixels[y0:y1, x0:x1] = 0
        return Decoded(pixels, truncated=False)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_boxes_stay_on_their_object_when_it_is_resized_and_flipped(flip):
    config = PipelineConfig(
        min_side=100,
        max_side=200,
        scale_jitter=(0.7, 1.3),
        flip_probability=flip,
        size_multiple=32,
    )
    for batch in take(MarkedSource([(240, 400)] * 2, [[60, 40, 200, 120]]), config, 8):
        for image, size, boxes in zip(
            batch.images, batch.image_sizes.astype(int), batch.gt_boxes, strict=True
        ):
            dark = image[: size[0], : size[1], 0] < 128
            rows, columns = np.nonzero(dark)
            seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(boxes[0], seen, atol=0.51)
            assert (boxes[0, 0] > size[1] * 0.3) == bool(flip)


def test_about_the_asked_share_of_images_is_flipped():
    config = PipelineConfig(min_side=32, max_side=64, flip_probability=0.25)
    batches = take(MarkedSource([(32, 64)], [[0, 0, 8, 8]]), config, 80)
    flipped = [batch.gt_boxes[:, 0, 0] > 32 for batch in batches]
    assert 0.15 < np.mean(flipped) < 0.35


def test_images_are_resized_as_pillow_does():
    scenes = Scenes(0, 1)
    config = PipelineConfig(min_side=60, max_side=80, flip_probability=0)
    (batch,) = take(scenes, config, 1, batch_size=1)
    image = Image.fromarray(scenes.pixels(0)).resize((80, 60), Image.Resampling.BOX)
    difference = batch.images[0, :60, :80].astype(float) - np.asarray(image)
    assert np.abs(difference).mean() < 4


def test_boxes_stay_on_their_object_at_a_reduced_scale(tmp_path):
    """Sides of odd length, so that the last column stands for a part of a block."""
    pixels = np.full((483, 641, 3), 255, np.uint8)
    pixels[101:333, 202:517] = 0
    data_files.save(tmp_path / "images/a.jpg", pixels, quality=95)
    records = [data_files.coco_record(1, [202, 101, 315, 232])]
    image = {"id": 1, "file_name": "a.jpg", "height": 483, "width": 641}
    content = {"images": [image], "annotations": records}
    source = read_coco(data_files.write_json(tmp_path / "set.json", content))
    for side in (60, 100, 200):
        config = PipelineConfig(min_side=side, max_side=2 * side, flip_probability=1)
        (batch,) = take(source, config, 1, batch_size=1)
        height, width = batch.image_sizes[0].astype(int)
        rows, columns = np.nonzero(batch.images[0, :height, :width, 0] < 128)
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(batch.gt_boxes[0, 0], seen, atol=0.75)
        config = dataclasses.replace(config, reduced_decoding=False)
        (whole,) = take(source, config, 1, batch_size=1)
        for name in set(batch._fields) - {"images"}:
            np.testing.assert_array_equal(getattr(whole, name), getattr(batch, name))
        assert not np.array_equal(whole.images, batch.images)
        error = whole.images.astype(int) - batch.images
        assert np.abs(error).mean() < 1


def test_a_source_of_another_class_needs_no_more_than_decode():
    class Plain:
        def __init__(self, source):
            self._source = source
            self.image_sizes, self.num_boxes = source.image_sizes, source.num_boxes

        def __len__(self):
            return len(self._source)

        def truth(self, row):
            return self._source.truth(row)

        def decode(self, row):
            return self._source.decode(row)

    source = FakeSource(MIXED, [[4, 6, 20, 30]])
    for batch, expected in zip(
        take(Plain(source), COMPOSED, 3), take(source, COMPOSED, 3), strict=True
    ):
        np.testing.assert_array_equal(batch.images, expected.images)


@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({}, {(32, 64)}),
        ({"scale_jitter": (0.5, 0.5)}, {(16, 32)}),
        ({"reduced_decoding": False}, {None}),
        ({"mosaic": MosaicConfig(probability=1.0)}, {None}),
        ({"copy_paste": CopyPasteConfig(probability=1.0)}, {None}),
        ({"iou_crop": IoUCropConfig(probability=1.0)}, {None}),
        ({"zoom_out": ZoomOutConfig(probability=0.5)}, {None, (32, 64)}),
    ],
)
def test_only_whole_images_may_be_decoded_at_a_reduced_scale(options, least):
    asked = set()

    class Recording(FakeSource):
        def open_image(self, row, least=None, library="pillow"):
            asked.add(least)
            return super().open_image(row, least, library)

    config = dataclasses.replace(PLAIN, **options)
    take(Recording([(100, 200)] * 4, [[8, 8, 90, 90]]), config, 6)
    assert asked == least


def test_ignored_regions_come_last_and_are_marked():
    source = FakeSource([(32, 64)], [[0, 0, 8, 8], [1, 1, 9, 9], [2, 2, 9, 9]], [0])
    (batch,) = take(source, PLAIN, 1, batch_size=1)
    assert batch.gt_boxes[0, :3, 0].tolist() == [1, 2, 0]
    assert batch.gt_valid[0].tolist() == [True] * 3 + [False] * 5
    assert batch.gt_ignore[0].tolist() == [False] * 2 + [True] + [False] * 5
    assert not batch.gt_boxes[0, 3:].any()


def test_boxes_without_a_row_are_counted_once_for_each_image(caplog):
    source = FakeSource([(32, 64)], [[0, 0, i + 2, 8] for i in range(5)])
    config = PipelineConfig(min_side=32, max_side=64, max_boxes=3, flip_probability=0)
    tally = ReadingTally(source)
    for batch in take(source, config, 2, batch_size=1):
        assert batch.gt_boxes[0, :, 2].tolist() == [2, 3, 4]
        assert batch.dropped_boxes.tolist() == [2]
        tally.add(batch)
    tally.report()
    (line,) = caplog.messages
    assert "2 boxes were dropped" in line


@pytest.mark.parametrize(("boxes", "rows"), [(0, 8), (8, 8), (9, 16), (900, 400)])
def test_the_number_of_rows_comes_from_the_data(boxes, rows):
    source = FakeSource([(32, 64)], [[0, 0, 8, 8]] * boxes)
    assert num_gt_rows(source, PLAIN) == rows
    assert take(source, PLAIN, 1)[0].gt_valid.shape == (2, rows)


def test_mosaics_and_pasted_objects_have_rows():
    source = FakeSource([(32, 64)], [[0, 0, 8, 8]] * 5)
    mosaic = MosaicConfig(probability=0.1)
    paste = CopyPasteConfig(probability=0.1, max_objects=5)
    parts = {"mosaic": mosaic, "copy_paste": paste}
    rows = [
        num_gt_rows(source, PipelineConfig(**{name: parts[name] for name in names}))
        for names in ([], ["mosaic"], ["copy_paste"], ["mosaic", "copy_paste"])
    ]
    assert rows == [8, 24, 16, 32]


def test_boxes_that_augmentation_cuts_or_hides_are_counted(caplog):
    """A grid of boxes without gaps, of which every crop cuts some."""
    boxes = [[x, y, x + 8, y + 8] for x in range(0, 64, 8) for y in range(0, 32, 8)]
    source = FakeSource([(32, 64)], boxes)
    crop = IoUCropConfig(probability=1.0, scale=(0.4, 0.8), min_ious=(0.0,))
    config = PipelineConfig(min_side=64, max_side=128, iou_crop=crop)
    tally = ReadingTally(source)
    batches = take(source, config, 6)
    for batch in batches:
        tally.add(batch)
        objects = (batch.gt_valid & ~batch.gt_ignore).sum(axis=1)
        assert (batch.gt_ignore.sum(axis=1) == batch.cut_boxes).all()
        assert (objects + batch.cut_boxes + batch.hidden_boxes == len(boxes)).all()
        assert (batch.hidden_boxes > 0).all()
    with caplog.at_level(logging.INFO, "rpn_jax"):
        tally.report()
    cut = sum(int(batch.cut_boxes.sum()) for batch in batches)
    hidden = sum(int(batch.hidden_boxes.sum()) for batch in batches)
    (line,) = caplog.messages
    assert "In 12 readings of images" in line
    assert f"cut {cut} objects" in line
    assert f"nothing of {hidden} boxes" in line


@pytest.mark.parametrize(
    "options",
    [
        {"min_side": 0},
        {"min_side": 2000},
        {"scale_jitter": (0.0, 1.0)},
        {"scale_jitter": (1.2, 0.8)},
        {"flip_probability": 1.5},
        {"size_multiple": 0},
        {"max_boxes": 0},
        {"max_buckets": 0},
        {"min_visibility": 1.1},
    ],
)
def test_impossible_settings_are_refused(options):
    with pytest.raises(ValueError, match="PipelineConfig needs"):
        PipelineConfig(**options)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (PhotometricConfig, {"probability": 1.1}),
        (PhotometricConfig, {"brightness": (-0.1, 1.0)}),
        (PhotometricConfig, {"hue": (-0.6, 0.0)}),
        (ZoomOutConfig, {"side_range": (0.5, 2.0)}),
        (IoUCropConfig, {"scale": (0.5, 1.5)}),
        (IoUCropConfig, {"aspect_ratio": (2.0, 0.5)}),
        (IoUCropConfig, {"min_ious": ()}),
        (MosaicConfig, {"center": (0.5, 1.5)}),
        (CopyPasteConfig, {"max_objects": 0}),
        (CopyPasteConfig, {"scale": (1.0, float("inf"))}),
    ],
)
def test_impossible_augmentations_are_refused(kind, options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{kind.__name__} needs .*{name}"):
        kind(**options)
