"""What happens if one of two processes fails, and after it; by hand, for an hour.

    python tests/support/chaos_matrix.py                       # the whole matrix
    python tests/support/chaos_matrix.py kill:step:1 stop:save:0

A case is a fault, its place and the number of the process; see `faults`. Both processes
have to end within the bound, and to say what happened. The run is then resumed, and its
weights, its images, its log and its evaluations are compared with those of a run that
nobody disturbed. The script prints a row of a table for each case.
"""

import argparse
import functools
import json
import math
import os
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from support import faults, many_processes

BATCH_SIZE, STEPS = 4, 12
FLAGS = [
    *("--batch-size", str(BATCH_SIZE), "--seed", "4", "--steps", str(STEPS)),
    *("--checkpoint-every", "4", "--log-every", "2", "--eval-every", "4"),
    *("--pipeline.min-side", "64", "--pipeline.max-side", "96"),
    *("--optimizer.name", "sgd"),
]
MOST_SECONDS = 300.0  # after which a process counts as one that hangs
PLACES = ("step", "save", "evaluation")
FAILURES = ("kill", "terminate", "terminate twice", "stop", "sleep", "error")
CASES = [
    *(f"{kind}:{place}:{n}" for kind in FAILURES for place in PLACES for n in (1, 0)),
    *("full:save:1", "full:save:0", "torn:save:1", "torn:save:0"),
    *("image:step:1", "image:step:0", "image:evaluation:1", "image:evaluation:0"),
]
MEANINGLESS = re.compile("error:save|terminate twice:(save|evaluation)")
TIMED = ("images_per_second", "data_wait")


def lines_of(path):
    """The intact lines of a log, without times."""
    text = path.read_text() if path.exists() else ""
    lines = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
    return [{k: v for k, v in line.items() if k not in TIMED} for line in lines]


def newest_rows(folder, name):
    """The rows that each process read at each step, when it last read it."""
    found = {}
    for path in folder.glob(f"{name}.*.rows"):
        for line in path.read_text().splitlines():
            step, _, rows = line.split(" ", 2)
            found[path.name.split(".")[-2], int(step)] = rows
    return found


def result_of(folder, name):
    """Everything that must not depend on what happened on the way."""
    states = [
        [*np.load(path).values()] for path in sorted(folder.glob(f"{name}.?.npz"))
    ]
    return {
        "weights": [[x.tobytes() for x in state] for state in states],
        "images": newest_rows(folder, name),
        "log": lines_of(folder / name / "metrics.jsonl"),
        "evaluations": lines_of(folder / name / "evaluations.jsonl"),
    }


def tear(folder, process):
    """Cuts a file that a process has written off, in the newest checkpoint."""
    newest = max((folder / "checkpoints").iterdir(), key=lambda x: int(x.name))
    parts = [x for x in newest.rglob("*") if f"process_{process}" in str(x)]
    largest = max((x for x in parts if x.is_file()), key=lambda x: x.stat().st_size)
    with largest.open("r+b") as file:
        file.truncate(largest.stat().st_size // 2)


class Matrix:
    """Runs cases in one folder, in processes that share what they compile."""

    def __init__(self, folder):
        self.fleet, self.folder = many_processes.Fleet(folder), folder
        self.results = {}

    def expected(self, broken=None, process=None):
        """What a run that nobody disturbed comes to, on the same two processes."""
        name = f"plain_{broken}_{process}" if broken else "plain"
        if name not in self.results:
            changes = [many_processes.be_small]
            if broken:
                changes.append(_image(broken, process, everywhere=True))
            ended = self.fleet.run(name, FLAGS, processes=2, changes=changes)
            assert [part.status for part in ended] == [0, 0], ended
            self.results[name] = result_of(self.folder, name)
        return self.results[name]

    def case(self, case):
        """Runs a case, and prints its row."""
        kind, place, number = case.split(":")
        broken = place if kind == "image" else None
        process = int(number)
        expected = self.expected(broken, process)
        what = ("kill", "after") if kind == "torn" else (kind, place)
        marker = str(self.folder / "case.fault")
        change = functools.partial(faults.inject, *what, process, marker)
        if kind == "image":
            change = _image(place, process, everywhere=False)
        changes = [many_processes.be_small, change]
        started = self.fleet.launch("case", FLAGS, processes=2, changes=changes)
        seconds = self._wait(started, stopped=process if kind == "stop" else None)
        ended = self.fleet.join("case", started, 1)
        if kind == "torn":
            tear(self.folder / "case", process)
        digest = "no resuming needed"
        if kind != "image":
            flags = [*FLAGS, "--resume"]
            rest = self.fleet.run(
                "case", flags, processes=2, changes=[many_processes.be_small]
            )
            digest = f"resumed with {[part.status for part in rest]}"
        different = _differences(result_of(self.folder, "case"), expected)
        digest += f", differs: {different}" if different else ", equal"
        say(case, seconds, ended, digest)
        self._clear()

    def _clear(self):
        for path in self.folder.glob("case*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _wait(self, started, stopped=None):
        """Seconds from the fault, or from waking up, to the end of each process."""
        marker, began, ended = self.folder / "case.fault", time.monotonic(), {}
        since = [math.nan, math.nan]
        while len(ended) < 2 and time.monotonic() - began < MOST_SECONDS:
            now = time.monotonic()
            if math.isnan(since[0]) and marker.exists():
                since, began = [now, now], now
            for place, process in enumerate(started):
                if place not in ended and not process.is_alive():
                    ended[place] = now - since[place]
            if stopped is not None and [*ended] == [1 - stopped]:
                # It wakes after the other one has ended.
                os.kill(started[stopped].pid, signal.SIGCONT)
                since[stopped], stopped = now, None
            time.sleep(0.02)
        for process in started:
            process.kill()
        return [ended.get(place, math.inf) for place in (0, 1)]


def _image(place, process, *, everywhere):
    return functools.partial(
        faults.break_image,
        place,
        process,
        everywhere=everywhere,
        batch_size=BATCH_SIZE,
    )


def _differences(found, expected):
    return [name for name in expected if found[name] != expected[name]]


def say(case, seconds, ended, digest):
    """Prints a row of the table."""
    times = ", ".join(f"{x:.1f}" for x in seconds)
    statuses = ", ".join(str(part.status) for part in ended)
    texts = [
        line
        for part in ended
        for line in part.report.splitlines()
        if "rpn-jax: " in line or "SIGTERM" in line
    ]
    message = " / ".join(dict.fromkeys(x.split(". All proc")[0] for x in texts))
    sys.stdout.write(
        f"{time.strftime('%H:%M:%S')} | {case} | {times} | {statuses} | {message} | "
        f"{digest} |\n"
    )
    sys.stdout.flush()


def main():
    """Runs the cases that the command line names, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*")
    options = parser.parse_args()
    cases = options.cases or [x for x in CASES if not MEANINGLESS.match(x)]
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= many_processes.shared_programs(pathlib.Path(folder))
        matrix = Matrix(pathlib.Path(folder))
        for case in cases:
            matrix.case(case)


if __name__ == "__main__":
    main()
