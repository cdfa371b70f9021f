"""The time that training waits for data, as the log has it."""

from typing import Any

import jax.numpy as jnp
import pytest

from rpn_jax.train import StepMetrics, metrics_window


class Running:
    """A metric of a step that still runs."""

    def is_ready(self):
        return False


@pytest.fixture
def now(monkeypatch):
    """A clock that a test moves."""
    seconds = [0.0]
    monkeypatch.setattr(metrics_window.time, "perf_counter", lambda: seconds[0])
    return seconds


def slow_batches(now) -> Any:
    """Batches that take three seconds each."""
    while True:
        now[0] += 3.0
        yield None


@pytest.mark.parametrize(("is_running", "said"), [(False, ["30 %"]), (True, [])])
def test_a_run_that_waits_for_images_says_so(is_running, said, now, caplog):
    endless = slow_batches(now)
    window = metrics_window.Window(4)
    running: Any = Running()
    for _ in range(4):  # before the first batch, nothing could be read ahead
        window.take(endless)
        if is_running:
            window.add(StepMetrics(*[running] * len(StepMetrics._fields)))
        now[0] += 5.25
    window.report()
    begins = [x.getMessage()[:4] for x in caplog.records]
    assert begins == said


def test_the_share_of_waiting_starts_again_with_every_window(now):
    endless = slow_batches(now)
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
