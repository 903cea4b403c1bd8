"""Models that the tests of this service share: built once a session, never trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from errand_inference.model_store import ModelSource, open_source, openvino_folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gemma 3 with random weights and a byte-level tokenizer that has the control tokens."""
    from errand_inference.testing.random_model import SHAPES, build_random_model  # noqa: PLC0415 - loads torch

    return build_random_model(tmp_path_factory.mktemp("models") / "tiny", SHAPES["tiny"])


@pytest.fixture(scope="session")
def tiny_source(tiny_model: Path) -> ModelSource:
    """The random model, checked."""
    return open_source(tiny_model)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of converted models."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def tiny_openvino(tiny_source: ModelSource, cache_dir: Path) -> Path:
    """The random model converted to OpenVINO in fp32."""
    return openvino_folder(tiny_source, "fp32", cache_dir)
