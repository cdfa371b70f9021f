"""The work that `core.py` times, by `rpn_jax` and by torchvision on the same input.

Both sides take the NumPy arrays of one seeded `Case`. They return functions without
arguments, which do the work once and wait until it is done.
"""

import dataclasses
import functools
import importlib
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import rpn_jax
from rpn_jax import presets

Work = Callable[[], Any]
CHANNELS = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One size of the problem.

    Attributes:
        image: height and width of the padded images.
        batch: number of images.
        boxes: number of boxes per image.
        anchors: shapes and spacing of the anchors.
        sides: shortest and longest side of a box; sides are log-uniform in between.
        seed: seed of all random numbers.
    """

    image: tuple[int, int] = (800, 1344)
    batch: int
    boxes: int
    anchors: rpn_jax.AnchorConfig = presets.torchvision_fpn().anchors
    sides: tuple[float, float] = (16.0, 512.0)
    seed: int = 0

    @property
    def config(self) -> rpn_jax.RPNConfig:
        """The settings of torchvision with the anchors of this case."""
        return dataclasses.replace(presets.torchvision_fpn(), anchors=self.anchors)

    @property
    def feature_shapes(self) -> list[tuple[int, int]]:
        """Height and width of every level."""
        height, width = self.image
        strides = self.anchors.level_strides
        return [(math.ceil(height / y), math.ceil(width / x)) for y, x in strides]

    @property
    def grid(self) -> rpn_jax.AnchorGrid:
        """The anchors, with torchvision's strides: image size over map size."""
        return rpn_jax.make_anchors(self.anchors, self.feature_shapes, self.image)

    def ground_truth(self) -> np.ndarray:
        """Boxes `[b m 4]` with log-uniform sides, inside the image."""
        rng = np.random.default_rng(self.seed)
        shape = (self.batch, self.boxes, 2)
        image = np.array(self.image[::-1], np.float64)
        shortest, longest = np.log(self.sides)
        sides = np.exp(rng.uniform(shortest, longest, shape))
        sides = np.minimum(sides, image)
        corners = rng.uniform(0.0, 1.0, shape) * (image - sides)
        return np.concatenate([corners, corners + sides], -1).astype(np.float32)

    def predictions(self) -> tuple[np.ndarray, np.ndarray]:
        """Logits `[b n]` and deltas `[b n 4]`."""
        rng = np.random.default_rng(self.seed + 1)
        shape = (self.batch, len(self.grid))
        logits = rng.standard_normal(shape, np.float32)
        return logits, 0.1 * rng.standard_normal((*shape, 4), np.float32)

    def features(self) -> list[np.ndarray]:
        """Feature maps `[b h w c]`."""
        rng = np.random.default_rng(self.seed + 2)
        shapes = [(self.batch, *shape, CHANNELS) for shape in self.feature_shapes]
        return [rng.standard_normal(shape, np.float32) for shape in shapes]


CASES = {
    "S": Case(
        image=(608, 1008),  # 600 x 1000, padded to the stride
        batch=1,
        boxes=20,
        anchors=rpn_jax.AnchorConfig(
            sizes=((128, 256, 512),), strides=(16,), rounding="corners"
        ),
    ),
    "M": Case(batch=2, boxes=50),
    "L": Case(batch=8, boxes=200),
}


