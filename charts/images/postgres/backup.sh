#!/bin/sh
# backup.sh dump FOLDER KEEP: one dump of each database, the newest KEEP stay.
# backup.sh restore FOLDER [NAME]: the newest backup unless one is named.
set -eu
export PGUSER=postgres PGPASSWORD="${POSTGRES_PASSWORD:?is not set}"
: "${PGHOST:?is not set}"

dump() {
    folder=$1 keep=$2 name=$(date -u +%Y%m%dT%H%M%SZ)
    # Unfinished dumps are never taken for whole ones.
    rm -rf "$folder"/*.partial
    mkdir -p "$folder/$name.partial"
    for database in errand mlflow; do
        pg_dump --format=custom --compress=6 --file="$folder/$name.partial/$database.dump" "$database"
        pg_restore --list "$folder/$name.partial/$database.dump" > /dev/null
    done
    mv "$folder/$name.partial" "$folder/$name"
    echo "backup $folder/$name: $(du -sh "$folder/$name" | cut -f1)"
    ls -1d "$folder"/*Z | sort -r | tail -n +$((keep + 1)) | xargs -r rm -rf
}

# How many sessions of the services a database takes: 0 ends those there are, -1 is no limit. Superusers do not count.
let_in() {
    psql --quiet --no-psqlrc --dbname=postgres --command="ALTER DATABASE $1 CONNECTION LIMIT $2"
    if [ "$2" = 0 ]; then
        psql --quiet --no-psqlrc --tuples-only --dbname=postgres --output=/dev/null \
            --command="SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '$1' AND pid <> pg_backend_pid()"
    fi
}

# The backup as SQL, after everything that is there now: a newer version's tables too. What cannot be read to its end
# ends in an error, so that nothing of it stays.
whole() {
    cat <<'SQL'
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
    LOOP EXECUTE format('DROP SCHEMA %I CASCADE', name); END LOOP;
    -- A dump takes this one for granted.
    CREATE SCHEMA public AUTHORIZATION pg_database_owner;
    GRANT USAGE ON SCHEMA public TO PUBLIC;
END $$;
SQL
    pg_restore --file=- "$1" || echo "SELECT 1 / 0 AS the_backup_cannot_be_read;"
}

restore() {
    folder=$1 name=${2:-latest}
    if [ "$name" = latest ]; then name=$(basename "$(ls -1d "$folder"/*Z 2> /dev/null | sort | tail -n 1)"); fi
    if [ ! -f "$folder/$name/errand.dump" ]; then
        echo "backup.sh: $folder/$name holds no backup; backups: $(cd "$folder" && ls -1d *Z 2> /dev/null | tr '\n' ' ')" >&2
        exit 1
    fi
    for database in errand mlflow; do
        # Services that go on asking would hold locks that the restore waits for, and wait for its own.
        trap "let_in $database -1" EXIT
        let_in $database 0
        # All or nothing: a database is as it was, or as the backup is.
        whole "$folder/$name/$database.dump" | psql --quiet --no-psqlrc --set=ON_ERROR_STOP=1 --single-transaction \
            --output=/dev/null --dbname="$database" --file=-
        let_in $database -1
        trap - EXIT
    done
    echo "restored $folder/$name"
}

command=$1; shift
case $command in
    dump) dump "$@" ;;
    restore) restore "$@" ;;
    *) echo "backup.sh dump FOLDER KEEP | restore FOLDER [NAME]" >&2; exit 2 ;;
esac
