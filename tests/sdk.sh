#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors
#
# sdk.sh   run by `make check`; PYTHON is what the tests run with
#
# Puts the reference's Python SDK where tests/system/test_sdk.py looks for it: from PyPI into KAITEN_SDK,
# a virtual environment, in the versions and with the hashes of etc/packaging/python-sdk. Once; nothing
# else of this machine is changed. Whoever is offline goes on without it: the test is then skipped and
# says why, which with CI=1 is a failure.
set -u
folder=${KAITEN_SDK:?run by make check}
list=$(dirname "$0")/../etc/packaging/python-sdk
sdk=$(sed -n 's/^\(kaitencloud\)==\([^ ]*\).*/\1 \2/p' "$list")

say() {
    echo "sdk.sh: $*"
}

[ -n "${PYTHON:-}" ] || exit 0
for_these=$("$PYTHON" -V 2>&1; cksum <"$list")
[ "$(cat "$folder/made-for" 2>/dev/null)" != "$for_these" ] || exit 0

say "fetching the reference's Python SDK ($sdk) from PyPI into $folder"
rm -rf "$folder"
mkdir -p "$(dirname "$folder")"
if "$PYTHON" -m venv "$folder" >"$folder.log" 2>&1 &&
    "$folder/bin/python" -m pip install --disable-pip-version-check --no-input --no-compile \
        --retries 2 --timeout 20 --only-binary :all: --require-hashes -r "$list" \
        >>"$folder.log" 2>&1; then
    echo "$for_these" >"$folder/made-for"
    exit 0
fi
say "that failed ($folder.log), and test_sdk.py will be skipped: $(tail -n 1 "$folder.log")"
rm -rf "$folder"
exit 0
