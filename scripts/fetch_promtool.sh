#!/bin/sh
# Put Prometheus's promtool at the path that is given: the one on PATH, or else that of Debian's or
# Ubuntu's package `prometheus`, which is unpacked and not installed.
set -eu
if found=$(command -v promtool); then
    ln -sf "$found" "$1"
    exit
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
target=$(realpath "$(dirname "$1")")/$(basename "$1")
cd "$folder"
# An image without the package lists has to fetch them first.
apt-get download -qq prometheus 2> /dev/null || { apt-get update -qq && apt-get download -qq prometheus; }
dpkg-deb -x prometheus_*.deb .
mv usr/bin/promtool "$target"
