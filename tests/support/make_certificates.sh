#!/bin/sh
# Makes certificates for tests of TLS in the folder $1: ca.crt, a CA; and by it, each
# with its key, localhost (127.0.0.1 too), renewed (the same), elsewhere (another name),
# expired, ending (in an hour, after years), and client.
# Of another CA are other-ca.crt and stranger, which is for localhost.
set -eu
mkdir -p "$1"
cd "$1"

key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"

ca() {
  # shellcheck disable=SC2086  # Options
  openssl req -x509 $key -days 2 -subj "/CN=$1" -keyout "$1.key" -out "$1.crt" \
    -addext keyUsage=critical,keyCertSign,cRLSign # Which Python 3.13 wants of one.
}

touch index
cat >ca.cnf <<END
[ca]
default_ca = by_name
[by_name]
database = index
rand_serial = yes
policy = any
default_md = sha256
[any]
commonName = supplied
END

# A certificate by the CA $1: its name, when it is valid, and what it is for.
certificate() {
  # shellcheck disable=SC2086  # Options
  openssl req $key -subj "/CN=$2" -keyout "$2.key" -out "$2.csr"
  printf '%s\n' "subjectAltName=$4" authorityKeyIdentifier=keyid >"$2.ext"
  # shellcheck disable=SC2086  # Options
  openssl ca -batch -config ca.cnf -cert "$1.crt" -keyfile "$1.key" -outdir . \
    -notext $3 -extfile "$2.ext" -in "$2.csr" -out "$2.crt"
}

ca ca
ca other-ca
certificate ca localhost "-days 2" DNS:localhost,IP:127.0.0.1
certificate ca renewed "-days 2" DNS:localhost,IP:127.0.0.1
certificate ca elsewhere "-days 2" DNS:elsewhere.test,IP:192.0.2.1
certificate ca expired "-startdate 20200101000000Z -enddate 20200102000000Z" DNS:localhost,IP:127.0.0.1
certificate ca ending "-startdate 20200101000000Z -enddate $(date -u -d '+1 hour' +%Y%m%d%H%M%SZ)" \
  DNS:localhost,IP:127.0.0.1
certificate ca client "-days 2" DNS:client.test
certificate other-ca stranger "-days 2" DNS:localhost,IP:127.0.0.1
openssl pkey -in client.key -aes256 -passout pass:secret -out locked.key
