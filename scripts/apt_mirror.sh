#!/usr/bin/env bash
# Prints the Debian archive that this machine takes its packages from, as apt is configured; fails if there is none.
set -euo pipefail
apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' | grep -m1 -E '/debian/?$' || {
    echo "apt's configuration has no Debian archive" >&2
    exit 1
}
