#!/bin/sh
# Make a root file system for 64-bit ARM that qemu can run one Python in: Debian's Python 3.11, unpacked and never
# configured, with the service's wheels for ARM beside it, those that the image for ARM installs. No emulated
# installation, no binfmt registration.
#
# Usage: tests/arm64/prepare.sh DIR PYTHON    (root, debootstrap, qemu-user-static; PYTHON has pip)
set -eu
root=$1
python=$2
here=$(cd "$(dirname "$0")/../.." && pwd)
wanted=$("$python" "$here/deploy/image_requirements.py" "$here/pyproject.toml" && cat "$here/constraints.txt")
if [ "$wanted" = "$(cat "$root/.ready" 2>/dev/null)" ]; then
    exit 0
fi
for tool in debootstrap qemu-aarch64-static dpkg-deb; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install qemu-user-static debootstrap" >&2; exit 2; }
done
rm -rf "$root"
mkdir -p "$root"
debootstrap --arch=arm64 --foreign --variant=minbase --include=python3,ca-certificates bookworm "$root" >&2
for package in "$root"/var/cache/apt/archives/*.deb; do
    dpkg-deb -x "$package" "$root"
done
cp "$(command -v qemu-aarch64-static)" "$root/usr/bin/"
"$python" "$here/deploy/image_requirements.py" "$here/pyproject.toml" >"$root/requirements.txt"
platforms=$(for version in $(seq 17 28); do echo "--platform=manylinux_2_${version}_aarch64"; done)
# shellcheck disable=SC2086  # several words on purpose
"$python" -m pip install --quiet --disable-pip-version-check --no-compile --only-binary=:all: --python-version 311 \
    $platforms --platform=manylinux2014_aarch64 --constraint "$here/constraints.txt" \
    --requirement "$root/requirements.txt" --target "$root/site"
echo "$wanted" >"$root/.ready"
