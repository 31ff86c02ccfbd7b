#!/bin/sh
# Install the Debian packages that development and tests need, and say why; does nothing where all are there.
set -eu

# package, the file that shows it is there, and the reason
packages() {
    cat <<'LIST'
openssh-server /usr/sbin/sshd tests ship to a real SSH server on this machine's loopback interface
openssh-client /usr/bin/ssh-keygen tests make their own SSH host and user keys
LIST
    # Debian splits venv from its Python; a Python from elsewhere brings its own.
    if [ "${1:-}" ] && ! "$1" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "python3-venv - $1 cannot create virtual environments without it"
    fi
}

missing=""
while read -r name proof reason; do
    if [ -z "$name" ] || [ -x "$proof" ]; then
        continue
    fi
    echo "Debian package $name: $reason" >&2
    missing="$missing $name"
done <<LIST
$(packages "$@")
LIST

if [ -z "$missing" ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "no apt-get here: install what provides$missing yourself, then run this again" >&2
    exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root=""
elif command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
    as_root="sudo"
else
    echo "neither root nor sudo: run 'apt-get install$missing' as root, then run this again" >&2
    exit 1
fi
$as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq </dev/null
# shellcheck disable=SC2086 # a list of words is meant
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing </dev/null
