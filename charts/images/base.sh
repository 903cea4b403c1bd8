#!/bin/sh
# base.sh: takes out of python:3.11-slim-bookworm what no service uses: package managers, Perl, installers, other character
# sets. Packages are purged, not only deleted, so that scanners and bills of materials name what is there. It makes the user
# too. What is left is copied into an empty image: deleted files would stay in the layers below.
set -eu
# useradd would note the day.
echo "errand:x:1000:1000::/nonexistent:/usr/sbin/nologin" >>/etc/passwd
echo "errand:x:1000:" >>/etc/group
mkdir /var/empty

python=$(python3 -c "import os; print(os.path.dirname(os.__file__))")
for name in ensurepip idlelib lib2to3 pydoc_data test tkinter turtledemo "config-*"; do rm -rf "$python"/$name; done
# What a service imports is in /opt/errand.
rm -rf /usr/local/lib/python3.11/site-packages/* /usr/local/bin/pip* /usr/local/bin/wheel

installed=""
for name in adduser apt debconf debian-archive-keyring e2fsprogs gpgv libapt-pkg6.0 libext2fs2 libgnutls30 libhogweed6 libidn2-0 \
    libnettle8 libp11-kit0 libunistring2 login mount passwd perl-base python3-distutils python3-lib2to3 python3-pip-whl \
    python3-setuptools-whl python3-venv python3.11-venv; do
    if dpkg-query --show $name >/dev/null 2>&1; then installed="$installed $name"; fi
done
# Some ask for Perl when they go; they are all gone then.
rm -f /var/lib/dpkg/info/*.prerm /var/lib/dpkg/info/*.postrm
dpkg --purge --force-all $installed >/dev/null 2>&1
find / -xdev -type f -perm /6000 -exec chmod a-s {} +
rm -rf /usr/lib/*-linux-gnu/gconv /usr/share/doc /usr/share/man /usr/share/perl5 /usr/share/bash-completion /usr/share/lintian \
    /var/cache/* /var/lib/apt /var/lib/dpkg/*-old /var/log/* /root/.cache /base.sh
