#!/usr/bin/env bash
# Makes the certificates of this folder anew; see README.md. Needs openssl.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
days=36500

# authority NAME: an authority that signs itself.
authority() {
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"
    openssl req -x509 -new -key "$1.key" -days "$days" -subj "/CN=Vintner test $1" -out "$1.crt" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
}

# certificate NAME AUTHORITY USAGE: a certificate for this machine's loopback addresses.
certificate() {
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"
    openssl req -new -key "$1.key" -subj "/CN=Vintner test $1" -out "$1.csr"
    openssl x509 -req -in "$1.csr" -CA "$2.crt" -CAkey "$2.key" -CAcreateserial -days "$days" -out "$1.crt" \
        -extfile <(printf 'basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\nextendedKeyUsage=%s\n' "$3")
}

authority ca
authority foreign-ca
certificate server ca serverAuth,clientAuth
certificate client ca clientAuth
certificate foreign-client foreign-ca clientAuth
# Nothing more is signed with them.
rm -f ca.key foreign-ca.key ./*.csr ./*.srl