class Ours:
    """The side of `rpn_jax`: jitted functions of arrays on the default device."""

    name = "rpn_jax"

    def __init__(self, case: Case) -> None:
        self._case = case
        self._anchors = case.grid
        boxes = case.ground_truth()
        keys = jax.random.split(jax.random.key(case.seed), case.batch)
        self._truth = jax.device_put((keys, boxes, np.ones(boxes.shape[:2], bool)))

    def labels(self) -> np.ndarray:
        """Labels `[b n]` before sampling."""
        config = self._case.config.targets
        match = functools.partial(rpn_jax.match_anchors, config=config)
        _, boxes, valid = self._truth
        matches = jax.jit(jax.vmap(match, (None, 0, 0)))(self._anchors, boxes, valid)
        return np.asarray(matches.labels)

    def targets(self) -> rpn_jax.Targets:
        """The result of `assign`, for the losses of both sides."""
        return jax.device_get(jax.jit(self._assign)(*self._truth))

    def assign(self) -> Work:
        """Matches, samples and encodes."""
        return self._compiled(self._assign, *self._truth)

    def write(self) -> Work:
        """Fills arrays of the size of the targets: a lower bound for `assign`."""
        targets = jax.eval_shape(self._assign, *self._truth)

        def fill(value):
            return [jnp.full(x.shape, value.astype(x.dtype)) for x in targets]

        return self._compiled(fill, jnp.ones(()))

    def loss(self) -> Work:
        """Both losses and their gradients for all predictions, given the sample."""
        keys, boxes, valid = self._truth
        config = self._case.config.targets
        sample = functools.partial(rpn_jax.sample_targets, config=config)
        sample = jax.jit(jax.vmap(sample, (0, None, 0, 0)))
        index, targets, _ = sample(keys, self._anchors, boxes, valid)

        def loss(output, index, targets):
            def rows(x):
                return jax.vmap(lambda x, i: x[i])(x, index)

            losses = self._case.config.losses
            return rpn_jax.rpn_loss(
                jax.tree.map(rows, output), targets, config=losses
            ).total

        output = rpn_jax.RPNOutput(*jax.device_put(self._case.predictions()))
        return self._compiled(jax.value_and_grad(loss), output, index, targets)

    def loss_everywhere(self) -> Work:
        """As `loss`, from targets for all anchors: it has to find the sample first."""
        output = rpn_jax.RPNOutput(*self._case.predictions())
        loss = jax.value_and_grad(self._loss)
        return self._compiled(loss, *jax.device_put((output, self.targets())))

    def head_forward(self) -> Work:
        """The head alone."""
        graphdef, *arguments = self._head()
        return self._compiled(lambda p, x: nnx.merge(graphdef, p)(x), *arguments)

    def head(self) -> Work:
        """The head, with gradients of its weights and the features."""
        graphdef, *arguments = self._head()

        def total(params, features):
            output = nnx.merge(graphdef, params)(features)
            return output.logits.sum() + output.deltas.sum()

        return self._compiled(jax.value_and_grad(total, (0, 1)), *arguments)

    def step(self) -> Work:
        """`compute_losses` with the gradients of `head`; it predicts at the sample."""
        graphdef, *arguments = self._head()
        key = jax.random.key(self._case.seed)

        def total(params, features, truth):
            head = nnx.merge(graphdef, params)
            config = self._case.config
            return rpn_jax.compute_losses(
                head, key, features, self._anchors, *truth, config=config
            ).losses.total

        step = jax.value_and_grad(total, (0, 1))
        return self._compiled(step, *arguments, self._truth[1:])

    def step_everywhere(self) -> Work:
        """As `step`, with a prediction at every anchor, which proposals would need."""
        graphdef, *arguments = self._head()

        def total(params, features, truth):
            output = nnx.merge(graphdef, params)(features)
            return self._loss(output, self._assign(*truth))

        step = jax.value_and_grad(total, (0, 1))
        return self._compiled(step, *arguments, self._truth)

    def _head(self) -> tuple[Any, Any, Any]:
        anchors_per_cell = self._case.anchors.anchors_per_cell
        head = rpn_jax.RPNHead(CHANNELS, anchors_per_cell, rngs=nnx.Rngs(0))
        graphdef, params = nnx.split(head, nnx.Param)
        return graphdef, params, jax.device_put(self._case.features())

    def _assign(self, keys, boxes, valid) -> rpn_jax.Targets:
        config = self._case.config.targets
        assign = functools.partial(rpn_jax.assign_targets, config=config)
        return jax.vmap(assign, (0, None, 0, 0))(keys, self._anchors, boxes, valid)

    def _loss(self, output, targets) -> jax.Array:
        config = self._case.config.losses
        return rpn_jax.rpn_loss(
            output, targets, anchors=self._anchors, config=config
        ).total

    def _compiled(self, function: Callable, *arguments: Any) -> Work:
        compiled = jax.jit(function).lower(*arguments).compile()
        return lambda: jax.block_until_ready(compiled(*arguments))


