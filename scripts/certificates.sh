#!/usr/bin/env bash
# Certificates for the reports between adapath-server and its gateways (mutual TLS), where there is no PKI to give them.
#
#   scripts/certificates.sh [--server NAME|ADDRESS]... [--days N] DIR [GATEWAY...]
#
# Makes in DIR what is not there yet: an authority (ca.crt, ca.key), the server's certificate (server.crt, server.key) for every
# --server that the gateways may call it by (default: localhost and 127.0.0.1), and one for each gateway (GATEWAY.crt, GATEWAY.key)
# under the name that its relay gives itself. Run it again to add gateways. To renew a certificate, remove it first.
#
#   the server needs   ca.crt server.crt server.key
#   a gateway needs    ca.crt GATEWAY.crt GATEWAY.key
#
# ca.key signs: whoever has it can be any gateway. Keep it on neither of them.
set -euo pipefail

say() { printf 'certificates: %s\n' "$*" >&2; }
die() { say "$*"; exit 2; }
usage="usage: certificates.sh [--server NAME|ADDRESS]... [--days N] DIR [GATEWAY...]"

servers=() days=825 words=()
while [ $# -gt 0 ]; do
	case "$1" in
	--server) [ $# -ge 2 ] || die "$usage"; servers+=("$2"); shift 2 ;;
	--days) [ $# -ge 2 ] || die "$usage"; days=$2; shift 2 ;;
	-h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
	-*) die "unknown option $1; $usage" ;;
	*) words+=("$1"); shift ;;
	esac
done
[ ${#words[@]} -ge 1 ] || die "$usage"
[[ $days =~ ^[1-9][0-9]{0,4}$ ]] || die "--days $days: a number of days from 1 to 99999"
[ ${#servers[@]} -gt 0 ] || servers=(localhost 127.0.0.1)
for gateway in "${words[@]:1}"; do
	[[ $gateway =~ ^[A-Za-z0-9._-]{1,63}$ ]] || die "gateway '$gateway': a name is 1 to 63 of A-Z a-z 0-9 . _ -"
	case "$gateway" in ca | server | .*) die "gateway '$gateway': that name is taken by another file here" ;; esac
done
command -v openssl >/dev/null || { say "openssl is missing: make deps"; exit 1; }

dir=${words[0]}
mkdir -p "$dir"
cd "$dir"
umask 077 # keys are their owner's
new=$(mktemp -d ./.new-XXXXXX) # here, so that what is done can be moved into place
trap 'rm -rf "$new"' EXIT
run() { openssl "$@" >"$new/log" 2>&1 || { cat "$new/log" >&2; say "failed: openssl $1"; exit 1; }; }
new_key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)

if [ ! -f ca.crt ]; then
	[ ! -f ca.key ] || { say "$dir/ca.key is there without ca.crt: remove one or bring back the other"; exit 1; }
	run req -x509 "${new_key[@]}" -keyout "$new/key" -out "$new/crt" -days "$days" -subj "/CN=Adapath authority" \
		-addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign
	mv "$new/key" ca.key
	chmod 644 "$new/crt" && mv "$new/crt" ca.crt
	say "made $dir/ca.crt"
fi

certify() { # NAME PURPOSE SUBJECT-ALTERNATIVE-NAMES
	[ ! -f "$1.crt" ] || return 0
	[ -f ca.key ] || { say "$dir/ca.key is missing: it signs what is new"; exit 1; }
	printf '%s\n' "basicConstraints=critical,CA:FALSE" "keyUsage=critical,digitalSignature" "extendedKeyUsage=$2" \
		"subjectAltName=$3" >"$new/extensions"
	run req -new "${new_key[@]}" -keyout "$new/key" -out "$new/csr" -subj "/CN=$1"
	run x509 -req -in "$new/csr" -CA ca.crt -CAkey ca.key -set_serial "0x$(openssl rand -hex 16)" -days "$days" \
		-extfile "$new/extensions" -out "$new/crt"
	mv "$new/key" "$1.key"
	chmod 644 "$new/crt" && mv "$new/crt" "$1.crt"
	say "made $dir/$1.crt"
}

names=
for server in "${servers[@]}"; do
	kind=DNS
	if [[ $server =~ ^[0-9]+(\.[0-9]+){3}$ || $server == *:* ]]; then
		kind=IP
	else
		[[ $server =~ ^[A-Za-z0-9.*-]{1,253}$ ]] || die "--server $server: a host's name or an address"
	fi
	names+=${names:+,}$kind:$server
done
certify server serverAuth "$names"
for gateway in "${words[@]:1}"; do certify "$gateway" clientAuth "DNS:$gateway"; done
