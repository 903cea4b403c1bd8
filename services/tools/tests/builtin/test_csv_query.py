"""SQL over CSV: what it answers, and what it must not reach."""

import csv
from typing import Any

import pytest
from errand_tools.builtin.csv_query import query
from errand_tools.domain.tools import ToolFailed

SALES = "city,price,when\nRome,3,2026-01-01\nOslo,4.5,2026-01-02\nRome,10,\n"
MANY = "n\n" + "\n".join(str(number) for number in range(5_000))


@pytest.mark.parametrize(
    ("sql", "columns", "rows"),
    [
        ("SELECT city, SUM(price) AS total FROM data GROUP BY city ORDER BY 1", ["city", "total"],
         [["Oslo", 4.5], ["Rome", 13]]),
        ("SELECT COUNT(*) FROM data WHERE price > 3", ["COUNT(*)"], [[2]]),
        ("select \"when\" from data where \"when\" is null", ["when"], [[None]]),
        ("SELECT upper(city) FROM data LIMIT 1", ["upper(city)"], [["ROME"]]),
        ("WITH x AS (SELECT price FROM data) SELECT MAX(price) FROM x", ["MAX(price)"], [[10]]),
    ],
)  # fmt: skip
def test_answers(sql: str, columns: list[str], rows: list[list[Any]]) -> None:
    assert query(SALES, sql) == {"columns": columns, "rows": rows}


@pytest.mark.parametrize("text", ["a;b\n1;2", "a\tb\n1\t2", "a|b\n1|2", 'a,b\n"1","2"', "a,b\r\n1,2\r\n"])
def test_reads_the_usual_forms(text: str) -> None:
    assert query(text, "SELECT a + b FROM data")["rows"] == [[3]]


def test_odd_headers_get_names() -> None:
    assert query('a,A,,x"y\n1,2,3,4,5', "SELECT * FROM data")["columns"] == ["a", "column2", "column3", 'x"y']


def test_a_value_does_not_grow_without_bound() -> None:
    assert query(MANY, "SELECT printf('%1000000000d', 1)")["rows"] == [[None]]


def test_only_the_first_rows_are_told() -> None:
    found = query(MANY, "SELECT n FROM data")
    assert (len(found["rows"]), found["note"]) == (100, "only the first 100 rows")


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "SELECT 1; SELECT 2",
        "DELETE FROM data",
        "DROP TABLE data",
        "CREATE TABLE x (y)",
        "ATTACH '/etc/passwd' AS x",
        "ATTACH ':memory:' AS x",
        "PRAGMA database_list",
        "SELECT * FROM pragma_database_list",
        "SELECT load_extension('/tmp/x.so')",
        "SELECT readfile('/etc/passwd')",
        "VACUUM INTO '/tmp/x.db'",
        "SELECT zeroblob(1000000000)",
        "SELECT nothing FROM data",
        "SELECT * FROM other",
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT COUNT(*) FROM c",
        "SELECT COUNT(*) FROM data a, data b, data c",
        "SELECT a.n FROM data a, data b, data c ORDER BY b.n",
        "SELECT " + "(" * 200 + "1" + ")" * 200,
        "SELECT '" + "x" * 5_000 + "'",
    ],
)
def test_refuses(sql: str) -> None:
    with pytest.raises(ToolFailed) as refused:
        query(MANY, sql)
    assert refused.value.message.endswith(".")


@pytest.mark.parametrize(
    "text", ["", "x" * 200_001, "a\n" + "1\n" * 5_001, ",".join(f"c{n}" for n in range(65)), 'a\n"' + "x" * 140_000]
)
def test_refuses_tables(text: str) -> None:
    before = csv.field_size_limit(1_000_000)
    try:
        _refused(text)
    finally:
        csv.field_size_limit(before)


def _refused(text: str) -> None:
    with pytest.raises(ToolFailed):
        query(text, "SELECT * FROM data")
