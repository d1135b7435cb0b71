#!/bin/sh
# A stand-in for the Dockerfile's base image where no registry can be reached: Debian's own Python 3.11, as
# localhost/python:3.11-slim-bookworm in local storage, where an unqualified FROM finds it. It proves the logic of the
# Dockerfile; the size of the shipped image depends on the real base.
#
# Usage: tests/deploy/base_image.sh DIR    (root, debootstrap, podman; DIR keeps the packages between runs)
set -eu
image=localhost/python:3.11-slim-bookworm
if podman image exists "$image"; then
    exit 0
fi
for tool in debootstrap podman buildah; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install debootstrap podman buildah runc" >&2; exit 2; }
done
mkdir -p "$1/packages"
folder=$(cd "$1" && pwd)
root=$folder/root
rm -rf "$root"
debootstrap --cache-dir="$folder/packages" --variant=minbase \
    --include=ca-certificates,python3,python3-venv,python3-pip bookworm "$root" >&2
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/archives/*.deb "$root"/usr/share/doc/* "$root"/usr/share/locale/* \
    "$root"/usr/lib/python3*/EXTERNALLY-MANAGED
for name in python python3; do
    ln -sf /usr/bin/python3 "$root/usr/local/bin/$name"
done
tar -C "$root" -c . | podman import --change 'CMD ["python3"]' - "$image" >&2
rm -rf "$root"
