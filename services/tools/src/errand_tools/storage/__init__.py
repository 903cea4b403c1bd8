"""Tools and effects in the database; SQLite embedded, Postgres in a cluster."""
