"""Models that the tests of this service share: built once a run, by whichever process is first, never trained."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from errand_inference.model_store import ModelSource, made_once, open_source, openvino_folder

# The first test that needs the converted model waits for the conversion: minutes on a busy machine.
_CONVERTING_SECONDS = 480


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        needs_model = {"tiny_model", "engine"} & set(getattr(item, "fixturenames", ()))
        if needs_model and item.path.is_relative_to(here) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_CONVERTING_SECONDS))


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all processes of this run."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def tiny_model(shared_folder: Path) -> Path:
    """Gemma 3 with random weights and a byte-level tokenizer that has the control tokens."""
    if given := os.environ.get("ERRAND_TEST_MODEL"):
        # Built before: where another vLLM serves the same files, or another transformers would write others.
        return Path(given)

    def build(folder: Path) -> None:
        from errand_inference.testing.random_model import SHAPES, build_random_model  # noqa: PLC0415 - loads torch

        build_random_model(folder, SHAPES["tiny"])

    return made_once(shared_folder / "tiny", build)


@pytest.fixture(scope="session")
def tiny_source(tiny_model: Path) -> ModelSource:
    """The random model, checked."""
    return open_source(tiny_model)


@pytest.fixture(scope="session")
def cache_dir(shared_folder: Path) -> Path:
    """Folder of converted models."""
    return shared_folder / "cache"


@pytest.fixture(scope="session")
def tiny_openvino(tiny_source: ModelSource, cache_dir: Path) -> Path:
    """The random model converted to OpenVINO in fp32."""
    return openvino_folder(tiny_source, "fp32", cache_dir)
