#!/bin/sh
# Run once, by the image of PostgreSQL, in an empty database: the extension, and doyen's user with its password.
set -eu
password=$(cat /run/secrets/doyen_password)
psql --set ON_ERROR_STOP=1 --username postgres --dbname experts --set password="$password" <<'SQL'
CREATE EXTENSION IF NOT EXISTS vector;
CREATE ROLE doyen LOGIN PASSWORD :'password';
GRANT CREATE ON DATABASE experts TO doyen;
SQL
