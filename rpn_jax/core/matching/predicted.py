"""The predictions of an image, as the rules and samplers that read them need them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._typing import Float
from ..anchors import AnchorGrid, Anchors
from ..boxes import area, decode_boxes
from ..config import TargetConfig
from ..output import RPNOutput, objectness_logits
from .axes import iou_from_areas, shared_length


class Predicted(NamedTuple):
    """Predicted boxes and scores. No gradient passes through them.

    Attributes:
        boxes: `[n 4]` the decoded boxes, which are finite; not clipped to the image.
        logits: `[n]` logits of being an object. A NaN has become the lowest number.
    """

    boxes: Float[jax.Array, "n 4"]
    logits: Float[jax.Array, " n"]

    def iou_with(
        self, box: Float[jax.Array, "4"], pixel_offset: float
    ) -> Float[jax.Array, " n"]:
        """IoU of every predicted box with one box."""
        x0, y0, x1, y1 = (self.boxes[:, i] for i in range(4))
        width = shared_length(x0, x1, box[0], box[2], pixel_offset)
        height = shared_length(y0, y1, box[1], box[3], pixel_offset)
        areas = area(self.boxes, pixel_offset=pixel_offset)
        box_area = area(box[None], pixel_offset=pixel_offset)
        return iou_from_areas(width * height, areas, box_area)


def read_predictions(
    output: RPNOutput | None, anchors: Anchors, config: TargetConfig
) -> Predicted:
    """Decodes the predictions of an image.

    Args:
        output: predictions for all anchors.
        anchors: the anchors.
        config: the rules, for the coding of the deltas.

    Raises:
        ValueError: there are no predictions, or they are for other anchors.
    """
    output = checked_predictions(output, len(anchors), config)
    output = jax.lax.stop_gradient(RPNOutput(*map(jnp.asarray, output)))
    logits = objectness_logits(output)
    lowest = jnp.finfo(jnp.float32).min
    boxes = anchors.boxes if isinstance(anchors, AnchorGrid) else jnp.asarray(anchors)
    decoded = decode_boxes(
        output.deltas,
        jax.lax.stop_gradient(boxes),
        weights=config.delta_weights,
        pixel_offset=config.pixel_offset,
    )
    return Predicted(decoded, jnp.where(jnp.isnan(logits), lowest, logits))


def checked_predictions(
    output: RPNOutput | None, num_anchors: int, config: TargetConfig
) -> RPNOutput:
    """The predictions, for rules that cannot do without.

    Raises:
        ValueError: there are no predictions, or they are for other anchors.
    """
    shape = None if output is None else output.deltas.shape
    if output is None or shape != (num_anchors, 4):
        raise ValueError(
            f"TargetConfig with {_readers(config)} needs predictions for all "
            f"{num_anchors} anchors of one image, got "
            f"{'None' if shape is None else f'deltas of shape {shape}'}. Pass "
            "predictions, an RPNOutput, or use compute_losses, which does so."
        )
    return output


def _readers(config: TargetConfig) -> str:
    """The settings that need predictions, as they are written."""
    names = ("assigner", "positive_sampler", "negative_sampler")
    reading = ("task_aligned", "sim_ota", "hardest")
    values = [(name, getattr(config, name)) for name in names]
    return ", ".join(f'{name}="{value}"' for name, value in values if value in reading)
