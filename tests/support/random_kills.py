"""Kills runs at random moments on random numbers of devices; by hand, for hours.

    python tests/support/random_kills.py --kills 100 --seed 1

A chain is one run: it is started, killed, and resumed on another number of processes
and devices, until it comes to its end. Then nothing may be lost: the images of every
step, the samples, the evaluations and the weights are compared with those of a run
that nobody disturbed. Chains with an even seed stay on one shape, and must agree to
the bit.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from support import many_processes

SHAPES = ((1, 1), (1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (4, 1))
STEPS = 12
FLAGS = [
    *("--batch-size", "4", "--seed", "4", "--steps", str(STEPS)),
    *("--checkpoint-every", "2", "--log-every", "1", "--eval-every", "4"),
    *("--optimizer.name", "sgd"),
    *("--pipeline.min-side", "64", "--pipeline.max-side", "96"),
]
EXACT = ("unsampled_fraction", "positives")  # see `many_processes`
MOST_SECONDS = 600.0  # after which a run counts as lost


def lines_of(path):
    """The intact lines of a log."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def rows_by_step(folder, name):
    """The rows of each step, as the last process that read them recorded them."""
    parts = {}
    for path in folder.glob(f"{name}.*.rows"):
        number = int(path.name.split(".")[-2])
        for line in path.read_text().splitlines():
            step, moment, rows = line.split(" ", 2)
            parts.setdefault(int(step), []).append(
                (int(moment), number, json.loads(rows))
            )
    return {step: _newest(found) for step, found in parts.items()}


def _newest(found):
    # The parts that together make the batch of the newest attempt are the newest ones.
    # A process that was killed before it read leaves no part, and the step comes again.
    rows, batch = {}, 0
    for _, number, part in sorted(found, reverse=True):
        if batch == 4:
            break
        if number not in rows:
            rows[number], batch = part, batch + len(part)
    return [row for number in sorted(rows) for row in rows[number]]


class Chains:
    """Runs chains, and compares each with runs that nobody disturbed."""

    def __init__(self, folder):
        self.fleet = many_processes.Fleet(folder)
        self.folder, self.kills, self.lost, self.seconds = folder, 0, [], {}

    def undisturbed(self, shape):
        """Runs a shape to its end."""
        name, began = "plain_{}x{}".format(*shape), time.monotonic()
        if shape in self.seconds:
            return name
        ended = self.fleet.run(name, FLAGS, *shape, changes=[many_processes.be_small])
        assert all(part.status == 0 for part in ended), ended
        self.seconds[shape] = time.monotonic() - began
        return name

    def chain(self, seed):
        """Runs a chain to its end, and says whether nothing was lost."""
        rng, name, kills = random.Random(seed), f"chain_{seed}", 0
        fixed = rng.choice(SHAPES) if seed % 2 == 0 else None
        shapes = []
        while True:
            shape = fixed or rng.choice(SHAPES)
            shapes.append("{}x{}".format(*shape))
            if self._attempt(rng, name, shape, resume=bool(kills)):
                break
            kills += 1
            self.kills += 1
        faults = self._faults(name, shape, fixed)
        if faults:
            self.lost.append(seed)
        say(
            f"seed {seed}: {kills} kills on {' '.join(shapes)}: "
            f"{', '.join(faults) or 'nothing lost'}; {self.kills} kills so far, "
            f"{len(self.lost)} chains lost"
        )
        for path in self.folder.glob(f"{name}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _attempt(self, rng, name, shape, *, resume):
        """Starts the run and kills it, unless it ends first; says whether it ended."""
        self.undisturbed(shape)
        flags = [*FLAGS, *["--resume"] * resume]
        began = time.monotonic()
        started = self.fleet.launch(
            name, flags, *shape, changes=[many_processes.be_small]
        )
        moment = began + rng.uniform(0.1, 1.0) * self.seconds[shape]
        # One process alone in a third of the cases, otherwise all of them.
        victims = [rng.choice(started)] if rng.random() < 0.33 else started
        while time.monotonic() < moment and any(x.is_alive() for x in started):
            time.sleep(0.002)
        killed = [x for x in victims if x.is_alive()]
        for process in killed:
            process.kill()
        statuses = [x.status for x in self.fleet.join(name, started, MOST_SECONDS)]
        if None in statuses:
            raise AssertionError(f"{name}: a process did not end, {statuses}")
        if not killed and any(statuses):
            reports = [x.report[-2000:] for x in self.fleet.join(name, started, 1)]
            raise AssertionError(f"{name}: ended with {statuses}: {reports}")
        if not any(statuses):
            self.seconds[shape] = 0.5 * (self.seconds[shape] + time.monotonic() - began)
        return not any(statuses)

    def _faults(self, name, shape, fixed):
        """What a chain lost, in words."""
        plain = self.undisturbed(shape)
        logs = [lines_of(self.folder / x / "metrics.jsonl") for x in (name, plain)]
        evaluations = [
            lines_of(self.folder / x / "evaluations.jsonl") for x in (name, plain)
        ]
        rows = [rows_by_step(self.folder, x) for x in (name, plain)]
        states = [
            [*np.load(self.folder / f"{x}.0.npz").values()] for x in (name, plain)
        ]
        faults = []
        if [line["step"] for line in logs[0]] != [*range(1, STEPS + 1)]:
            faults.append("steps")
        if rows[0] != rows[1]:
            faults.append(f"images {rows}")
        samples = [[[line[key] for key in EXACT] for line in log] for log in logs]
        if samples[0] != samples[1]:
            faults.append("samples")
        if [x["step"] for x in evaluations[0]] != [x["step"] for x in evaluations[1]]:
            faults.append("evaluations")
        pairs = [*zip(*states, strict=True)]
        largest = max(
            float(
                np.max(np.abs(a.astype(np.float64) - b.astype(np.float64)), initial=0)
            )
            for a, b in pairs
        )
        if fixed and (any((a != b).any() for a, b in pairs) or logs_differ(logs)):
            faults.append(f"bits, by {largest:.1e}")
        if any(not np.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in pairs):
            faults.append(f"weights, by {largest:.1e}")
        say(f"  largest difference of a weight: {largest:.1e}")
        return faults


def logs_differ(logs):
    """Whether the losses of two logs differ in a bit."""
    first, second = ([x["loss"] for x in log] for log in logs)
    return first != second


def say(text):
    """Prints a line at once."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def main():
    """Runs chains until there were enough kills."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= many_processes.shared_programs(pathlib.Path(folder))
        chains, seed = Chains(pathlib.Path(folder)), options.seed
        while chains.kills < options.kills:
            chains.chain(seed)
            seed += 1
    say(f"{chains.kills} kills, chains lost: {chains.lost or 'none'}")


if __name__ == "__main__":
    main()
