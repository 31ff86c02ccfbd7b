#!/bin/bash
# sources.sh SUITE: the apt sources for a Debian of that release, one a line, as mmdebstrap reads them. They are this
# machine's own, whatever mirror they name, where it has such; else those of the mirror that DEBIAN_MIRROR names.
set -euo pipefail
suite=$1
for release in "$suite" "$suite-updates" "$suite-security"; do
    # shellcheck disable=SC2016 # apt fills them in
    apt-get indextargets 'Created-By: Packages' 'Origin: Debian' "Codename: $release" \
        --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 2>/dev/null | sort -u
done | grep . || echo "deb ${DEBIAN_MIRROR:?has to name a mirror of Debian: apt has no sources of $suite here} $suite main"
