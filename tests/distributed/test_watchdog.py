"""How a process of a run ends because of a failure; real processes are in others."""

import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from rpn_jax.distributed import last_words, preemption, watchdog
from rpn_jax.distributed.judgement import Verdict


def test_an_error_after_the_verdict_waits_for_the_end(monkeypatch, capsys):
    dog = watchdog.Watchdog()
    ended = []
    monkeypatch.setattr(watchdog.os, "_exit", ended.append)
    monkeypatch.setattr(watchdog.time, "sleep", lambda _: None)
    dog._leave(
        Verdict(process=1, host="b7", when="at step 3", cause="it was killed"), 75
    )
    late = threading.Thread(target=dog.fail, args=(OSError("gone"),), daemon=True)
    late.start()
    late.join(0.2)
    assert late.is_alive()
    assert ended == [75]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rpn-jax: error: process 1 on b7 ended the run at step 3")


def test_a_wanted_end_is_no_failure(monkeypatch, capsys):
    dog = watchdog.Watchdog()
    ended = []
    monkeypatch.setattr(watchdog.os, "_exit", ended.append)
    monkeypatch.setattr(watchdog.time, "sleep", lambda _: None)
    dog.leave_all("nothing was started")
    assert ended == []
    dog._is_on = True
    dog.leave_all("SIGTERM ended the evaluation.")
    assert ended == [0]
    assert capsys.readouterr().err == "rpn-jax: SIGTERM ended the evaluation.\n"


def test_sigterm_ends_an_evaluation_of_several_processes_while_one_waits(monkeypatch):
    monkeypatch.setattr(preemption.jax, "process_count", lambda: 2)
    told, has_left = [], threading.Event()
    monkeypatch.setattr(preemption.watchdog, "leave_all", told.append)
    monkeypatch.setattr(preemption.os, "_exit", lambda _: has_left.set())
    with preemption.exit_on_sigterm("It is saved."):
        os.kill(os.getpid(), signal.SIGTERM)
        assert has_left.wait(20)  # as the main thread waits for another process
    assert told == ["It is saved."]


# The file is loaded by itself, which is faster than importing the package.
SPEAKER = """
import runpy, sys
words = runpy.run_path(sys.argv[3])["LastWords"](sys.argv[1])
words.keep("early", if_alone="early")
words.keep("it was killed", if_alone="process 0 is gone")
if sys.argv[2] == "dismissed":
    words.dismiss()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("answers", "it was killed\n"),
        ("gone", "process 0 is gone\n"),
        ("dismissed", ""),
    ],
)
def test_a_killed_process_leaves_its_last_words(state, expected):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        speaker = subprocess.Popen(
            [sys.executable, "-c", SPEAKER, address, state, last_words.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert speaker.stdout is not None
        assert speaker.stdout.readline() == "ready\n"
        if state == "gone":
            server.close()
        os.kill(speaker.pid, signal.SIGKILL)
        _, said = speaker.communicate()
    assert said == expected
