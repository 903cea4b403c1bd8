"""Generations of a collection's index, and certificates of deletions."""

import sqlalchemy as sa
from alembic import op
from errand_common.db import enable_tenant_isolation
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.String(64)
_JSON = sa.JSON().with_variant(JSONB, "postgresql")
_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """What is there is the first generation of its index."""
    op.add_column("collections", sa.Column("generation", sa.Integer, nullable=False, server_default="0"))
    op.add_column("collections", sa.Column("building", sa.Integer))
    op.add_column("collections", sa.Column("building_model", sa.String(256), nullable=False, server_default=""))
    op.add_column("collections", sa.Column("building_done", sa.Integer, nullable=False, server_default="0"))
    op.add_column("collections", sa.Column("dead_vectors", sa.Integer, nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("index_name", sa.String(96), nullable=False, server_default=""))
    op.execute("UPDATE jobs SET index_name = collection_id")
    op.create_table(
        "deletion_certificates",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("tenant_id", _ID, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("target_id", sa.String(256), nullable=False),
        sa.Column("requested_by", sa.String(256), nullable=False),
        sa.Column("requested_at", _MOMENT, nullable=False),
        sa.Column("documents", sa.BigInteger, nullable=False),
        sa.Column("chunks", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("traces", _JSON, nullable=False),
        sa.Column("proofs", _JSON, nullable=False),
        sa.Column("proven_at", _MOMENT),
    )
    op.create_index("ix_deletion_certificates_tenant_id_id", "deletion_certificates", ["tenant_id", "id"])
    enable_tenant_isolation(op, "deletion_certificates")


def downgrade() -> None:
    """Removes them."""
    op.drop_table("deletion_certificates")
    op.drop_column("jobs", "index_name")
    for column in ("dead_vectors", "building_done", "building_model", "building", "generation"):
        op.drop_column("collections", column)
