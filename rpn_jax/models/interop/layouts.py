"""Tables of the names that systems give to weights.

The names of this library are on the left, those of the system on the right. If an older
version of a system had other names, these come second. Both are read, and the first is
written.
"""

from .names import Rule

TORCHVISION: tuple[Rule, ...] = (
    ("backbone.body.{rest}", "backbone.body.{rest}"),
    ("backbone.fpn.inner_blocks.{i}.{j}", "backbone.fpn.inner_blocks.{i}.{j}"),
    ("backbone.fpn.inner_blocks.{i}.0", "backbone.fpn.inner_blocks.{i}"),
    ("backbone.fpn.layer_blocks.{i}.{j}", "backbone.fpn.layer_blocks.{i}.{j}"),
    ("backbone.fpn.layer_blocks.{i}.0", "backbone.fpn.layer_blocks.{i}"),
    ("head.convs.{i}", "rpn.head.conv.{i}.0"),
    ("head.convs.0", "rpn.head.conv"),
    ("head.logits", "rpn.head.cls_logits"),
    ("head.deltas", "rpn.head.bbox_pred"),
)
DETECTRON2_TRUNK: tuple[Rule, ...] = (
    ("conv1", "stem.conv1"),
    ("bn1", "stem.conv1.norm"),
    ("layer{i}.{block}.conv{n}", "res{i+1}.{block}.conv{n}"),
    ("layer{i}.{block}.bn{n}", "res{i+1}.{block}.conv{n}.norm"),
    ("layer{i}.{block}.downsample.0", "res{i+1}.{block}.shortcut"),
    ("layer{i}.{block}.downsample.1", "res{i+1}.{block}.shortcut.norm"),
)
DETECTRON2_FPN: tuple[Rule, ...] = (
    ("backbone.fpn.inner_blocks.{i}.0", "backbone.fpn_lateral{i+2}"),
    ("backbone.fpn.inner_blocks.{i}.1", "backbone.fpn_lateral{i+2}.norm"),
    ("backbone.fpn.layer_blocks.{i}.0", "backbone.fpn_output{i+2}"),
    ("backbone.fpn.layer_blocks.{i}.1", "backbone.fpn_output{i+2}.norm"),
)
DETECTRON2_HEAD: tuple[Rule, ...] = (
    ("head.convs.0", "proposal_generator.rpn_head.conv"),
    ("head.convs.{i}", "proposal_generator.rpn_head.conv.conv{i}"),
    ("head.logits", "proposal_generator.rpn_head.objectness_logits"),
    ("head.deltas", "proposal_generator.rpn_head.anchor_deltas"),
)
CAFFE2_RESNET: tuple[Rule, ...] = (
    ("conv1", "conv1"),
    ("bn1", "res_conv1_bn"),
    *(
        (f"layer{{i}}.{{block}}.{here}", f"res{{i+1}}_{{block}}_{there}")
        for conv, norm, branch in (
            ("conv1", "bn1", "branch2a"),
            ("conv2", "bn2", "branch2b"),
            ("conv3", "bn3", "branch2c"),
            ("downsample.0", "downsample.1", "branch1"),
        )
        for here, there in ((conv, branch), (norm, f"{branch}_bn"))
    ),
)

RESNET: tuple[Rule, ...] = (
    ("conv1", "conv1"),
    ("bn1", "bn1"),
    ("layer{i}.{block}.conv{n}", "layer{i}.{block}.conv{n}"),
    ("layer{i}.{block}.bn{n}", "layer{i}.{block}.bn{n}"),
    ("layer{i}.{block}.downsample.{n}", "layer{i}.{block}.downsample.{n}"),
)
MMDETECTION: tuple[Rule, ...] = (
    ("backbone.fpn.inner_blocks.{i}.0", "neck.lateral_convs.{i}.conv"),
    ("backbone.fpn.inner_blocks.{i}.1", "neck.lateral_convs.{i}.bn"),
    ("backbone.fpn.layer_blocks.{i}.0", "neck.fpn_convs.{i}.conv"),
    ("backbone.fpn.layer_blocks.{i}.1", "neck.fpn_convs.{i}.bn"),
    ("head.convs.0", "rpn_head.rpn_conv"),
    ("head.convs.{i}", "rpn_head.rpn_conv.{i}.conv"),
    ("head.logits", "rpn_head.rpn_cls"),
    ("head.deltas", "rpn_head.rpn_reg"),
)

JWYANG_RESNET: tuple[Rule, ...] = (
    ("conv1", "0"),
    ("bn1", "1"),
    ("layer{i}.{block}.conv{n}", "{i+3}.{block}.conv{n}"),
    ("layer{i}.{block}.bn{n}", "{i+3}.{block}.bn{n}"),
    ("layer{i}.{block}.downsample.{n}", "{i+3}.{block}.downsample.{n}"),
)
JWYANG_HEAD: tuple[Rule, ...] = (
    ("head.convs.0", "RCNN_rpn.RPN_Conv"),
    ("head.logits", "RCNN_rpn.RPN_cls_score"),
    ("head.deltas", "RCNN_rpn.RPN_bbox_pred"),
)

VGG16_LAYERS: tuple[Rule, ...] = tuple(
    (f"backbone.body.{first + 2 * i}", f"conv{stage}_{i + 1}")
    for stage, first, number in (
        (1, 0, 2),
        (2, 5, 2),
        (3, 10, 3),
        (4, 17, 3),
        (5, 24, 3),
    )
    for i in range(number)
)
RPN_JAX: tuple[Rule, ...] = (
    ("backbone.{rest}", "backbone.{rest}"),
    ("head.{rest}", "head.{rest}"),
)

# The last parts of names, which tell the kernel, bias and statistics of a layer apart.

TORCH_LEAVES: tuple[Rule, ...] = (
    ("{rest}.kernel", "{rest}.weight"),
    ("{rest}.scale", "{rest}.weight"),
    ("{rest}.bias", "{rest}.bias"),
    ("{rest}.mean", "{rest}.running_mean"),
    ("{rest}.var", "{rest}.running_var"),
)
CAFFE2_LEAVES: tuple[Rule, ...] = (
    ("{rest}.kernel", "{rest}_w"),
    ("{rest}.scale", "{rest}_gamma"),
    ("{rest}.bias", "{rest}_beta"),
    ("{rest}.bias", "{rest}_b"),
    ("{rest}.mean", "{rest}_running_mean"),
    ("{rest}.var", "{rest}_running_var"),
)
RPN_JAX_LEAVES: tuple[Rule, ...] = tuple((here, here) for here, _ in TORCH_LEAVES)
