#!/bin/sh
# Makes certificates for tests of TLS in the folder $1: ca.crt, a CA; and by it, each
# with its key, localhost (127.0.0.1 too), elsewhere (another name), expired, and client.
# Of another CA are other-ca.crt and stranger, which is for localhost.
set -eu
mkdir -p "$1"
cd "$1"

key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"

ca() {
  # shellcheck disable=SC2086  # Options
  openssl req -x509 $key -days 2 -subj "/CN=$1" -keyout "$1.key" -out "$1.crt"
}

# A certificate by the CA $1: its name, for how many days, and what it is for.
certificate() {
  # shellcheck disable=SC2086  # Options
  openssl req $key -subj "/CN=$2" -keyout "$2.key" -out "$2.csr"
  echo "subjectAltName=$4" >"$2.ext"
  openssl x509 -req -in "$2.csr" -CA "$1.crt" -CAkey "$1.key" -CAcreateserial -days "$3" \
    -extfile "$2.ext" -out "$2.crt"
}

ca ca
ca other-ca
certificate ca localhost 2 DNS:localhost,IP:127.0.0.1
certificate ca elsewhere 2 DNS:elsewhere.test,IP:192.0.2.1
certificate ca expired -1 DNS:localhost,IP:127.0.0.1
certificate ca client 2 DNS:client.test
certificate other-ca stranger 2 DNS:localhost,IP:127.0.0.1
openssl pkey -in client.key -aes256 -passout pass:secret -out locked.key
