#!/usr/bin/env bash
# Installs what Adapath needs to build and run on Debian 12 or newer. Idempotent, and quiet when there is nothing to do.
#
#   scripts/deps.sh          install what is missing
#   scripts/deps.sh --check  only say what is missing; exit 1 if anything is
#
# Debian 12's own libbpf (1.1) has no struct_ops links, so libbpf and bpftool come from its backports there; newer
# releases have them in main. The mirror is the one that the machine's own sources already name.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
cache=${ADAPATH_CACHE:-$here/out/cache}

say() { printf 'deps: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

command -v apt-get >/dev/null || die "apt-get not found: this script knows Debian 12 or newer. On another system install the packages named in $0 by their local names."

packages=(
	build-essential cmake ninja-build pkg-config git curl
	clang-19 llvm-19-dev libclang-19-dev clang-format-19
	libtorch-dev libopenblas0-openmp
	libprotobuf-dev protobuf-compiler libgrpc++-dev protobuf-compiler-grpc
	libgtest-dev libgmock-dev libbenchmark-dev
	libcli11-dev libspdlog-dev libfmt-dev nlohmann-json3-dev libssl-dev
	libnl-3-dev libnl-route-3-dev libnl-genl-3-dev libsystemd-dev libcap-dev
	libavcodec-dev libavformat-dev libavutil-dev libswscale-dev libx264-dev
	libelf-dev zlib1g-dev iproute2 iperf3 procps
	# kernel modules, and the VM that tests them
	kmod xz-utils zstd dwarves cpio busybox-static
	# the debug kernel (make vmtest-debug) and the checks (make check)
	bc bison flex sparse shellcheck clang-tidy-19 valgrind
)
# The kernels under test are Debian's amd64 ones; elsewhere their tests skip.
[ "$(dpkg --print-architecture)" != amd64 ] || packages+=(qemu-system-x86 gcc-12)
# From backports on Debian 12: libbpf 1.4 brings bpf_map__attach_struct_ops links and struct_ops maps in shared objects.
backported=(libbpf-dev bpftool)

. /etc/os-release
[ "${ID:-}" = debian ] || [[ " ${ID_LIKE:-} " == *" debian "* ]] || say "this is ${PRETTY_NAME:-an unknown system}; the package names are Debian 12's"

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
version_of() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null || echo 0; }
libbpf_ok() { installed libbpf-dev && dpkg --compare-versions "$(version_of libbpf-dev | sed 's/^[0-9]*://')" ge 1.3; }

missing=()
for p in "${packages[@]}"; do installed "$p" || missing+=("$p"); done
need_bpf=()
libbpf_ok || need_bpf+=(libbpf-dev)
installed bpftool || need_bpf+=(bpftool)

clip="$cache/clip/vtest.avi"

if [ "${1:-}" = --check ]; then
	[ ${#missing[@]} -eq 0 ] && [ ${#need_bpf[@]} -eq 0 ] && [ -f "$clip" ] && exit 0
	say "missing: ${missing[*]} ${need_bpf[*]} $([ -f "$clip" ] || echo 'clip (vtest.avi)')"
	exit 1
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
run() { "$@" >"$log" 2>&1 || { tail -n 30 "$log" >&2; die "failed: $*"; }; }

updated=
update_lists() {
	[ -n "$updated" ] && return
	say "updating the package lists"
	run apt-get update -q
	updated=1
}

as_root() { [ "$(id -u)" = 0 ] || die "packages are missing (${missing[*]} ${need_bpf[*]}) and installing them needs root: run 'sudo make deps' once"; }

if [ ${#missing[@]} -gt 0 ]; then
	as_root
	update_lists
	say "installing ${#missing[@]} packages (about 3 GB on a bare machine): ${missing[*]}"
	run env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
fi

if [ ${#need_bpf[@]} -gt 0 ]; then
	as_root
	if [ "${VERSION_ID:-}" = 12 ] && ! apt-cache policy 2>/dev/null | grep -q bookworm-backports; then
		# The first configured mirror that serves plain bookworm serves its backports too.
		mirror=$(apt-get indextargets --format '$(SITE) $(RELEASE)' 2>/dev/null | awk '$2 == "bookworm" || $2 == "stable" || $2 == "oldstable" { print $1; exit }')
		[ -n "$mirror" ] || die "no Debian 12 mirror found in the apt sources: add 'deb MIRROR bookworm-backports main' by hand and run this again"
		say "enabling bookworm-backports from $mirror (in /etc/apt/sources.list.d/adapath-backports.list)"
		keyring=/usr/share/keyrings/debian-archive-keyring.gpg
		signed=; [ -f "$keyring" ] && signed="[signed-by=$keyring] "
		echo "deb ${signed}$mirror bookworm-backports main" > /etc/apt/sources.list.d/adapath-backports.list
		updated=
	fi
	update_lists
	release=()
	[ "${VERSION_ID:-}" = 12 ] && release=(-t bookworm-backports)
	say "installing libbpf and bpftool${release[1]:+ from ${release[1]}}"
	run env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${release[@]}" "${backported[@]}"
	libbpf_ok || die "libbpf-dev $(version_of libbpf-dev) is too old: 1.3 or newer is needed for struct_ops links"
fi

# The default clip: a surveillance view that the opencv-doc package carries. Unpacked beside, not installed: its
# dependencies are large and none is needed.
if [ ! -f "$clip" ]; then
	say "fetching the default clip (vtest.avi of Debian's opencv-doc, 100 MB download)"
	tmp=$(mktemp -d)
	chmod 755 "$tmp"
	trap 'rm -rf "$tmp" "$log"' EXIT
	apt-cache show opencv-doc >/dev/null 2>&1 || { as_root; update_lists; }
	(cd "$tmp" && run apt-get download -q opencv-doc && run dpkg-deb -x opencv-doc_*.deb x)
	mkdir -p "$(dirname "$clip")"
	found=$(find "$tmp/x" -name 'vtest.avi*' | head -1)
	[ -n "$found" ] || die "opencv-doc of this release has no vtest.avi: pass your own clip with CLIP=file"
	case "$found" in
	*.gz) gzip -dc "$found" > "$clip.part" ;;
	*) cp "$found" "$clip.part" ;;
	esac
	mv "$clip.part" "$clip"
	rm -rf "$tmp"
fi
