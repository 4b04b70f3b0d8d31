#!/bin/sh
# Installs the programs that tests drive and pip cannot bring: `deploy/system_packages.sh PACKAGE:PROGRAM...` installs each
# Debian package whose program is not on the PATH. Where it may not, it says what is missing.
set -eu
missing=""
for wanted in "$@"; do
	command -v "${wanted#*:}" >/dev/null 2>&1 || missing="$missing ${wanted%%:*}"
done
test -n "$missing" || exit 0
if test "$(id -u)" -ne 0 || ! command -v apt-get >/dev/null 2>&1; then
	echo "the tests need these packages, please install them:$missing" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq >/dev/null
# shellcheck disable=SC2086 # the names are words
apt-get install -y -qq --no-install-recommends $missing >/dev/null
