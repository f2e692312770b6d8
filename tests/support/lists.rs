//! Revocation lists of every kind, signed with the keys of the tests' authority (`ca.rs`).
#![allow(dead_code, reason = "each test binary uses its part")]

use super::ca::{DAY, ECDSA_SHA256, SEQUENCE, bits, ca, der, octets, time};

/// What a list is to say. Times are seconds from now.
#[derive(Clone)]
pub struct ListSpec {
    /// Whose name it bears.
    pub issuer: &'static str,
    /// Whose key signs.
    pub signer: &'static str,
    /// Serial numbers, big-endian.
    pub revoked: Vec<Vec<u8>>,
    /// Extensions of the first entry, DER.
    pub entry_extensions: Vec<u8>,
    /// Extensions of the list beside its number, DER.
    pub extensions: Vec<u8>,
    pub this_update: i64,
    pub next_update: Option<i64>,
    /// One bit of the signature is turned.
    pub broken: bool,
    /// The signature algorithm says this in both places, DER.
    pub algorithm: &'static [u8],
}

/// A list of `inter` that revokes the certificates named.
pub fn list_of_inter(revoked: &[&str]) -> ListSpec {
    let serial = |name: &&str| ca().certificate(name).serial().unwrap();
    ListSpec {
        issuer: "inter",
        signer: "inter",
        revoked: revoked.iter().map(serial).collect(),
        entry_extensions: Vec::new(),
        extensions: Vec::new(),
        this_update: -3600,
        next_update: Some(DAY),
        broken: false,
        algorithm: ECDSA_SHA256,
    }
}

/// The same of the root.
pub fn list_of_root(revoked: &[&str]) -> ListSpec {
    ListSpec { issuer: "root", signer: "root", ..list_of_inter(revoked) }
}

/// An extension 2.5.29.`number`.
pub fn extension(number: u8, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    der(SEQUENCE, &[&[6, 3, 0x55, 0x1d, number][..], critical, &octets(value)].concat())
}

/// An issuing distribution point (critical), from what stands in its sequence.
pub fn issuing_point(contents: &[u8]) -> Vec<u8> {
    extension(28, true, &der(SEQUENCE, contents))
}

/// `[0]` of an issuing distribution point: the part's addresses.
pub fn part(uris: &[&str]) -> Vec<u8> {
    let names: Vec<u8> = uris.iter().flat_map(|uri| der(0x86, uri.as_bytes())).collect();
    der(0xa0, &der(0xa0, &names))
}

impl ListSpec {
    pub fn der(&self) -> Vec<u8> {
        let mut entries = Vec::new();
        for (at, serial) in self.revoked.iter().enumerate() {
            let mut entry = [der(2, serial), time(0x18, -7200)].concat();
            if at == 0 && !self.entry_extensions.is_empty() {
                entry.extend(der(SEQUENCE, &self.entry_extensions));
            }
            entries.extend(der(SEQUENCE, &entry));
        }
        let algorithm = der(SEQUENCE, self.algorithm);
        let name = ca().certificate(self.issuer).raw_dn().unwrap();
        let mut body = [vec![2, 1, 1], algorithm.clone(), name, time(0x18, self.this_update)].concat();
        body.extend(self.next_update.map(|next| time(0x18, next)).unwrap_or_default());
        if !entries.is_empty() {
            body.extend(der(SEQUENCE, &entries));
        }
        let extensions = [extension(20, false, &[2, 1, 7]), self.extensions.clone()].concat();
        body.extend(der(0xa0, &der(SEQUENCE, &extensions)));
        let signed = der(SEQUENCE, &body);
        let mut signature = ca().sign(self.signer, &signed);
        if self.broken {
            let last = signature.len() - 1;
            signature[last] ^= 1;
        }
        der(SEQUENCE, &[signed, algorithm, bits(&signature)].concat())
    }

    pub fn pem(&self) -> Vec<u8> {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(self.der());
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN X509 CRL-----\n{}\n-----END X509 CRL-----\n", lines.join("\n")).into_bytes()
    }
}
