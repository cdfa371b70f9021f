"""Compares runs of several shapes with the real network; by hand, for some minutes.

    python tests/support/process_matrix.py same 1x1 1x8 2x4 4x2   # processes x devices
    python tests/support/process_matrix.py bits 1x1 1x8 2x2 4x2 2x4

`same` compares images, samples and losses with those of the first shape, and with the
two deliberate faults that a comparison must notice. `bits` prints the digests of the
weights. `chaos_matrix.py` lets processes fail.
"""

import argparse
import json
import os
import pathlib
import sys
import tempfile

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
        changes = [FAULTS[fault]] if fault else []
        ended = fleet.run(shape, flags, processes, devices, changes)
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


def main():
    """Compares the shapes that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("same", "bits"))
    parser.add_argument("shapes", nargs="+")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= many_processes.shared_programs(pathlib.Path(folder))
        fleet = many_processes.Fleet(pathlib.Path(folder))
        if options.what == "same":
            compare(fleet, options.shapes)
        else:
            compare_bits(fleet, options.shapes)


if __name__ == "__main__":
    main()
