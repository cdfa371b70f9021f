"""The code of README and of the pages in `docs/`: it runs, and its commands exist.

The training loop of the README runs as it stands. Blocks that continue it are traced
with a loop of one level, which checks everything but the compiled numbers. Blocks that
read data or files run with small ones. `SHORTER` lists what is replaced.
"""

import json
import pathlib
import re
import shlex
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import data_files, small_rpn
from support.foreign_tiny import tiny_weights

import rpn_jax
from rpn_jax import Proposals, export, predict
from rpn_jax.commands import compare, convert, evaluate, flags, propose
from rpn_jax.commands import export as export_command
from rpn_jax.commands import report as report_command
from rpn_jax.models import BackboneConfig
from rpn_jax.models.interop import write_tensors

ROOT = pathlib.Path(__file__).parents[1]
PAGES = {
    path.stem: path.read_text()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"))
    if path.exists()
}
COMMANDS = {
    "compare": compare.CompareConfig,
    "convert": convert.ConvertConfig,
    "evaluate": evaluate.EvaluateConfig,
    "export": export_command.ExportConfig,
    "propose": propose.ProposeConfig,
    "report": report_command.ReportConfig,
}
# What a block holds that reads data or files, so that it cannot be traced.
READS = re.compile(
    r"open_source|json|checkpoint|load\(|session|Run\(|jax.export|_program"
)
SHORTER = {
    "rpn_jax.presets.torchvision_fpn()": "small_rpn.RULES",
    "shapes = [(64, 80), (32, 40), (16, 20), (8, 10), (4, 5)]": "shapes = [(8, 10)]",
    '"tiny_fpn"': 'BackboneConfig(name="tiny_fpn", out_features=16)',
    "TrainConfig(steps=200": "TrainConfig(rpn=small_rpn.RULES, steps=2",
    'open_source("scenes", split="val")': "Scenes(num_images=2, size=(48, 64))",
    "model.onnx": "model.stablehlo",
    "core.onnx": "core.stablehlo",
    "(480, 800)": "(40, 56)",
    "range(20)": "range(4)",
}

pytestmark = pytest.mark.skipif(
    "index" not in PAGES, reason="only a checkout has the documents"
)


def blocks(page, language="python"):
    """The blocks of a page in one language."""
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.DOTALL | re.M)
    assert found, page
    return found


def reading(page):
    """The blocks of a page that read data or files, made short."""
    return [shorter(block) for block in blocks(page) if READS.search(block)]


def shorter(block):
    for long, short in SHORTER.items():
        block = block.replace(long, short)
    return block


