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

SCRIPTS = pathlib.Path(__file__).parents[1] / "benchmarks"
IMAGE, ANCHORS, BOXES = (256, 320), 20_460, 100


def run_script(name, *arguments):
    """What a benchmark prints; libtpu ends a process in which a check of it fails."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed: pip install libtpu")
    command = [sys.executable, SCRIPTS / name, *arguments]
    done = subprocess.run(
        list(map(str, command)), check=True, capture_output=True, text=True
    )
    return done.stdout


def compile_for_tpu(program):
    sizes = ["--image", *IMAGE, "--boxes", BOXES, "--channels", 24, "--chips", 8]
    return json.loads(
        run_script("tpu_compile.py", "--json", "--programs", program, *sizes)
    )


def test_training_step_stores_nothing_of_size_anchors_times_boxes():
    report = compile_for_tpu("step")
    assert math.prod(report["largest"]) < ANCHORS * BOXES / 8
    assert report["temp_bytes"] < 4 * ANCHORS * BOXES
    assert set(report["collectives"]) == {"all-reduce"}  # the sums over all images
    assert report["collectives_in_loops"] == 0


def test_a_stored_matrix_would_be_seen():
    report = compile_for_tpu("dense")
    assert math.prod(report["largest"]) == ANCHORS * BOXES


PROGRAM = """
%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(f32[] %x, f32[] %y)
}
%turn (state: (s32[], bf16[8,4])) -> (s32[], bf16[8,4]) {
  %gathered = (bf16[1,4]{1,0}, bf16[8,4]{1,0}) all-gather-start(bf16[1,4] %row), \
replica_groups=[2,8]<=[16], dimensions={0}
}
ENTRY %main (x: f32[3,5]) -> f32[3,5] {
  %both = (f32[3,5]{1,0:T(8,128)}, f32[]) all-reduce(f32[3,5] %x, f32[] %l), \
replica_groups={{0,1,2,3}}, to_apply=%add
  %one = f32[] all-reduce(f32[] %l), replica_groups=mesh['data'=16] {'data'}
  %loop = (s32[], bf16[8,4]) while(%start), condition=%stop, body=%turn
}
"""


def test_collectives_are_read_with_their_bytes_and_loops(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    read = importlib.import_module("tpu_hlo").read_collectives
    gathered, reduced, one = read(PROGRAM)
    assert gathered == ("all-gather", 2 * 8 * 4, 8, True, ((8, 4),))
    assert reduced == ("all-reduce", 4 * 15 + 4, 4, False, ((3, 5), ()))
    assert one == ("all-reduce", 4, 16, False, ((),))


def test_suppression_on_several_chips_needs_no_message_between_them():
    lines = run_script("nms.py", "--tpu").splitlines()
    reports = [json.loads(line) for line in lines]
    assert [report["shape"] for report in reports] == [[12_000], [16, 5, 2000]]
    for report in reports:
        assert report["temp_bytes"] < 8 * 2**20
        assert report["loops"] == 1
        assert report["collectives"] == []
