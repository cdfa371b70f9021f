"""`metrics.jsonl` after the process was killed or the machine has crashed."""

import json

import pytest

from rpn_jax.train import MetricsLog, read_metrics

LINES = [json.dumps({"step": step, "loss": step / 8}).encode() for step in (1, 2, 3)]


def written(folder, content):
    path = folder / "metrics.jsonl"
    path.write_bytes(content)
    return path


def test_an_incomplete_last_line_is_dropped_without_a_word(tmp_path, caplog):
    path = written(tmp_path, b"\n".join([*LINES, b'{"step": 4, "lo']))
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3]
    assert not caplog.records


@pytest.mark.parametrize(
    ("content", "steps"),
    [
        (b"\n".join([*LINES, b"\0" * 300]), [1, 2, 3]),
        (b"\n".join([*LINES, b"\0" * 300, b""]), [1, 2, 3]),
        (b"\n".join([LINES[0], b"\0" * 9 + LINES[1], LINES[2], b""]), [1, 2, 3]),
        (b"\n".join([LINES[0], LINES[1] + b"\0" * 9, b""]), [1, 2]),
        (b'{"step": 1, "loss": 2\0\0.5}\n' + LINES[1] + b"\n", [2]),
        (b"\0" * 50, []),
        (LINES[0] + b'\n{"step": 2, "lo\n' + LINES[2] + b"\n", [1, 3]),
        (LINES[0] + b"\n\xff\xfe\n", [1]),
        (LINES[0] + b"\n[1]\n", [1]),
        (LINES[0] + b'\n{"loss": 1}\n', [1]),
        (LINES[0] + b'\n{"step": "1"}\n', [1]),
        (LINES[0] + b"\n" + b"[" * 100_000 + b"\n", [1]),
    ],
)
def test_damage_by_a_crash_costs_its_lines_and_names_the_file(
    content, steps, tmp_path, caplog
):
    path = written(tmp_path, content)
    assert [line["step"] for line in read_metrics(path)] == steps
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{path} is damaged in 1 lines; what cannot be read is left out."
    )


@pytest.mark.parametrize("content", [b"", b"\r\n".join([*LINES, b""]), b"\n\n\n"])
def test_empty_lines_and_those_of_windows_are_no_damage(content, tmp_path, caplog):
    assert len(read_metrics(written(tmp_path, content))) == content.count(b"{")
    assert not caplog.records


def test_a_resumed_run_goes_on_after_the_last_intact_line(tmp_path):
    written(tmp_path, b"\n".join([*LINES, b"\0" * 300]))
    log = MetricsLog(tmp_path, step=2)
    log.write(3, {"loss": 0.5})
    log.close()
    lines = read_metrics(log.path)
    assert [(x["step"], x["loss"]) for x in lines] == [(1, 0.125), (2, 0.25), (3, 0.5)]
    assert b"\0" not in log.path.read_bytes()
