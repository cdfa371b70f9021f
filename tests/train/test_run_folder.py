"""Which run a folder belongs to."""

import dataclasses

import pytest

from rpn_jax.commands.flags import parse_training
from rpn_jax.train import resolve
from rpn_jax.train.run_folder import RunFolder


def test_a_changed_setting_is_named_with_its_path(tmp_path):
    folder = RunFolder(tmp_path / "run")
    flags = ["--rpn.losses.objectness", "label", "--lr", "0.5"]
    folder.claim(resolve(parse_training(flags)))
    folder.claim(resolve(parse_training([*flags, "--resume", "--log-every", "3"])))
    with pytest.raises(ValueError, match="got other ones") as error:
        folder.claim(resolve(parse_training(["--lr", "0.5", "--resume"])))
    assert "ones: rpn.losses.objectness was label and is iou. Pass" in str(error.value)


def test_the_numbers_of_readers_may_change(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.claim(resolve(parse_training([])))
    flags = ["--resume", "--pipeline.threads", "3", "--pipeline.workers", "2"]
    folder.claim(resolve(parse_training(flags)))


def test_a_run_with_the_defaults_of_version_0_1_0_continues_with_them(tmp_path):
    folder = RunFolder(tmp_path / "run")
    size = ["--pipeline.min-side", "300"]
    old = ["--pipeline.no-reduced-decoding"]
    old += ["--rpn.proposals.soft-iou-threshold", "None"]
    old += ["--rpn.proposals.vote-iou-threshold", "None"]
    old += ["--rpn.targets.positive-sampler", "uniform"]
    old += ["--rpn.targets.negative-sampler", "uniform"]
    old += ["--rpn.targets.num-samples", "256", "--rpn.num-pointwise", "0"]
    old += ["--rpn.proposals.iou-threshold", "0.7", "--lr", "0.003"]
    old += ["--rpn.proposals.soft-factor", "0.03", "--rpn.losses.objectness", "label"]
    before = parse_training([*size, *old])
    folder.claim(resolve(before))
    now = parse_training([*size, "--resume"])
    assert now.pipeline is not None
    assert now.pipeline.reduced_decoding
    continued = folder.continued(now)
    assert continued.pipeline == before.pipeline
    assert resolve(now).rpn != resolve(before).rpn == resolve(continued).rpn
    folder.claim(resolve(continued))
    own = parse_training([*size, "--resume", "--rpn.targets.num-samples", "128"])
    with pytest.raises(ValueError, match="num_samples was 256 and is 128"):
        folder.claim(resolve(folder.continued(own)))
    other = RunFolder(tmp_path / "other")
    assert other.continued(now) == now
    other.claim(resolve(parse_training(size)))
    with pytest.raises(ValueError, match="reduced_decoding was True and is False"):
        other.claim(resolve(dataclasses.replace(continued, batch_size=None)))


def test_a_run_from_weights_continues_with_its_rates(tmp_path):
    folder = RunFolder(tmp_path / "run")
    flags = ["--data", "a.json", "--backbone", "mobilenet_v2_fpn"]
    flags += ["--init-weights", "w.npz", "--weights-system", "torchvision_features"]
    old = ["--optimizer.beta2", "0.999", "--lr", "0.001", "--trunk-lr-scale", "1"]
    before = resolve(parse_training([*flags, *old]))
    folder.claim(before)
    now = parse_training([*flags, "--resume"])
    assert resolve(now).optimizer.beta2 != 0.999
    continued = resolve(folder.continued(now))
    rates = [(x.lr, x.trunk_lr_scale, x.optimizer) for x in (continued, before)]
    assert rates[0] == rates[1]
    folder.claim(continued)
