"""Waits until the database answers, and with a schema named until its tables are there. Says what it waits for."""

import os
import sys
import time

import psycopg

url = os.environ["DATABASE_URL"].replace("+asyncpg", "", 1)
schema = sys.argv[1] if len(sys.argv) > 1 else ""
place = url.rsplit("@", 1)[-1]
said = ""
while True:
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            row = connection.execute("SELECT to_regclass(%s)", (f'"{schema}".alembic_version',)).fetchone()
        if not schema or (row and row[0]):
            sys.exit(0)
        state = f"waiting for the tables of {schema} in {place}: its migration has not run yet"
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0]
        state = f"waiting for the database at {place}: {reason}"
    if state != said:
        print(state, flush=True)
        said = state
    time.sleep(0.5)
