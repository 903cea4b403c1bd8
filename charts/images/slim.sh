#!/bin/sh
# slim.sh MODULE [PACKAGE…]: takes out of /opt/errand what a running service never reads, and the packages named, which
# others ask for without the service ever importing them. Fails when the module, the service's first, does not import.
set -eu
module=$1; shift
cd /opt/errand/lib/python3.11/site-packages
if [ $# -gt 0 ]; then /opt/errand/bin/pip uninstall --quiet --yes "$@"; fi
rm -rf pip pip-* setuptools setuptools-* pkg_resources _distutils_hack distutils-precedence.pth /opt/errand/bin/pip*
find . -name "*.pyi" -delete
find . -type d \( -name tests -o -name test -o -name testsuite \) -prune -exec rm -rf {} +
# Debug symbols of extension modules. Libraries that wheels bring along (*.libs) do not survive it.
for package in aiohttp asyncpg cryptography greenlet grpc httptools re2 rpds selectolax sqlalchemy uvloop wasmtime yaml; do
    if [ -d $package ]; then find $package -name "*.so" -exec strip --strip-unneeded {} +; fi
done
# Packages were installed without bytecode: it is written for what a service loads, and for nothing else. First what is
# loaded by name or late, then all that the import brings.
for package in aiosqlite anyio errand* fastapi* flexcache flexparser httptools pint uvicorn uvloop; do
    if [ -d $package ]; then /opt/errand/bin/python -m compileall -q $package; fi
done
/opt/errand/bin/python -c "
import $module
import alembic.command, psycopg
import sqlalchemy.dialects.postgresql.asyncpg, sqlalchemy.dialects.sqlite.aiosqlite"