class Theirs:
    """The side of torchvision, unmodified: `RegionProposalNetwork` and its parts."""

    name = "torchvision"

    def __init__(self, case: Case, *, device: str, threads: int) -> None:
        self._case = case
        self._torch = torch = importlib.import_module("torch")
        rpn = importlib.import_module("torchvision.models.detection.rpn")
        images = importlib.import_module("torchvision.models.detection.image_list")
        torch.set_num_threads(threads)
        torch.manual_seed(case.seed)
        self._device = "cuda" if device == "gpu" else "cpu"
        self._layers = rpn.concat_box_prediction_layers
        self._rpn = rpn.RegionProposalNetwork(
            rpn.AnchorGenerator(
                case.anchors.level_sizes,
                (case.anchors.aspect_ratios,) * len(case.anchors.sizes),
            ),
            rpn.RPNHead(CHANNELS, case.anchors.anchors_per_cell),
            *(0.7, 0.3, 256, 0.5),
            {"training": 2000, "testing": 1000},
            {"training": 2000, "testing": 1000},
            0.7,
        ).to(self._device)
        blank = torch.zeros(case.batch, 1, *case.image, device=self._device)
        images = images.ImageList(blank, [case.image] * case.batch)
        maps = [blank[:, :, :h, :w] for h, w in case.feature_shapes]
        self._anchors = self._rpn.anchor_generator(images, maps)
        self._truth = [{"boxes": self._array(x)} for x in case.ground_truth()]

    def labels(self) -> np.ndarray:
        """Labels `[b n]` before sampling."""
        labels, _ = self._rpn.assign_targets_to_anchors(self._anchors, self._truth)
        return self._torch.stack(labels).cpu().numpy()

    def assign(self) -> Work:
        """Matches, samples and encodes."""

        def work():
            labels, boxes = self._rpn.assign_targets_to_anchors(
                self._anchors, self._truth
            )
            deltas = self._rpn.box_coder.encode(boxes, self._anchors)
            return deltas, self._rpn.fg_bg_sampler(labels)

        return self._synchronised(work)

    def loss(self, targets: rpn_jax.Targets) -> Work:
        """The part of `compute_loss` after sampling, with gradients."""
        torch, functional = self._torch, self._torch.nn.functional
        logits, deltas = map(self._array, self._case.predictions())
        logits, deltas = logits.flatten(), deltas.reshape(-1, 4)
        labels = self._array(np.asarray(targets.labels, np.float32)).flatten()
        wanted = self._array(targets.deltas).reshape(-1, 4)
        positive = torch.where(labels == 1.0)[0]
        sampled = torch.cat([positive, torch.where(labels == 0.0)[0]])

        def work():
            x, y = logits.detach().requires_grad_(), deltas.detach().requires_grad_()
            box = functional.smooth_l1_loss(
                y[positive], wanted[positive], beta=1 / 9, reduction="sum"
            )
            objectness = functional.binary_cross_entropy_with_logits(
                x[sampled], labels[sampled]
            )
            total = objectness + box / sampled.numel()
            total.backward()
            return total.detach(), (x.grad, y.grad)

        return self._synchronised(work)

    loss_everywhere = loss  # torchvision always takes the indices of the sample

    def head_forward(self) -> Work:
        """The head alone."""
        features = self._features()

        def work():
            with self._torch.no_grad():
                return self._layers(*self._rpn.head(features))

        return self._synchronised(work)

    def head(self) -> Work:
        """The head, with gradients of its weights and the features."""
        return self._differentiated(lambda logits, deltas: logits.sum() + deltas.sum())

    def step(self) -> Work:
        """Head, assignment and losses, with the gradients of `head`."""

        def loss(logits, deltas):
            labels, boxes = self._rpn.assign_targets_to_anchors(
                self._anchors, self._truth
            )
            wanted = self._rpn.box_coder.encode(boxes, self._anchors)
            return sum(self._rpn.compute_loss(logits, deltas, labels, wanted))

        return self._differentiated(loss)

    def step_everywhere(self) -> Work:
        """As `step`: torchvision always predicts at every anchor."""
        return self.step()

    def _differentiated(self, loss: Callable) -> Work:
        features = self._features()
        leaves = [*self._rpn.head.parameters(), *features]

        def work():
            for leaf in leaves:
                leaf.grad = None
                leaf.requires_grad_()
            total = loss(*self._layers(*self._rpn.head(features)))
            total.backward()
            return total.detach()

        return self._synchronised(work)

    def _features(self) -> list[Any]:
        maps = [x.transpose(0, 3, 1, 2) for x in self._case.features()]
        return [self._array(np.ascontiguousarray(x)) for x in maps]

    def _array(self, x: Any) -> Any:
        return self._torch.from_numpy(np.array(x)).to(self._device)

    def _synchronised(self, work: Work) -> Work:
        if self._device == "cpu":
            return work

        def waits():
            result = work()
            self._torch.cuda.synchronize()
            return result

        return waits
