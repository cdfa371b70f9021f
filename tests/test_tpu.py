"""The core compiled for eight chips of TPU v5e, by libtpu, without a TPU.

At a tenth of the usual size: `benchmarks/tpu_compile.py` itself takes 800 x 1344.
"""

import importlib.util
import json
import math
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[1] / "benchmarks" / "tpu_compile.py"
IMAGE, ANCHORS, BOXES = (256, 320), 20_460, 100


def compile_for_tpu(program):
    """In a process of its own, because libtpu is one that a failed check would end."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed: pip install libtpu")
    sizes = ["--image", *IMAGE, "--boxes", BOXES, "--channels", 24, "--chips", 8]
    arguments = [SCRIPT, "--json", "--programs", program, *sizes]
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_training_step_stores_nothing_of_size_anchors_times_boxes():
    report = compile_for_tpu("step")
    assert math.prod(report["largest"]) < ANCHORS * BOXES / 8
    assert report["temp_bytes"] < 4 * ANCHORS * BOXES
    assert set(report["collectives"]) == {"all-reduce"}  # the sums over all images
    assert report["collectives_in_loops"] == 0


def test_a_stored_matrix_would_be_seen():
    report = compile_for_tpu("dense")
    assert math.prod(report["largest"]) == ANCHORS * BOXES
