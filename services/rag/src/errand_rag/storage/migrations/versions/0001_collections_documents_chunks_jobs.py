"""Collections, documents, chunks with their keyword index, jobs."""

import sqlite3

import sqlalchemy as sa
from alembic import op
from errand_common.db import enable_tenant_isolation

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.String(64)
_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "collections",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("tenant_id", _ID, nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("chunk_tokens", sa.Integer, nullable=False),
        sa.Column("chunk_overlap_tokens", sa.Integer, nullable=False),
        sa.Column("embedding_model", sa.String(256), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.UniqueConstraint("tenant_id", "name", name="uq_collections_tenant_id_name"),
    )
    op.create_table(
        "documents",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("tenant_id", _ID, nullable=False),
        sa.Column("collection_id", _ID, sa.ForeignKey("collections.id"), nullable=False),
        sa.Column("filename", sa.String(255), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("media_type", sa.String(255), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("content_hash", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("progress_percent", sa.Integer, nullable=False),
        sa.Column("failure", sa.Text, nullable=False),
        sa.Column("chunk_count", sa.Integer, nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
    )
    op.create_index("ix_documents_collection_id_id", "documents", ["collection_id", "id"])
    op.create_index("ix_documents_collection_id_content_hash", "documents", ["collection_id", "content_hash"])
    op.create_index("ix_documents_collection_id_filename", "documents", ["collection_id", "filename"])
    op.create_table(
        "document_contents",
        sa.Column("document_id", _ID, sa.ForeignKey("documents.id"), primary_key=True),
        sa.Column("tenant_id", _ID, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("clean_text", sa.Text, nullable=False),
    )
    op.create_table(
        "chunks",
        sa.Column(
            "serial",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("id", _ID, nullable=False, unique=True),
        sa.Column("tenant_id", _ID, nullable=False),
        sa.Column("collection_id", _ID, nullable=False),
        sa.Column("document_id", _ID, sa.ForeignKey("documents.id"), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("page", sa.Integer),
        sa.Column("start_offset", sa.Integer, nullable=False),
        sa.Column("end_offset", sa.Integer, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("heading", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
    )
    op.create_index("ix_chunks_document_id", "chunks", ["document_id"])
    op.create_index("ix_chunks_collection_id", "chunks", ["collection_id"])
    op.create_table(
        "jobs",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("tenant_id", _ID, nullable=False),
        sa.Column("collection_id", _ID, nullable=False),
        sa.Column("document_id", _ID, nullable=False),
        sa.Column("principal_id", sa.String(256), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("run_at", _MOMENT, nullable=False),
        sa.Column("lease_owner", sa.String(256)),
        sa.Column("lease_until", _MOMENT),
    )
    op.create_index("ix_jobs_run_at", "jobs", ["run_at"])
    for table in ("collections", "documents", "document_contents", "chunks"):
        enable_tenant_isolation(op, table)
    if op.get_bind().dialect.name == "postgresql":
        _keyword_index_postgres()
    else:
        _keyword_index_sqlite()


def _keyword_index_postgres() -> None:
    op.execute(
        "ALTER TABLE chunks ADD COLUMN words tsvector GENERATED ALWAYS AS ("
        "setweight(to_tsvector('english', title), 'B') || "
        "setweight(to_tsvector('english', heading), 'B') || "
        "setweight(to_tsvector('english', text), 'D')) STORED"
    )
    op.execute("CREATE INDEX ix_chunks_words ON chunks USING gin (words)")


def _keyword_index_sqlite() -> None:
    op.execute(
        "CREATE VIRTUAL TABLE chunk_words USING fts5(title, heading, text, content='chunks', "
        "content_rowid='serial', tokenize='porter unicode61 remove_diacritics 2')"
    )
    # Deleted words are overwritten in the index at once, not at some later merge.
    if sqlite3.sqlite_version_info >= (3, 42):
        op.execute("INSERT INTO chunk_words(chunk_words, rank) VALUES('secure-delete', 1)")
    op.execute(
        "CREATE TRIGGER chunks_words_insert AFTER INSERT ON chunks BEGIN "
        "INSERT INTO chunk_words(rowid, title, heading, text) "
        "VALUES (new.serial, new.title, new.heading, new.text); END"
    )
    op.execute(
        "CREATE TRIGGER chunks_words_delete AFTER DELETE ON chunks BEGIN "
        "INSERT INTO chunk_words(chunk_words, rowid, title, heading, text) "
        "VALUES ('delete', old.serial, old.title, old.heading, old.text); END"
    )


def downgrade() -> None:
    """Removes the tables."""
    if op.get_bind().dialect.name != "postgresql":
        op.execute("DROP TABLE chunk_words")
    for table in ("jobs", "chunks", "document_contents", "documents", "collections"):
        op.drop_table(table)
