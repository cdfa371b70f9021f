"""How four pictures lie in a mosaic."""

import numpy as np
from support.marked_pictures import picture_of

from rpn_jax.data import MosaicConfig, PipelineConfig
from rpn_jax.data.collage import Labels
from rpn_jax.data.mosaic import lay_mosaic

NOTHING = Labels(np.zeros((0, 4)), np.zeros(0, bool), np.zeros(0, int))
SIZES = [(30, 60), (60, 40), (20, 20), (100, 50)]
PICTURES = [picture_of(np.zeros((*size, 3), np.uint8), NOTHING) for size in SIZES]
CONFIG = PipelineConfig(min_side=100, max_side=150, mosaic=MosaicConfig())


def test_four_pictures_meet_in_the_middle_half_of_a_canvas():
    rng, centers, quarters, scales = np.random.default_rng(0), [], set(), []
    for _ in range(60):
        mosaic = lay_mosaic(PICTURES, CONFIG, rng)
        assert mosaic.window.tolist() == [0, 0, 150, 75]
        places = np.array([part.place for part in mosaic.parts])
        # Each picture begins or ends at the centre, along both axes.
        center = places[:, :2].max(axis=0)
        begins = np.isclose(places[:, :2], center)
        assert (begins ^ np.isclose(places[:, 2:], center)).all()
        is_right, is_low = begins.T
        assert len({*zip(is_right.tolist(), is_low.tolist(), strict=True)}) == 4
        quarters.add((bool(is_right[0]), bool(is_low[0])))
        centers.append(center / (150, 75))
        sides = places[:, 2:] - places[:, :2]
        factors = [min(100 / min(size), 150 / max(size)) for size in SIZES]
        scale = sides / (np.array(SIZES)[:, ::-1] * np.array(factors)[:, None])
        np.testing.assert_allclose(scale, scale[0, 0])
        scales.append(scale[0, 0])
    for found, (low, high) in ((centers, (0.25, 0.75)), (scales, (0.5, 1.0))):
        assert low <= np.min(found) < low + 0.05
        assert high - 0.05 < np.max(found) <= high
    assert len(quarters) == 4
