"""Compares the input pipeline with torchvision's: images per second of a core.

    python benchmarks/pipeline.py --photos FOLDER  # some minutes; see --help

Both sides read the same JPEGs, resize them, mirror half of them, scale the boxes, and
pad the images to batches of 8-bit RGB. torchvision does this in a `DataLoader`, once
with `read_image` and tensors, and once with Pillow. rpn_jax does it with Pillow, and
with OpenCV. All read in the main thread, without worker processes. A core's second is a
second of CPU time, so that a busy machine changes the numbers less than the clock.
"""

import argparse
import importlib
import itertools
import json
import operator
import pathlib
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from typing import Any

from PIL import Image

from rpn_jax.data import PipelineConfig, Scenes, read_coco, train_batches

# By name, because both are optional.
torch: Any = importlib.import_module("torch")
torchvision: Any = importlib.import_module("torchvision")
functional: Any = importlib.import_module("torchvision.transforms.v2.functional")

ORIGINAL = (480, 640)
BOX = [40.0, 30.0, 200.0, 160.0]
BOXES_PER_IMAGE = 7  # about the mean of COCO
MULTIPLE = 32


class Photos:
    """Reads, resizes and mirrors the images, as torchvision's references do."""

    def __init__(self, paths: list[str], size: tuple[int, int], backend: str) -> None:
        self._paths, self._size, self._backend = paths, size, backend

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, row: int) -> tuple[Any, Any]:
        if self._backend == "read_image":
            image: Any = torchvision.io.read_image(
                self._paths[row], torchvision.io.ImageReadMode.RGB
            )
        else:
            image = Image.open(self._paths[row]).convert("RGB")
        image = functional.resize(image, list(self._size), antialias=True)
        boxes = torch.tensor([BOX] * BOXES_PER_IMAGE)
        boxes = boxes * (self._size[0] / ORIGINAL[0])
        if random.random() < 0.5:
            image = functional.horizontal_flip(image)
            boxes[:, [0, 2]] = self._size[1] - boxes[:, [2, 0]]
        if self._backend != "read_image":
            image = functional.pil_to_tensor(image)
        return image, boxes


def pad_to_batch(items: list[tuple[Any, Any]]) -> tuple[Any, list[Any]]:
    """Pads images to one shape, below and to the right."""
    height, width = (
        -(-max(image.shape[axis] for image, _ in items) // MULTIPLE) * MULTIPLE
        for axis in (1, 2)
    )
    batch = torch.zeros(len(items), 3, height, width, dtype=torch.uint8)
    for place, (image, _) in zip(batch, items, strict=True):
        place[:, : image.shape[1], : image.shape[2]].copy_(image)
    return batch, [boxes for _, boxes in items]


def make_photos(folder: pathlib.Path, originals: str | None, number: int) -> None:
    """Writes 640 x 480 JPEGs of quality 90, and a COCO file."""
    height, width = ORIGINAL
    if originals is None:
        scenes = Scenes(0, number, size=ORIGINAL)
        images = (Image.fromarray(scenes.pixels(row)) for row in range(number))
    else:
        paths = sorted(pathlib.Path(originals).rglob("*.jp*g"))
        images = (Image.open(path) for path in itertools.cycle(paths))
    content: dict[str, list[Any]] = {"images": [], "annotations": []}
    for row, image in enumerate(itertools.islice(images, number), 1):
        name = f"{row:04d}.jpg"
        image.convert("RGB").resize((width, height)).save(folder / name, quality=90)
        content["images"].append(
            {"id": row, "file_name": name, "height": height, "width": width}
        )
        x0, y0, x1, y1 = BOX
        content["annotations"] += [
            {"image_id": row, "bbox": [x0 + i, y0, x1 - x0, y1 - y0], "category_id": 1}
            for i in range(BOXES_PER_IMAGE)
        ]
    (folder / "photos.json").write_text(json.dumps(content))


def make_sides(
    folder: pathlib.Path, size: tuple[int, int], options: argparse.Namespace
) -> dict[str, Callable[[], Generator[Any, None, None]]]:
    """Functions that start an endless iterator of batches, by the name of the side."""
    source = read_coco(folder / "photos.json", folder)
    paths = sorted(str(path) for path in folder.glob("*.jpg"))

    def ours(**settings: Any) -> Generator[Any, None, None]:
        config = PipelineConfig(
            min_side=min(size), max_side=max(size), threads=0, **settings
        )
        return train_batches(source, config, batch_size=options.batch_size, seed=0)

    def theirs(backend: str) -> Generator[Any, None, None]:
        loader = torch.utils.data.DataLoader(
            Photos(paths, size, backend),
            batch_size=options.batch_size,
            shuffle=True,
            drop_last=True,
            collate_fn=pad_to_batch,
        )
        while True:
            yield from loader

    sides = {
        "rpn_jax": ours,
        "rpn_jax, reduced_decoding=False": lambda: ours(reduced_decoding=False),
        "rpn_jax, OpenCV": lambda: ours(image_library="opencv"),
        "torchvision, Pillow": lambda: theirs("Pillow"),
    }
    try:
        torchvision.io.read_image(paths[0])
    except RuntimeError as error:
        print(f"torchvision has no read_image here: {error}")
    else:
        sides["torchvision, read_image"] = lambda: theirs("read_image")
    return sides


def measure(batches: Generator[Any, None, None], number: int, batch_size: int) -> float:
    """Images per CPU second over a number of batches."""
    began = time.process_time()
    for _ in range(number):
        next(batches)
    return number * batch_size / (time.process_time() - began)


def main() -> None:
    """Measures every size, the sides in turns, and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", help="folder of photographs; default: scenes")
    parser.add_argument("--number", type=int, default=128, help="number of JPEGs")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=6, help="batches per round")
    parser.add_argument("--sizes", type=int, nargs="+", default=[240, 480, 800])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| shorter side | side | images/s of a core | rpn_jax / it | OpenCV / it |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        make_photos(folder, options.photos, options.number)
        for side in options.sizes:
            size = (side, round(side * ORIGINAL[1] / ORIGINAL[0]))
            print_size(side, make_sides(folder, size, options), options)


def print_size(
    side: int,
    sides: dict[str, Callable[[], Generator[Any, None, None]]],
    options: argparse.Namespace,
) -> None:
    """Measures the sides in turns, and prints their medians."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    started = {name: make() for name, make in sides.items()}
    for batches in started.values():
        next(batches)
    for _ in range(options.rounds):
        for name, batches in started.items():
            speed = measure(batches, options.batches, options.batch_size)
            found[name].append(speed)
    ours, with_opencv = found["rpn_jax"], found["rpn_jax, OpenCV"]
    for name, speeds in found.items():
        # Rounds are compared with their neighbours, which the same load slowed down.
        ratios = " | ".join(
            f"{statistics.median(map(operator.truediv, of_us, speeds)):.2f}"
            for of_us in (ours, with_opencv)
        )
        speed = statistics.median(speeds)
        print(f"| {side} | {name} | {speed:.0f} | {ratios} |", flush=True)
    for batches in started.values():
        batches.close()


if __name__ == "__main__":
    main()
