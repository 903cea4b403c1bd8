"""What `helm rollback` stands on: the version before works with the tables of this one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVICES = Path(__file__).parents[2] / "services"
MIGRATIONS = sorted(SERVICES.glob("*/src/*/storage/migrations/versions/*.py"))
TAKES_AWAY = {"drop_table", "drop_column", "rename_table", "alter_column"}
SQL = re.compile(r"\bDROP (TABLE|COLUMN)\b|\bRENAME\b|\bSET NOT NULL\b", re.IGNORECASE)


def breaks_older_code(source: str) -> Iterator[str]:
    """Steps of a migration that code which does not know it would stumble over."""
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    for call in (node for function in functions if function.name != "downgrade" for node in ast.walk(function)):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
            continue
        name, text = call.func.attr, ast.unparse(call)
        required = name == "add_column" and "nullable=False" in text and "server_default" not in text
        if name in TAKES_AWAY or required or (name == "execute" and SQL.search(text)):
            yield text


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: f"{path.parents[3].name}-{path.stem[:4]}")
def test_a_migration_takes_nothing_from_the_version_before(path: Path) -> None:
    assert not list(breaks_older_code(path.read_text()))


def test_every_service_with_tables_is_looked_at() -> None:
    assert {path.relative_to(SERVICES).parts[0] for path in MIGRATIONS} == {"gateway", "agent", "rag", "tools"}


@pytest.mark.parametrize(
    "step",
    [
        "op.drop_column('runs', 'state')",
        "op.alter_column('runs', 'state', nullable=False)",
        "op.add_column('runs', sa.Column('kind', sa.Text, nullable=False))",
        "op.execute('ALTER TABLE runs DROP COLUMN state')",
    ],
)
def test_what_would_break_it_is_found(step: str) -> None:
    assert list(breaks_older_code(f"def upgrade():\n    {step}\n"))
