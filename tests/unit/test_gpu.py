"""The repository for a GPU, and its check, as far as they can be tried without one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_bert
import typer
from model_factory import gpu, served
from model_factory.compression import convert, sixteen_bits
from model_factory.evaluation.gpu import measure
from small_bert import TEXTS

ROOT = Path(__file__).parents[2]
CONFIGS = {path.stem: path for path in gpu.OVERLAYS.glob("*.pbtxt")}


def test_the_models_that_read_texts_have_an_overlay() -> None:
    assert sorted(CONFIGS) == ["cross_encoder", "encoder"]


@pytest.mark.parametrize("model", sorted(CONFIGS))
def test_an_overlay_replaces_what_it_has_and_leaves_the_rest(model: str) -> None:
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

    text = (served.MODEL_REPOSITORY / model / "config.pbtxt").read_text()
    before = text_format.Parse(text, ModelConfig())
    after = text_format.Parse(gpu.merged(text, CONFIGS[model].read_text()), ModelConfig())
    (group,) = after.instance_group
    assert (group.kind, group.count) == (ModelInstanceGroup.KIND_GPU, 1)
    assert after.max_batch_size > before.max_batch_size
    assert after.parameters["device"].string_value == "cuda"
    assert after.parameters["intra_op_threads"] == before.parameters["intra_op_threads"]
    for field in ("input", "output", "model_warmup", "version_policy", "response_cache", "backend"):
        assert getattr(after, field) == getattr(before, field)
    assert not after.dynamic_batching.HasField("default_queue_policy")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose models are small ones, exported as the real ones are."""
    pytest.importorskip("onnx", reason="the extra [train] writes graphs")
    pytest.importorskip("safetensors", reason="the extra [train] reads weights")
    folder = tmp_path / "repository"
    for model in ("encoder", "cross_encoder", "reranker"):
        ignored = shutil.ignore_patterns("__pycache__", "[0-9]*")
        shutil.copytree(served.MODEL_REPOSITORY / model, folder / model, ignore=ignored)
    for version, seed in (("1", 3), ("2", 4)):
        weights = small_bert.write(tmp_path / f"weights-{version}", seed=seed)
        convert.convert(weights, folder / "encoder" / version, "int8")
    pairs = small_bert.write(tmp_path / "pairs", classifier=True)
    convert.convert(pairs, folder / "cross_encoder" / "1", "int8")
    return folder


def test_the_repository_for_a_gpu_says_in_16_bits_what_the_other_says_in_8(
    repository: Path, tmp_path: Path
) -> None:
    gpu.gpu(tmp_path / "gpu", repository=repository)
    assert not (tmp_path / "gpu" / "encoder" / "1").exists()  # the highest version is what serves
    there, here = (
        served.load_encoder(folder / "encoder" / "2").encode(TEXTS)
        for folder in (tmp_path / "gpu", repository)
    )
    assert (there * here).sum(axis=1).min() > 0.98
    pairs = [(left, right) for left in TEXTS for right in TEXTS]
    there, here = (
        served.load_cross_encoder(folder / "cross_encoder" / "1").score(pairs)
        for folder in (tmp_path / "gpu", repository)
    )
    assert np.abs(there - here).max() < 0.1


def test_its_weights_are_those_of_8_bits_but_for_rounding(repository: Path, tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto

    sixteen_bits.convert(repository / "encoder" / "2" / "model.onnx", tmp_path / "model.onnx")
    model = onnx.load(str(tmp_path / "model.onnx"))
    large = [each for each in model.graph.initializer if np.prod(each.dims) > small_bert.HIDDEN]
    kinds = {each.data_type for each in large}
    assert kinds == {TensorProto.FLOAT16, TensorProto.INT8}  # the table of words stays in 8 bits
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"DynamicQuantizeMatMul", "MatMulIntegerToFloat", "DynamicQuantizeLinear"}


def test_a_graph_of_another_making_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the extra [train] writes graphs")
    with pytest.raises(typer.BadParameter, match="export it anew"):
        sixteen_bits.convert(served.PUBLISHED_ENCODER / "model.onnx", tmp_path / "model.onnx")


def test_a_folder_that_exists_is_not_written_over(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="there already"):
        gpu.gpu(tmp_path)


def test_a_model_for_a_gpu_does_not_load_on_the_cpu_unasked() -> None:
    with pytest.raises(RuntimeError, match="no CUDA"):
        served.on_device("encoder", served.PUBLISHED_ENCODER, "cuda:0")


@pytest.mark.parametrize("model", ["encoder", "cross_encoder"])
def test_the_check_compares_the_served_code_with_torch(tmp_path: Path, model: str) -> None:
    pytest.importorskip("torch", reason="the extra [train] has what is compared with")
    pytest.importorskip("onnx", reason="the extra [train] writes graphs")
    folder = small_bert.write(tmp_path / "model", classifier=model == "cross_encoder")
    work = TEXTS * 20 if model == "encoder" else [(left, right) for left in TEXTS for right in TEXTS] * 4
    figures = measure(model, folder, work, "cpu")
    assert figures["ratio"] > 0
    assert figures["torch_batch"] in (64, 128)


def check(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [ROOT / "scripts" / "gpu-check", *arguments],
        env={
            "PYTHON": sys.executable,
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "PATH": os.defpath,
            "HOME": "/nonexistent",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def products(tmp_path: Path) -> Path:
    path = tmp_path / "products.jsonl"
    path.write_text(json.dumps({"id": "1", "title": "red mouse"}) + "\n")
    return path


def test_where_there_is_no_gpu_the_check_says_so_and_ends_with_2(products: Path) -> None:
    if shutil.which("nvidia-smi", path=os.defpath):
        pytest.skip("there is a GPU here")
    done = check("--products", str(products))
    assert (done.returncode, done.stdout) == (2, "")
    assert "There is no GPU here" in done.stderr


def test_a_wrong_device_is_a_users_mistake(products: Path) -> None:
    done = check("--products", str(products), "--device", "tpu")
    assert done.returncode == 2
    assert "cuda or cpu" in done.stderr
    assert "Traceback" not in done.stderr
