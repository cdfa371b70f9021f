"""Times exported networks: ours and torchvision's in ONNX Runtime, and ours in JAX.

    python benchmarks/export.py                    # minutes; see --help

It needs PyTorch, torchvision, onnx, onnxruntime and jax2onnx. A detector of torchvision
gets random weights, scaled so that its scores differ, and its backbone, pyramid and RPN
become

* our `.onnx` and `.stablehlo` files, by `rpn-jax export --weights`;
* torchvision's own `.onnx` file, by `torch.onnx.export` of the same layers.

All see the same image, whose size they were exported for, and end with proposals. The
table has the median of single calls, in turns, and torchvision's time divided by ours.
Before that, it prints how many of torchvision's proposals ours agree with.
"""

import argparse
import importlib
import pathlib
import tempfile
from typing import Any

import numpy as np
from nms import print_header, print_row, time_by_turns, use_cores

MODELS = {
    "mobilenet": "fasterrcnn_mobilenet_v3_large_fpn",
    "resnet50": "fasterrcnn_resnet50_fpn",
}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=MODELS, default="mobilenet")
    parser.add_argument("--image", type=int, nargs=2, default=(480, 800))
    parser.add_argument("--threads", type=int, default=2, help="number of cores to use")
    parser.add_argument(
        "--repeats", type=int, default=11, help="number of calls per side"
    )
    options = parser.parse_args()
    use_cores(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        sides = make_sides(pathlib.Path(folder), options.model, tuple(options.image))
        found = {name: side() for name, side in sides.items()}
        print(f"{agreement(*found.values()):.1%} of torchvision's boxes are ours too")
        times = time_by_turns(*sides.values(), repeats=options.repeats)
    print_header("file, runtime", "ms", "torchvision's time / this time")
    for name, time in zip(sides, times, strict=True):
        print_row(name, f"{time:.1f}", f"{times[0] / time:.2f}")


def make_sides(folder: pathlib.Path, model: str, size: tuple[int, int]) -> Any:
    """Exports all files, and returns functions without arguments that run them."""
    import jax

    from rpn_jax import cli, export

    runtime = importlib.import_module("onnxruntime")
    pixels = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
    sizes = np.array([size], np.float32)
    theirs = export_torchvision(folder, MODELS[model], pixels)
    weights = ["--weights", str(folder / "weights.pth"), "--system", "torchvision"]
    shape = ["--image-size", *map(str, size)]
    for suffix in ("onnx", "stablehlo"):
        target = ["--to", str(folder / f"ours.{suffix}")]
        assert cli.main(["export", *weights, *target, *shape]) == 0
    session = runtime.InferenceSession(theirs, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    in_onnx, in_jax = (export.load(folder / f"ours.{x}") for x in ("onnx", "stablehlo"))

    def boxes(found: Any) -> np.ndarray:
        found = jax.device_get(found)
        return found.boxes[0][found.valid[0]]

    return {
        "torchvision.onnx, ONNX Runtime": lambda: session.run(None, {name: planes})[0],
        "rpn_jax.onnx, ONNX Runtime": lambda: boxes(in_onnx(pixels, sizes)),
        "rpn_jax.stablehlo, JAX": lambda: boxes(in_jax(pixels, sizes)),
    }


def export_torchvision(folder: pathlib.Path, name: str, pixels: np.ndarray) -> str:
    """Writes the weights of a detector, and its RPN as an ONNX model."""
    torch = importlib.import_module("torch")  # by name, because it is optional
    detection = importlib.import_module("torchvision.models.detection")
    lists = importlib.import_module("torchvision.models.detection.image_list")
    torch.manual_seed(0)
    detector = getattr(detection, name)(weights=None, weights_backbone=None).eval()
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
    planes = torch.tensor(pixels).permute(0, 3, 1, 2)
    with torch.no_grad():
        spread_predictions(detector, (planes / 255 - mean) / std)
    torch.save(detector.state_dict(), folder / "weights.pth")

    class Proposer(torch.nn.Module):
        """What torchvision computes from bytes to proposals."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.rpn = detector.backbone, detector.rpn

        def forward(self, planes: Any) -> Any:
            normal = (planes / 255 - mean) / std
            images = lists.ImageList(normal, [tuple(pixels.shape[1:3])])
            return self.rpn(images, self.backbone(normal))[0][0]

    path = str(folder / "theirs.onnx")
    torch.onnx.export(
        Proposer().eval(), (planes,), path, opset_version=17, dynamo=False
    )
    return path


def spread_predictions(detector: Any, images: Any) -> None:
    """Scales the random head: logits get a deviation of 1 on the images, deltas of 0.3.

    Without it, all probabilities are 0.5 in float32. torchvision suppresses in their
    order and rpn_jax in that of the logits, so different boxes would be kept.
    """
    head = detector.rpn.head
    found = head(list(detector.backbone(images).values()))
    wanted = ((head.cls_logits, 1.0), (head.bbox_pred, 0.3))
    for (layer, deviation), levels in zip(wanted, found, strict=True):
        layer.weight *= deviation / max(float(level.std()) for level in levels)


def agreement(theirs: np.ndarray, *ours: np.ndarray) -> float:
    """The share of torchvision's boxes that all of ours have within 0.01 pixels."""
    near = [
        (np.abs(theirs[:, None] - boxes[None]).max(axis=2) < 0.01).any(axis=1)
        for boxes in ours
    ]
    return float(np.logical_and.reduce(near).mean())


if __name__ == "__main__":
    main()