def run(block, names):
    """Runs a block as users do, without the strictness of the tests."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(compile(block, "<block>", "exec"), names)


def test_the_loop_of_the_readme_has_the_losses_of_an_untrained_head():
    names = {}
    run(blocks("README")[0], names)
    losses, metrics = names["out"].losses, names["out"].metrics
    assert float(losses.objectness) == pytest.approx(np.log(2.0), abs=0.05)
    assert float(losses.box) > 0
    assert int(metrics.num_positive) > 0
    assert int(metrics.num_positive) + int(metrics.num_negative) == 512


def test_blocks_that_continue_the_loop_can_be_traced():
    def trace():
        loop = {"small_rpn": small_rpn, "BackboneConfig": BackboneConfig}
        run(shorter(blocks("README")[0]), loop)
        loop |= {
            "key": jax.random.key(0),
            "boxes": loop["gt_boxes"][0],
            "valid": loop["gt_valid"][0],
            "scores": jnp.array([0.5]),
            "any_boxes": jnp.array([[0.0, 0, 8, 8], [4, 4, 20, 30]]),
            "image_size": jnp.array([[64.0, 80], [50, 60]]),
            "image_sizes": jnp.array([[64.0, 80], [50, 60]]),
            "batch_of_targets": rpn_jax.Targets(
                jnp.zeros((2, 240), jnp.int32), jnp.zeros((2, 240, 4))
            ),
        }
        for page in ("README", "assignment", "presets", "recipes", "training_loop"):
            names = dict(loop)
            for block in blocks(page):
                if block != blocks("README")[0] and not READS.search(block):
                    run(shorter(block), names)

    jax.eval_shape(trace)


def test_every_block_runs_and_every_replacement_is_used():
    pages = {page for page, text in PAGES.items() if "```python" in text}
    assert pages == {
        *("README", "assignment", "presets", "recipes", "training_loop"),
        *("training", "weights", "photos", "data", "choosing_anchors", "export"),
        "CONTRIBUTING",  # the form of a function, which is not to be run
    }
    assert not [x for x in SHORTER if not any(x in text for text in PAGES.values())]


def test_a_run_trains_and_its_model_proposes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for module in ("run", "build"):
        place = f"rpn_jax.train.{module}.build_model"
        monkeypatch.setattr(place, lambda config, *_: small_rpn.make_rpn(config.seed))
    (train,), (frozen,) = reading("training"), reading("recipes")
    names: dict[str, Any] = {"small_rpn": small_rpn}
    run(train, names)
    loss, model = names["best"]
    assert np.isfinite(loss)
    assert model is not None
    (tmp_path / "runs/best").rename(tmp_path / "runs/rpn")
    run("from rpn_jax.data import Scenes\n" + frozen, {})
    assert len(capsys.readouterr().out.splitlines()) >= 2


def test_weights_of_another_system_propose(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_tensors(tmp_path / "fasterrcnn_resnet50_fpn.pth", tiny_weights())
    (tmp_path / "photos").mkdir()
    data_files.save(tmp_path / "photos/a.png", data_files.noise(40, 60))
    found = Proposals(np.ones((1, 1, 4)), np.ones((1, 1)), np.ones((1, 1), bool))
    monkeypatch.setattr(predict, "_on_one_device", lambda *_: lambda *_: found)
    run(reading("weights")[0], {})
    assert "a.png" in capsys.readouterr().out


def test_data_anchors_and_results_are_read(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "proposals").mkdir()
    found = [{"image_id": 1, "score": 0.5, "bbox": [1, 2, 3, 4]}]
    (tmp_path / "proposals/proposals.json").write_text(json.dumps(found))
    images = [{"id": 1, "file_name": "a.png"}]
    (tmp_path / "proposals/images.json").write_text(json.dumps(images))
    run(reading("photos")[0], {})
    assert "a.png 0.5 (1, 2, 4, 6)" in capsys.readouterr().out
    run(reading("data")[0], {})
    assert "(2, 96, 128, 3)" in capsys.readouterr().out
    run(reading("choosing_anchors")[0], {"rpn_jax": rpn_jax})
    assert "has no anchor" in capsys.readouterr().out


def test_an_exported_network_is_written_and_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    read, onnx_runtime, load, write = reading("export")
    names = {
        "config": small_rpn.RULES,
        "export": export,
        "model": small_rpn.make_rpn(),
        "shapes": [(5, 7)],
        "images": np.zeros((2, 40, 56, 3), np.uint8),
        "image_sizes": np.array([[40, 56], [30, 50]], np.float32),
    }
    for block in (write, read, load):
        run(block, names)
    np.testing.assert_array_equal(names["found"]["valid"], names["proposals"].valid)
    assert (tmp_path / "core.stablehlo").stat().st_size > 0
    compile(onnx_runtime, "<block>", "exec")  # tests/export run ONNX Runtime


def command_lines():
    """The words of each command in a block, with lines that `\\` continues joined."""
    for page, text in PAGES.items():
        if "```bash" in text:
            lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
            for line in lines:
                for part in line.split("&&"):
                    yield page, shlex.split(part, comments=True)


def test_commands_have_flags_that_exist():
    seen = set()
    for _, words in command_lines():
        if words[:1] == ["rpn-jax"]:
            name, given = words[1], words[2:]
            if name in COMMANDS:
                flags.parse(COMMANDS[name], given, name=name)
            elif name == "train":
                flags.parse_distributed_training(given)
            else:
                flags.parse_training(given, name=name)
            seen.add(name)
    assert seen == {*COMMANDS, "inspect", "train"}


def test_commands_run_files_that_exist():
    scripts = [words[1:] for _, words in command_lines() if words[:1] == ["python"]]
    assert scripts
    for path, *given in scripts:
        source = (ROOT / path).read_text()
        assert not [x for x in given if x.startswith("--") and x not in source]


def test_the_readme_is_short():
    prose = re.sub(r"^```.*?^```|<!--.*?-->", "", PAGES["README"], flags=re.S | re.M)
    assert len(prose.split()) <= 1100


def test_names_beside_those_of_other_systems_exist():
    sections = re.split(r"^### .*?`(\w+)`$", PAGES["from_pytorch"], flags=re.M)[1:]
    settings = dict(zip(sections[::2], sections[1::2], strict=True))
    assert len(settings) == 4
    for name, table in settings.items():
        fields = re.findall(r"^\| `(\w+)` \|", table.split("\n## ")[0], re.M)
        assert fields
        assert not [x for x in fields if not hasattr(getattr(rpn_jax, name), x)]


def test_links_between_documents_have_targets():
    """Pages are checked by Sphinx as well; this is for those that a site leaves out."""
    for page in ("README", "CONTRIBUTING"):
        for target in re.findall(r"\]\((?!http)([^)#]+)", PAGES[page]):
            assert (ROOT / target).exists(), target
