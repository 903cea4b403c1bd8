"""Files of OpenAI's Files API, and the documents they became."""

import sqlalchemy as sa
from alembic import op
from errand_common.db import UtcDateTime, enable_tenant_isolation

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "files",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("tenant_id", sa.String(64), sa.ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
        sa.Column("filename", sa.String(255), nullable=False),
        sa.Column("purpose", sa.String(32), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_files_tenant_id", "files", ["tenant_id"])
    op.create_table(
        "file_links",
        sa.Column("tenant_id", sa.String(64), primary_key=True),
        sa.Column("collection_id", sa.String(64), primary_key=True),
        sa.Column("file_id", sa.String(64), primary_key=True),
        sa.Column("document_id", sa.String(64), nullable=False),
    )
    for table in ("files", "file_links"):
        enable_tenant_isolation(op, table)


def downgrade() -> None:
    op.drop_table("file_links")
    op.drop_table("files")
