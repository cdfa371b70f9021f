"""Runs of more processes than the tests start; by hand, and for some minutes.

    python tests/support/process_matrix.py same 1x1 1x8 2x4 4x2   # processes x devices
    python tests/support/process_matrix.py bits 1x1 1x8 2x2 4x2 2x4
    python tests/support/process_matrix.py failures kill_1 stop_0

`same` compares images, samples and losses with those of the first shape, and with the
two deliberate faults that a comparison must notice. `failures` prints after how many
seconds each of two processes ended, with its status and its message.
"""

import argparse
import json
import math
import os
import pathlib
import signal
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from support import many_processes

FLAGS = [
    *("--batch-size", "8", "--seed", "4"),
    *("--checkpoint-every", "1000000", "--log-every", "1"),
    *("--pipeline.min-side", "64", "--pipeline.max-side", "96"),
]
FAULTS = {
    "rank": many_processes.use_a_key_of_the_rank,
    "shard": many_processes.drop_a_shard,
}
CHANGES = {
    "error_0": many_processes.fail_first_at_step_5,
    "error_1": many_processes.fail_at_step_5,
    "sleep_1": many_processes.sleep_at_step_5,
}
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def logged(fleet, name):
    """The lines of the log of a run."""
    path = fleet.folder / name / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def compare(fleet, shapes):
    """Prints whether runs of several shapes are the same."""
    expected = None
    for shape in [*shapes, *(f"2x1:{fault}" for fault in FAULTS)]:
        size, _, fault = shape.partition(":")
        processes, devices = map(int, size.split("x"))
        flags = [*FLAGS, "--steps", "6"]
        change = FAULTS.get(fault)
        ended = fleet.run(shape, flags, processes, devices, change)
        lines = logged(fleet, shape)
        found = (
            np.concatenate([part.rows for part in ended], axis=1),
            [line["unsampled_fraction"] for line in lines],
            np.array([line["loss"] for line in lines]),
        )
        expected = expected or found
        difference = np.max(np.abs(found[2] / expected[2] - 1))
        sys.stdout.write(
            f"{shape}: images {np.array_equal(found[0], expected[0])}, samples "
            f"{found[1] == expected[1]}, losses differ by {difference:.1e}\n"
        )
        sys.stdout.flush()


def compare_bits(fleet, shapes):
    """Prints the digests of all weights after six steps."""
    for flag in (["--deterministic"], []):
        found = set()
        for shape in shapes:
            processes, devices = map(int, shape.split("x"))
            flags = [*FLAGS, "--steps", "6", *flag]
            name = f"{shape}{''.join(flag)}"
            ended = fleet.run(name, flags, processes, devices)
            digests = {part.report.split()[-1] for part in ended}
            found |= digests
            sys.stdout.write(f"{name}: {' '.join(x[:16] for x in digests)}\n")
            sys.stdout.flush()
        sys.stdout.write(f"{len(found)} different of {len(shapes)}\n")


def fail(fleet, name):
    """Prints how two processes end after one of them failed."""
    kind, number = name.split("_")
    flags = [*FLAGS, "--steps", "1000000"]
    started = fleet.launch(name, flags, 2, 1, CHANGES.get(name))
    while len(logged(fleet, name)) < 5 and all(x.is_alive() for x in started):
        time.sleep(0.01)
    since, ended = time.monotonic(), {}
    if kind in SIGNALS:
        os.kill(started[int(number)].pid, SIGNALS[kind])
    while len(ended) < 2 and time.monotonic() - since < 100:
        for place, process in enumerate(started):
            if place not in ended and not process.is_alive():
                ended[place] = time.monotonic() - since
        if kind == "stop" and ended and started[int(number)].is_alive():
            os.kill(started[int(number)].pid, signal.SIGCONT)  # it wakes afterwards
        time.sleep(0.05)
    for place, part in enumerate(fleet.join(name, started, 1)):
        sys.stdout.write(
            f"{name}: process {place} after {ended.get(place, math.inf):.1f} s, status "
            f"{part.status}, {part.report[-300:]}\n"
        )
    sys.stdout.flush()


def main():
    """Runs what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("same", "bits", "failures"))
    parser.add_argument("names", nargs="+")
    options = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    with tempfile.TemporaryDirectory() as folder:
        fleet = many_processes.Fleet(pathlib.Path(folder))
        if options.what == "same":
            compare(fleet, options.names)
        elif options.what == "bits":
            compare_bits(fleet, options.names)
        else:
            for name in options.names:
                fail(fleet, name)


if __name__ == "__main__":
    main()
