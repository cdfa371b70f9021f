"""The time that training waits for data, as the log has it."""

from typing import Any

import jax.numpy as jnp
import pytest

from rpn_jax.train import StepMetrics, metrics_window


def test_the_share_of_waiting_starts_again_with_every_window(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(metrics_window.time, "perf_counter", lambda: now[0])

    def batches():
        while True:
            now[0] += 3.0
            yield None

    endless: Any = batches()
    window = metrics_window.Window(4)
    shares = []
    for seconds in (1.0, 9.0):
        window.take(endless)
        window.add(StepMetrics(*[jnp.float32(1.0)] * len(StepMetrics._fields)))
        now[0] += seconds
        values = window.close()
        shares.append(values["data_wait"])
        assert values["images_per_second"] == pytest.approx(4 / (3.0 + seconds))
    assert shares == pytest.approx([0.75, 0.25])
