"""SQL over a CSV text: an SQLite database in memory that can read its one table and nothing else."""

import csv
import io
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import Any, Final

from errand_tools.builtin.base import BuiltinTool, computed
from errand_tools.domain.tools import JsonObject, ToolFailed

MAX_CSV_CHARACTERS: Final = 200_000
MAX_ROWS: Final = 5_000
MAX_COLUMNS: Final = 64
MAX_RESULT_ROWS: Final = 100
# A value, and a whole row: with the steps below it bounds what a sort may pile up in memory.
_MAX_VALUE_BYTES: Final = 4_000
_MAX_CELL_CHARACTERS: Final = 100_000
_MAX_STEPS: Final = 1_000_000
_STEPS_AT_ONCE: Final = 10_000
_INTEGER = re.compile(r"^[+-]?\d{1,15}$")
_NUMBER = re.compile(r"^[+-]?\d{1,15}\.\d{1,15}$")
_ALLOWED: Final = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION})
_REFUSED_FUNCTIONS: Final = frozenset({"load_extension", "zeroblob", "randomblob", "fts3_tokenizer"})
_LIMITS: Final = {
    sqlite3.SQLITE_LIMIT_LENGTH: _MAX_VALUE_BYTES,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 4_000,
    sqlite3.SQLITE_LIMIT_COLUMN: MAX_COLUMNS,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 50,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 5,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 200,
}


def query(text: str, sql: str) -> JsonObject:
    """Columns and rows of the query's result. Raises ToolFailed with one sentence for the model."""
    header, rows = _table(text)
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("PRAGMA temp_store = MEMORY")
        places = ", ".join("?" * len(header))
        database.execute(f"CREATE TABLE data ({', '.join(_quoted(name) for name in header)})")
        database.executemany(f"INSERT INTO data VALUES ({places})", rows)  # noqa: S608  only question marks
        _confine(database)
        try:
            cursor = database.execute(sql)
            found = cursor.fetchmany(MAX_RESULT_ROWS + 1)
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            raise ToolFailed(_told(error, header)) from None
        if cursor.description is None:
            raise ToolFailed("The query is empty; write one such as SELECT * FROM data.")
        columns = [column[0] for column in cursor.description]
    result: JsonObject = {"columns": columns, "rows": [_shown(row) for row in found[:MAX_RESULT_ROWS]]}
    if len(found) > MAX_RESULT_ROWS:
        result["note"] = f"only the first {MAX_RESULT_ROWS} rows"
    return result


def _table(text: str) -> tuple[list[str], list[list[Any]]]:
    if len(text) > MAX_CSV_CHARACTERS:
        raise ToolFailed(f"The CSV may have {MAX_CSV_CHARACTERS} characters; send less.")
    try:
        lines = [line for line in csv.reader(io.StringIO(text.strip()), delimiter=_delimiter(text)) if line]
    except csv.Error:
        raise ToolFailed("The text cannot be read as CSV.") from None
    if not lines or len(lines[0]) > MAX_COLUMNS or len(lines) > MAX_ROWS + 1:
        raise ToolFailed(f"The CSV needs a header line, at most {MAX_COLUMNS} columns and {MAX_ROWS} rows.")
    # The csv module's own limit is one of the process, which any library may have raised.
    if any(len(cell) > _MAX_CELL_CHARACTERS for line in lines for cell in line):
        raise ToolFailed(f"A cell may have {_MAX_CELL_CHARACTERS} characters; is a quote left open?")
    header = _names(lines[0])
    width = len(header)
    return header, [[_value(cell) for cell in (line + [""] * width)[:width]] for line in lines[1:]]


def _delimiter(text: str) -> str:
    first = text.strip().split("\n", maxsplit=1)[0]
    return max(",;\t|", key=first.count)


def _names(cells: Sequence[str]) -> list[str]:
    """Column names; SQLite does not tell capital letters from small ones."""
    names: list[str] = []
    for number, cell in enumerate(cells, 1):
        name = cell.strip().replace("\0", "")[:64] or f"column{number}"
        taken = {known.lower() for known in names}
        names.append(name if name.lower() not in taken else f"column{number}")
    return names


def _value(cell: str) -> Any:
    text = cell.strip()
    if not text:
        return None
    if _INTEGER.match(text):
        return int(text)
    return float(text) if _NUMBER.match(text) else text[: _MAX_VALUE_BYTES // 4]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _confine(database: sqlite3.Connection) -> None:
    steps = 0

    def count() -> bool:
        nonlocal steps
        steps += _STEPS_AT_ONCE
        return steps > _MAX_STEPS

    def allow(action: int, first: str | None, second: str | None, *_: object) -> int:
        refused = action not in _ALLOWED or (second or "").lower() in _REFUSED_FUNCTIONS
        return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK

    for limit, value in _LIMITS.items():
        database.setlimit(limit, value)
    database.set_progress_handler(count, _STEPS_AT_ONCE)
    database.set_authorizer(allow)


def _told(error: Exception, header: Sequence[str]) -> str:
    told = str(error)
    if "interrupted" in told:
        return "The query takes too long; ask for less."
    if "not authorized" in told or "prohibited" in told:
        return "The query may only SELECT from the table data."
    return f"The query failed: {told[:200].rstrip('.')}; the table is data, its columns are {', '.join(header)[:300]}."


def _shown(row: Sequence[Any]) -> list[Any]:
    return [value.hex() if isinstance(value, bytes) else value for value in row]


def _run(arguments: JsonObject) -> JsonObject:
    return query(arguments["csv"], arguments["query"])


TOOL = BuiltinTool(
    name="csv_query",
    description=(
        "Query, filter, sort, sum, average or group a CSV table with SQL. The table is named data and its columns"
        " come from the first line, such as SELECT city, SUM(price) FROM data GROUP BY city."
    ),
    parameters={
        "type": "object",
        "properties": {
            "csv": {"type": "string", "description": "The CSV text with a header", "examples": ["city,price\nRome,3"]},
            "query": {"type": "string", "description": "The SELECT", "examples": ["SELECT SUM(price) FROM data"]},
        },
        "required": ["csv", "query"],
        "additionalProperties": False,
    },
    build=computed(_run),
    timeout_ms=5_000,
)
