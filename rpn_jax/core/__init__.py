"""The region proposal network itself: from feature maps to losses and to proposals.

A file is a stage, and no file imports one further down the way of the data:

`config` -> `boxes`, `anchors` -> `output`, `head` -> `matching` -> `samplers` ->
`targets` -> `losses` (its formulas are `loss_terms`, `iou_losses`) and `nms` (its
loops are `nms_kernels`) -> `suppression` -> `proposals` -> `rpn`.

`rpn` has the two compositions of all stages that users call.

The core needs jax, jaxlib, flax, optax, jaxtyping and beartype, and imports nothing of
the packages beside it.
"""
