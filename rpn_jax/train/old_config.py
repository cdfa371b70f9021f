"""Brings configuration files that version 0.1.0 wrote up to date."""

from typing import Any

# The settings of the pipeline that every version has had, and written.
_OLD_PIPELINE = {
    "min_side",
    "max_side",
    "scale_jitter",
    "flip_probability",
    "size_multiple",
    "max_boxes",
    "max_buckets",
}

# Settings of the losses that no longer exist, with the values that had no effect.
_REMOVED = {
    "objectness_positive_weight": None,
    "inside_weights": [1.0, 1.0, 1.0, 1.0],
}


def upgraded(values: Any) -> Any:
    """The content of a configuration file in today's fields.

    Five things changed since version 0.1.0:

    * `rpn.losses` lost `objectness_positive_weight` and `inside_weights`. They are
      dropped if they hold the value that had no effect.
    * `rpn.num_logits` is new. Until then, 2 logits went with `"legacy"` anchors.
    * `rpn.anchors.strides_from_image` is new. Until then, `"corners"` anchors implied
      it.
    * `pipeline.reduced_decoding` is new. Until then, nothing was decoded so. A file
      that has only some of the settings was written by hand, and gets today's default.
    * `trunk_lr_scale` is new. Until then, the trunk had the full learning rate. A file
      without a number for `lr` and `frozen_stages` gets today's default.

    Args:
        values: the parsed JSON, which is not changed.

    Returns:
        The same values, or a changed copy.

    Raises:
        ValueError: a field that no longer exists had an effect. The message names it.
    """
    if not isinstance(values, dict):
        return values
    pipeline = values.get("pipeline")
    if isinstance(pipeline, dict) and pipeline.keys() >= _OLD_PIPELINE:
        values = values | {"pipeline": {"reduced_decoding": False} | pipeline}
    if None not in (values.get("lr"), values.get("frozen_stages")):
        values = {"trunk_lr_scale": 1.0} | values
    if not isinstance(values.get("rpn"), dict):
        return values
    rules = dict(values["rpn"])
    if isinstance(rules.get("losses"), dict):
        rules["losses"] = _without_removed(rules["losses"])
    anchors = rules.get("anchors")
    if isinstance(anchors, dict):
        rounding = anchors.get("rounding")
        if rounding == "legacy":
            rules = {"num_logits": 2} | rules
        if rounding == "corners":
            rules["anchors"] = {"strides_from_image": True} | anchors
    return values | {"rpn": rules}


def _without_removed(losses: dict[str, Any]) -> dict[str, Any]:
    for name, neutral in _REMOVED.items():
        if name in losses and losses[name] != neutral:
            raise ValueError(
                f"read_config needs rpn.losses without {name}, which has been removed, "
                f"got {losses[name]!r}. Remove the field, which changes the losses, or "
                "use version 0.1.0."
            )
    return {name: value for name, value in losses.items() if name not in _REMOVED}
