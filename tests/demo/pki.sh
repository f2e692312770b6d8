#!/bin/sh
# A throw-away certificate authority with an intermediate, a server certificate and proofs of its
# status, all made with the openssl command. Used by `make demo` and by tests.
#
#   pki.sh DIRECTORY [NAME]     NAME: the server's host name (default mail.test.example)
#
# Afterwards DIRECTORY holds
#   ca.pem                the root, to be trusted
#   server.pem server.key the server's chain (leaf, intermediate) and key
#   client.pem client.key a client's chain and key
#   good.der              a proof for the leaf that says "good"
#   revoked.der expired.der unknown.der trylater.der other.der foreign.der
#                         proofs that must not help: revoked, past its time, status unknown, unsigned
#                         "try later", for another certificate, signed by another trusted CA
#   trust.pem             ca.pem and the other CA
set -eu
directory=$1
name=${2:-mail.test.example}
mkdir -p "$directory"
cd "$directory"

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key" 2>/dev/null; chmod 644 "$1.key"; }
# RSA, since its signatures have one length: outdate() puts a new one in the old one's place
rsa_key() { openssl genrsa -out "$1.key" 2048 2>/dev/null; chmod 644 "$1.key"; }
request() { openssl req -new -key "$1.key" -subj "/CN=$2" -out "$1.csr" 2>/dev/null; }
# sign WHAT BY SERIAL EXTENSIONS
sign() {
    printf '%s\n' "$4" > "$1.ext"
    openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -set_serial "$3" -days 30 \
        -extfile "$1.ext" -out "$1.pem" 2>/dev/null
}
root() {
    key "$1"
    openssl req -x509 -new -key "$1.key" -subj "/CN=$2" -days 30 -out "$1.pem" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature 2>/dev/null
}
leaf_extensions="basicConstraints=CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth
subjectAltName=DNS:$name,DNS:localhost,IP:127.0.0.1"

root ca "oxim test root"
root otherca "oxim test other root"
cat ca.pem otherca.pem > trust.pem

rsa_key intermediate
request intermediate "oxim test intermediate"
sign intermediate ca 1000 "basicConstraints=critical,CA:TRUE,pathlen:0
keyUsage=critical,keyCertSign,cRLSign,digitalSignature"

key server
request server "$name"
sign server intermediate 2001 "$leaf_extensions"
mv server.pem leaf.pem
cat leaf.pem intermediate.pem > server.pem

key client
request client "client.$name"
sign client intermediate 2003 "basicConstraints=CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=clientAuth"
cat client.pem intermediate.pem > client.chain
mv client.chain client.pem

key second
request second "$name"
sign second intermediate 2002 "$leaf_extensions"

# openssl's index: status, end, revocation time, serial, file, subject
line() { printf '%s\t301231235959Z\t%s\t%s\tunknown\t/CN=%s\n' "$1" "$2" "$3" "$3"; }
serial() { openssl x509 -in "$1" -noout -serial | cut -d= -f2; }
line V "" "$(serial leaf.pem)" > index.good
line V "" "$(serial second.pem)" >> index.good
line R 240101000000Z "$(serial leaf.pem)" > index.revoked
: > index.empty

# proof INDEX SIGNER CERTIFICATE FILE
proof() {
    no_certs=
    test "$2" != intermediate || no_certs=-resp_no_certs
    openssl ocsp -index "$1" -CA intermediate.pem -rsigner "$2.pem" -rkey "$2.key" $no_certs \
        -issuer intermediate.pem -cert "$3" -respout "$4" -ndays 7 -no_nonce >/dev/null 2>&1
    chmod 644 "$4"
}
# outdate FILE: the same proof as if made three weeks ago for one week. openssl makes none that has
# ended, so the three times are overwritten and the signature (the last 256 bytes) is made again.
outdate() {
    outer=$(openssl asn1parse -inform DER -in "$1" | awk -F'[:= ]+' '/OCTET STRING/ { print $0; exit }')
    at=$(echo "$outer" | sed 's/^ *\([0-9]*\):.*/\1/')
    header=$(echo "$outer" | sed 's/.*hl= *\([0-9]*\) .*/\1/')
    signed=$(openssl asn1parse -inform DER -in "$1" -strparse "$at" | sed -n 2p)
    begin=$(echo "$signed" | sed 's/^ *\([0-9]*\):.*/\1/')
    length=$(echo "$signed" | sed 's/.*hl= *\([0-9]*\) *l= *\([0-9]*\) .*/\1+\2/')
    begin=$((at + header + begin))
    length=$((${length%+*} + ${length#*+}))
    size=$(wc -c < "$1")
    head -c $begin "$1" > outdated.head
    tail -c +$((begin + length + 1)) "$1" | head -c $((size - begin - length - 256)) > outdated.middle
    tail -c +$((begin + 1)) "$1" | head -c $length |
        this=$(date -u -d '3 weeks ago' +%Y%m%d%H%M%SZ) next=$(date -u -d '2 weeks ago' +%Y%m%d%H%M%SZ) \
            perl -0777 -pe '$n = 0; s/20\d{12}Z/$n++ < 2 ? $ENV{this} : $ENV{next}/ge' > outdated.signed
    openssl dgst -sha256 -sign intermediate.key -out outdated.signature outdated.signed
    cat outdated.head outdated.signed outdated.middle outdated.signature > "$1"
    rm outdated.*
}
proof index.good intermediate leaf.pem good.der
proof index.revoked intermediate leaf.pem revoked.der
proof index.good intermediate leaf.pem expired.der
outdate expired.der
proof index.empty intermediate leaf.pem unknown.der
proof index.good intermediate second.pem other.der
proof index.good otherca leaf.pem foreign.der
# OCSPResponse with responseStatus tryLater (3) and nothing else
printf '\060\003\012\001\003' > trylater.der
