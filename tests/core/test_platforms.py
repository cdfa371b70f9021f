"""The forms of the core for other runtimes."""

import functools

import jax
import numpy as np
from support import reference

from rpn_jax import nms
from rpn_jax.core.platforms import by_platform, portable_forms

KEEP = functools.partial(nms, iou_threshold=0.5, max_outputs=60)
# What the converter to ONNX does not know.
UNKNOWN = ("bitcast_convert_type", "platform_index", "while[", "custom_vmap")


def test_portable_suppression_keeps_the_same_rows_without_special_operations():
    rng = np.random.default_rng(0)
    boxes = reference.random_boxes(rng, 60, 80).astype(np.float32)
    scores = rng.integers(-3, 3, 60).astype(np.float32)  # ties
    scores[:9] = 0.0, -0.0, np.nan, np.inf, -np.inf, -0.0, 0.0, 1e30, -1e30
    boxes[20] = np.nan
    valid = rng.random(60) < 0.9
    usual = KEEP(boxes, scores, valid=valid)
    with portable_forms(True):
        portable = KEEP(boxes, scores, valid=valid)
        program = str(jax.make_jaxpr(KEEP)(boxes, scores, valid=valid))
    np.testing.assert_array_equal(portable.indices, usual.indices)
    np.testing.assert_array_equal(portable.valid, usual.valid)
    assert not [name for name in UNKNOWN if name in program]
    usual_program = str(jax.make_jaxpr(KEEP)(boxes, scores, valid=valid))
    assert all(name in usual_program for name in UNKNOWN)


def test_the_form_follows_the_context_within_one_process():
    @jax.jit
    def number(x):
        return by_platform(x, cpu=lambda x: x + 1, default=lambda x: x + 2)

    one = np.float32(1)
    with portable_forms(True):
        portable = number(one)
    assert float(portable) == 3
    assert float(number(one)) == (2 if jax.default_backend() == "cpu" else 3)
