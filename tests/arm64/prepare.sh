#!/bin/sh
# Make a root file system for 64-bit ARM that qemu can run one Python in: Debian's Python 3.11, unpacked and never
# configured, with the service's wheels for ARM beside it. No emulated installation, no binfmt registration.
#
# Usage: tests/arm64/prepare.sh DIR PYTHON    (root, debootstrap, qemu-user-static; PYTHON has pip)
set -eu
root=$1
python=$2
if [ -e "$root/.ready" ]; then
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
wheels=$root/wheels
platforms="--platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64"
# The versions that this checkout runs with, for the other processor.
wanted=$("$python" - <<'PY'
from importlib.metadata import version
print(*(f"{name}=={version(name)}" for name in ("numpy", "onnxruntime", "safetensors", "flatbuffers", "packaging", "protobuf")))
PY
)
# shellcheck disable=SC2086  # several words on purpose
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 311 \
    $platforms --dest "$wheels" $wanted
# shellcheck disable=SC2086
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --no-index --only-binary=:all: \
    --python-version 311 $platforms --target "$root/site" "$wheels"/*.whl
touch "$root/.ready"
