"""Parts that the tests of the rag service share."""

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
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


@pytest.fixture
def administered(postgres_server: str, postgres_url: str) -> Callable[[str], None]:
    """Runs a statement in the database as an administrator does; the service's role owns its schema."""
    owner = sa.make_url(postgres_url)
    url = sa.make_url(postgres_server).set(drivername="postgresql+psycopg", database=owner.database)

    def run(statement: str) -> None:
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(statement.format(owner=owner.username)))
        engine.dispose()

    run("CREATE SCHEMA errand_rag AUTHORIZATION {owner}")
    return run


@pytest.fixture
def pgvector_url(administered: Callable[[str], None], postgres_url: str) -> str:
    """A database with the extension."""
    administered("CREATE EXTENSION vector")
    return postgres_url
