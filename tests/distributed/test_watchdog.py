"""How a process of a run ends because of a failure; real processes are in others."""

import threading

from rpn_jax.distributed import watchdog
from rpn_jax.distributed.judgement import Verdict


def test_an_error_after_the_verdict_waits_for_the_end(monkeypatch, capsys):
    dog = watchdog.Watchdog()
    ended = []
    monkeypatch.setattr(watchdog.os, "_exit", ended.append)
    monkeypatch.setattr(watchdog.time, "sleep", lambda _: None)
    dog._leave(Verdict(process=1, step=3, cause="it was killed", host="b7"), 75)
    late = threading.Thread(target=dog.fail, args=(OSError("gone"),), daemon=True)
    late.start()
    late.join(0.2)
    assert late.is_alive()
    assert ended == [75]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rpn-jax: error: process 1 on b7 ended the run at step 3")
