#!/bin/sh
# Makes the cluster, the roles and the databases when they are not there, then becomes Postgres.
set -eu
export PGHOST=/tmp PGUSER=postgres PGDATABASE=postgres
: "${POSTGRES_PASSWORD:?is not set}"

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    # A start that died halfway leaves only the other folder.
    rm -rf "$PGDATA.new"
    initdb --pgdata="$PGDATA.new" --username=postgres --encoding=UTF8 --locale=C.UTF-8 \
        --auth-local=trust --auth-host=scram-sha-256 > /tmp/initdb.log || { cat /tmp/initdb.log >&2; exit 1; }
    echo "host all all all scram-sha-256" >> "$PGDATA.new/pg_hba.conf"
    mv "$PGDATA.new" "$PGDATA"
fi

# Reachable by nobody else while roles are made.
pg_ctl start --silent --wait --timeout=120 --log=/tmp/start.log \
    --options="-c listen_addresses='' -c unix_socket_directories=/tmp" || { cat /tmp/start.log >&2; exit 1; }
say() { psql --quiet --no-psqlrc --set=ON_ERROR_STOP=1 "$@"; }
say --set=password="$POSTGRES_PASSWORD" <<'SQL'
ALTER ROLE postgres PASSWORD :'password';
SELECT 'CREATE DATABASE errand' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'errand') \gexec
SELECT 'CREATE DATABASE mlflow' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'mlflow') \gexec
REVOKE ALL ON DATABASE errand, mlflow FROM PUBLIC;
SQL
# Each service has a role that owns its own schema and reads no other; none of them is a superuser, so that
# row-level security holds for all.
for role in gateway agent rag tools mlflow; do
    eval "password=\${$(echo $role | tr a-z A-Z)_PASSWORD:?is not set}"
    database=errand
    if [ $role = mlflow ]; then database=mlflow; fi
    say --set=role=$role --set=database=$database --set=password="$password" <<'SQL'
SELECT format('CREATE ROLE %I LOGIN', :'role') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
ALTER ROLE :"role" PASSWORD :'password';
GRANT CONNECT, CREATE, TEMPORARY ON DATABASE :"database" TO :"role";
SQL
done
say --dbname=mlflow --command="GRANT ALL ON SCHEMA public TO mlflow"
pg_ctl stop --silent --wait --mode=fast
exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp -c max_connections="${MAX_CONNECTIONS:-300}" "$@"
