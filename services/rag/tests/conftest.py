"""Parts that the tests of the rag service share."""

from pathlib import Path

import pytest
from errand_common.testing.keys import TestKeys
from errand_rag.settings import RagSettings
from errand_rag.testing.embedder import HashingEmbedder


@pytest.fixture
def settings(tmp_path: Path, keys: TestKeys) -> RagSettings:
    return RagSettings(
        port=0,
        data_dir=tmp_path,
        jwks=str(keys.jwks_file),
        signing_key_file=keys.signing_key_file,
        drain_seconds=0,
    )


@pytest.fixture
def embedder() -> HashingEmbedder:
    return HashingEmbedder()
