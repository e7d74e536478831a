# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# apt with sources, lists and cache of its own: packages of any Debian suite can be looked at,
# downloaded or installed, and the system's own sources stay as they are. Sourced, not run.

DEBIAN_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# The URIs that the system itself installs from, one a line, in both notations.
apt_system_uris() {
	cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
		sed -n 's/^[[:space:]]*deb[[:space:]]\+\(\[[^]]*\][[:space:]]*\)\?\([^[:space:]]\+\).*/\2/p'
	cat /etc/apt/sources.list.d/*.sources 2>/dev/null |
		sed -n 's/^URIs:[[:space:]]*//Ip' | tr -s '[:space:]' '\n'
}

# The Debian mirror that the system uses, else Debian's own.
apt_debian_mirror() {
	local uri
	uri=$(apt_system_uris | grep -E '^(https?|ftp|file|copy):.*/debian/?$' | head -n 1)
	printf '%s\n' "${uri:-http://deb.debian.org/debian}"
}

# Likewise, where the suites called ...-security are.
apt_security_mirror() {
	local uri
	uri=$(apt_system_uris | grep -E '^(https?|ftp|file|copy):.*/debian-security/?$' | head -n 1)
	printf '%s\n' "${uri:-http://deb.debian.org/debian-security}"
}

# apt_private DIR SUITE...: prepares DIR; afterwards "${APT_PRIVATE[@]}" are the options that make
# apt-get and apt-cache use it. Nothing is fetched yet.
apt_private() {
	local dir=$1 mirror suite uri
	shift
	if [ ! -r "$DEBIAN_KEYRING" ]; then
		echo "the keys of Debian's archive are missing; install the package" \
			"debian-archive-keyring (apt-get install debian-archive-keyring)" >&2
		return 1
	fi
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" || return 1
	mirror=$(apt_debian_mirror)
	for suite; do
		uri=$mirror
		[[ $suite != *-security ]] || uri=$(apt_security_mirror)
		echo "deb [arch=amd64 signed-by=$DEBIAN_KEYRING] $uri $suite main"
	done >"$dir/sources.list"
	APT_PRIVATE=(
		-o "Dir::Etc::sourcelist=$dir/sources.list"
		-o "Dir::Etc::sourceparts=/dev/null"
		-o "Dir::State::lists=$dir/lists"
		-o "Dir::Cache=$dir/cache"
		-o "Acquire::Languages=none"
		-o "Acquire::AllowInsecureRepositories=false"
		-o "APT::Get::AllowUnauthenticated=false"
	)
	# apt's own unprivileged user could not read a private directory.
	if [ "$(id -u)" = 0 ]; then
		APT_PRIVATE+=(-o "APT::Sandbox::User=root")
	fi
}
