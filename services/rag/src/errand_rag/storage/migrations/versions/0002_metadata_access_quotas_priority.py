"""Metadata of documents, access by role, quotas of a collection, priority of jobs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_JSON = sa.JSON().with_variant(JSONB, "postgresql")


def upgrade() -> None:
    """Adds the columns; what is there has no metadata and is open to all of its tenant."""
    for name, column, default in (
        ("metadata_schema", _JSON, "{}"),
        ("reader_roles", _JSON, "[]"),
        ("writer_roles", _JSON, "[]"),
        ("max_documents", sa.BigInteger, "0"),
        ("max_bytes", sa.BigInteger, "0"),
    ):
        op.add_column("collections", sa.Column(name, column, nullable=False, server_default=default))
    op.add_column("documents", sa.Column("details", _JSON, nullable=False, server_default="{}"))
    op.add_column("documents", sa.Column("uploaded_by", sa.String(256), nullable=False, server_default=""))
    op.create_index("ix_documents_tenant_id_uploaded_by", "documents", ["tenant_id", "uploaded_by"])
    op.add_column("jobs", sa.Column("priority", sa.Integer, nullable=False, server_default="0"))


def downgrade() -> None:
    """Removes the columns."""
    op.drop_column("jobs", "priority")
    op.drop_index("ix_documents_tenant_id_uploaded_by", "documents")
    for column in ("uploaded_by", "details"):
        op.drop_column("documents", column)
    for column in ("max_bytes", "max_documents", "writer_roles", "reader_roles", "metadata_schema"):
        op.drop_column("collections", column)
