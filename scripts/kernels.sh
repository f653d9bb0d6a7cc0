#!/usr/bin/env bash
# Fetches the kernels that the VM tests boot and the headers that modules build against, without installing anything:
# Debian's own packages, unpacked under out/cache/kernels/. Quiet when there is nothing to do.
#
#   scripts/kernels.sh [LABEL...]    fetch (default: every target that this system's package lists offer)
#   scripts/kernels.sh --list        print the targets: 6.1 (Debian 12's own) and 6.12 (its backports; Debian 13's own)
#   scripts/kernels.sh --update ...  fetch again, if the lists now name a newer release
#
# What one gets, for each label, under out/cache/kernels/LABEL/:
#   vmlinuz   what QEMU boots
#   modules   the tree for /lib/modules/RELEASE (what the VM needs of it; depmod has run)
#   build     what `make -C` takes to build a module (KDIR): works where it lies, with vmlinux's type information and
#             resolve_btfids, so that a module's own .BTF and its kfuncs' ids are made
#   release   the kernel's release (uname -r)
#
# Exit codes: 0 there; 4 this system's lists offer no such kernel; 1 anything else.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
cache=${ADAPATH_KERNELS:-$here/out/cache/kernels}
targets=(6.1 6.12)
flavour=amd64

say() { printf 'kernels: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

update=
case ${1:-} in
--help | -h) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
--list) printf '%s\n' "${targets[@]}"; exit 0 ;;
--update) update=1; shift ;;
-*) die "unknown option '$1': see $0 --help" ;;
esac

[ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || { say "the kernels under test are Debian's amd64 ones; this machine is $(uname -m)"; exit 4; }

# The newest linux-image-amd64 of a series: "VERSION PACKAGE".
newest_image() {
	apt-cache show linux-image-$flavour 2>/dev/null | awk -v series="$1" '
		/^Version: / { version = $2 }
		/^Depends: / { if (index(version, series ".") == 1) print version, $2 }' |
		sort -rV | head -1
}

# "NAME" or "NAME=VERSION" -> fetches it into the current directory.
download() {
	apt-get download -q "$1" >fetch.log 2>&1 && return
	# A release can leave the mirror between two updates of the lists.
	if [ "$(id -u)" = 0 ] && [ -z "${updated:-}" ]; then
		say "updating the package lists ($1 is not where they say)"
		apt-get update -q >>fetch.log 2>&1 || true
		updated=1
		apt-get download -q "$1" >>fetch.log 2>&1 && return
	fi
	tail -n 5 fetch.log >&2
	die "$1 could not be downloaded: check the network and the apt sources, run 'apt-get update' as root, then this again"
}

# The version of a package to go with the kernel of version $2: the same if the lists have it, else the newest.
at_version() {
	if apt-cache show "$1=$2" >/dev/null 2>&1; then echo "$1=$2"; else echo "$1"; fi
}

# vmlinuz -> the kernel's ELF file, by the bzImage header's own fields (boot protocol 2.08 and newer).
extract_vmlinux() {
	local setup offset length start
	setup=$(od -An -tu1 -j $((0x1f1)) -N1 "$1" | tr -d ' ')
	offset=$(od -An -tu4 -j $((0x248)) -N4 "$1" | tr -d ' ')
	length=$(od -An -tu4 -j $((0x24c)) -N4 "$1" | tr -d ' ')
	start=$(((setup + 1) * 512 + offset))
	payload() { dd if="$1" iflag=skip_bytes,count_bytes bs=1M skip="$start" count="$2" status=none; }
	# xz and zstd payloads end with four bytes of size that are not theirs.
	case $(payload "$1" 6 | od -An -tx1 | tr -d ' \n') in
	fd377a585a00) payload "$1" $((length - 4)) | xz -dc ;;
	28b52ffd*) payload "$1" $((length - 4)) | zstd -dcq ;;
	1f8b*) payload "$1" "$length" | gzip -dc ;;
	*) die "$1: its payload is compressed in a way that is not known here (xz, zstd and gzip are)" ;;
	esac
}

fetch() {
	local label=$1 dir=$cache/$1 found version image release work tree headers kbuild package
	if [ -f "$dir/release" ] && [ -z "$update" ]; then return 0; fi
	mkdir -p "$cache"
	exec 8>"$cache/.$label.lock"
	flock -n 8 || { say "another run is fetching $label: waiting"; flock 8; }
	if [ -f "$dir/release" ] && [ -z "$update" ]; then return 0; fi

	found=$(newest_image "$label")
	if [ -z "$found" ]; then
		say "no linux-image-$flavour $label.* in this system's package lists: on Debian 12 6.1 is the release's own and 6.12 is in bookworm-backports (scripts/deps.sh enables that); then run 'apt-get update'"
		return 4
	fi
	version=${found% *} image=${found#* }
	release=${image#linux-image-}
	if [ "$(cat "$dir/release" 2>/dev/null)" = "$release" ]; then return 0; fi
	for tool in xz depmod objcopy; do
		PATH=$PATH:/usr/sbin:/sbin command -v $tool >/dev/null || die "$tool is missing: run 'make deps'"
	done

	say "$label: fetching $release and its headers (about 120 MB)"
	work=$dir.part
	rm -rf "$work"
	mkdir -p "$work/debs" "$work/tree"
	tree=$work/tree
	cd "$work/debs"
	kbuild=$(apt-cache show "linux-headers-$release" | sed -n 's/^Depends:.*\(linux-kbuild-[^ ,]*\).*/\1/p' | head -1)
	[ -n "$kbuild" ] || die "linux-headers-$release names no linux-kbuild package: are its package lists up to date (apt-get update)?"
	for package in "$image" "linux-headers-$release" "linux-headers-${release%-"$flavour"}-common" "$kbuild"; do
		download "$(at_version "$package" "$version")"
	done
	for package in *.deb; do dpkg-deb -x "$package" "$tree"; done

	headers=$tree/usr/src/linux-headers-$release
	mv "$tree/boot/vmlinuz-$release" "$work/vmlinuz"
	# The package's Makefile names the common headers by the path they have when installed.
	echo "include \$(dir \$(lastword \$(MAKEFILE_LIST)))../linux-headers-${release%-"$flavour"}-common/Makefile" >"$headers/Makefile"
	# For a module's type information Kbuild wants vmlinux (for its .BTF alone) and resolve_btfids. Newer headers bring both.
	if [ ! -f "$headers/vmlinux" ]; then
		extract_vmlinux "$work/vmlinuz" >"$work/vmlinux"
		objcopy --only-section=.BTF "$work/vmlinux" "$headers/vmlinux" 2>/dev/null || die "$release: no .BTF in its vmlinux"
		rm -f "$work/vmlinux"
	fi
	if [ ! -x "$headers/tools/bpf/resolve_btfids/resolve_btfids" ]; then
		# The format of .BTF_ids is the same from 6.1 on (ids, sets, sets with flags), so any newer kernel's tool serves.
		package=$(apt-cache search --names-only '^linux-kbuild-' | awk '{ print $1 }' | grep -v "^$kbuild\$" | sort -rV | head -1)
		[ -n "$package" ] || die "$release: its headers have no resolve_btfids and no newer linux-kbuild is in the lists (bookworm-backports has one)"
		rm -f -- *.deb
		mkdir -p "$work/newer"
		download "$package"
		dpkg-deb -x "$package"_*.deb "$work/newer"
		found=$(find "$work/newer" -type f -name resolve_btfids | head -1)
		[ -n "$found" ] || die "$package has no resolve_btfids"
		mkdir -p "$headers/tools/bpf/resolve_btfids"
		cp "$found" "$headers/tools/bpf/resolve_btfids/"
		rm -rf "$work/newer"
	fi
	# Only what the VM can use: hardware drivers are most of the 400 MB, and depmod reads every module.
	(cd "$tree/lib/modules/$release" && rm -f build source && rm -rf kernel/sound &&
		find kernel/drivers -name '*.ko*' -not -path 'kernel/drivers/virtio/*' -not -path 'kernel/drivers/char/hw_random/*' \
			-not -path 'kernel/drivers/net/*.ko*' -delete &&
		find kernel/drivers/net -mindepth 2 -name '*.ko*' -delete && find kernel -type d -empty -delete)
	PATH=$PATH:/usr/sbin:/sbin depmod -b "$tree" "$release"
	rm -rf "$work/debs" "${tree:?}/usr/share" "${tree:?}/boot"
	ln -s "tree/lib/modules/$release" "$work/modules"
	ln -s "tree/usr/src/linux-headers-$release" "$work/build"
	echo "$release" >"$work/release"
	cd "$here"
	rm -rf "$dir"
	mv "$work" "$dir"
	say "$label: $release is in ${dir#"$here"/}"
}

wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=("${targets[@]}")
code=0 got=0
for label in "${wanted[@]}"; do
	[[ " ${targets[*]} " == *" $label "* ]] || die "unknown kernel '$label': the targets are ${targets[*]} (and debug, which scripts/debug-kernel.sh builds)"
	# In a shell of its own and not before ||, so that set -e holds inside.
	set +e
	(set -e; fetch "$label")
	status=$?
	set -e
	if [ $status = 0 ]; then got=1; else code=$status; fi
	[ $status = 0 ] || [ $status = 4 ] || exit $status
done
# Without names: what there is will do, if it is anything at all.
[ $# -gt 0 ] || [ $got = 0 ] || code=0
exit $code
