//! A throw-away certification authority and OCSP responder for tests: keys and certificates by the `openssl`
//! program, proofs of every kind (expired, from the future, wrongly signed ...) by a small DER writer of our own.
//!
//! Chain: `root` -> `inter` -> `leaf` (mx.test, localhost), `staple` (the same, must-staple), `pointed` (the same, with
//! addresses of revocation lists), `other` (other.test).
//! Beside it: `strict`, a must-staple intermediate, with `under` (must-staple) and `loose` (not); `rogue`, another root that a client may trust; `delegate` and `powerless`, responders with and
//! without the key purpose, under `inter` (`brief` too, for one day); `rogue_delegate` under `rogue`.
#![allow(dead_code, reason = "each test binary uses its part")]

use oxim::tls::gnutls::hash::{Digest, digest};
use oxim::tls::gnutls::x509::Certificate;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

/// Keys and certificates in a temporary directory, `NAME.key` and `NAME.pem`; `NAME-chain.pem` has the intermediate too.
pub struct Ca {
    directory: tempfile::TempDir,
}

/// What a proof is to say. Times are seconds from now.
#[derive(Clone)]
pub struct ProofSpec {
    /// The certificate it speaks of.
    pub subject: &'static str,
    /// Who signs.
    pub signer: &'static str,
    /// A certificate inside.
    pub inside: Option<&'static str>,
    pub status: Status,
    pub this_update: i64,
    pub next_update: Option<i64>,
    /// One bit of the signature is turned.
    pub broken: bool,
    /// The responder is named by its name, not by its key.
    pub by_name: bool,
    /// The CertID is made with SHA-256, not SHA-1.
    pub sha256: bool,
    /// The CertID has the key of this one in place of the issuer's.
    pub id_key: Option<&'static str>,
    /// The CertID has the name of this one's issuer in place of the subject's.
    pub id_name: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Good,
    Revoked,
    Unknown,
}

pub const DAY: i64 = 86_400;

/// One authority for all tests of a binary.
pub fn ca() -> &'static Ca {
    static CA: OnceLock<Ca> = OnceLock::new();
    CA.get_or_init(Ca::make)
}

/// A good proof of `subject`, by its issuer.
pub fn good(subject: &'static str) -> ProofSpec {
    ProofSpec {
        subject,
        signer: "inter",
        inside: None,
        status: Status::Good,
        this_update: -3600,
        next_update: Some(DAY),
        broken: false,
        by_name: false,
        sha256: false,
        id_key: None,
        id_name: None,
    }
}

/// The five bytes with which a responder says "try later": not signed by anybody.
pub fn try_later() -> Vec<u8> {
    vec![0x30, 3, 0x0a, 1, 3]
}

/// "unauthorized", as short.
pub fn unauthorized() -> Vec<u8> {
    vec![0x30, 3, 0x0a, 1, 6]
}

impl Ca {
    fn make() -> Self {
        let ca = Self { directory: tempfile::tempdir().expect("a temporary directory") };
        ca.root("root");
        ca.root("rogue");
        ca.issue(
            "inter",
            "root",
            "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,cRLSign,digitalSignature",
        );
        let server =
            "subjectAltName=DNS:mx.test,DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth";
        ca.issue("leaf", "inter", server);
        let feature = "1.3.6.1.5.5.7.1.24=DER:30:03:02:01:05";
        let authority = "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,cRLSign,digitalSignature";
        ca.issue("strict", "root", &format!("{authority}\n{feature}"));
        ca.issue("under", "strict", &format!("{server}\n{feature}"));
        ca.issue("loose", "strict", server);
        for name in ["under", "loose"] {
            let chain = [ca.read(&format!("{name}.pem")), ca.read("strict.pem")].concat();
            fs::write(ca.path(&format!("{name}-chain.pem")), chain).expect("writing");
        }
        ca.issue("staple", "inter", &format!("{server}\n1.3.6.1.5.5.7.1.24=DER:30:03:02:01:05"));
        ca.issue("other", "inter", "subjectAltName=DNS:other.test");
        ca.issue("direct", "root", server);
        let points = "crlDistributionPoints=URI:http://lists.test/one.crl,URI:http://lists.test/two.crl";
        ca.issue("pointed", "inter", &format!("{server}\n{points}"));
        ca.issue("delegate", "inter", "extendedKeyUsage=OCSPSigning");
        ca.issue_for("brief", "inter", "extendedKeyUsage=OCSPSigning", 1);
        ca.issue("listless", "inter", "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign");
        ca.issue("powerless", "inter", "extendedKeyUsage=serverAuth");
        ca.issue("rogue_delegate", "rogue", "extendedKeyUsage=OCSPSigning");
        for name in ["leaf", "staple", "other", "pointed"] {
            let chain = [ca.read(&format!("{name}.pem")), ca.read("inter.pem")].concat();
            fs::write(ca.path(&format!("{name}-chain.pem")), chain).expect("writing");
        }
        let both = [ca.read("root.pem"), ca.read("rogue.pem")].concat();
        fs::write(ca.path("both-roots.pem"), both).expect("writing");
        ca
    }

    /// A file in the authority's directory.
    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    pub fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// Writes a file by rename, as an administrator's tools do.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut new = tempfile::NamedTempFile::new_in(path.parent().expect("a directory")).expect("a file");
        new.write_all(bytes).expect("writing");
        new.persist(path).expect("renaming");
    }

    pub fn certificate(&self, name: &str) -> Certificate {
        let pem = self.read(&format!("{name}.pem"));
        Certificate::list_from_pem(&pem).expect("a certificate").remove(0)
    }

    fn root(&self, name: &str) {
        self.key(name);
        let key = format!("{name}.key");
        let subject = format!("/O=oxim test/CN={name}");
        let out = format!("{name}.pem");
        self.openssl(&["req", "-x509", "-new", "-key", &key, "-subj", &subject, "-days", "30", "-out", &out]);
    }

    pub fn issue(&self, name: &str, issuer: &str, extensions: &str) {
        self.issue_for(name, issuer, extensions, 20);
    }

    /// One whose time is over.
    pub fn issue_expired(&self, name: &str, issuer: &str, extensions: &str) {
        self.issue_for(name, issuer, extensions, -1);
    }

    fn issue_for(&self, name: &str, issuer: &str, extensions: &str, days: i32) {
        self.key(name);
        self.sign_request(name, issuer, extensions, days);
    }

    /// A certificate with another name than its file's.
    pub fn issue_as(&self, name: &str, subject: &str, issuer: &str, extensions: &str) {
        self.key(name);
        self.sign_request_as(name, subject, issuer, extensions, 20);
    }

    fn sign_request(&self, name: &str, issuer: &str, extensions: &str, days: i32) {
        self.sign_request_as(name, &format!("/O=oxim test/CN={name}.test"), issuer, extensions, days);
    }

    fn sign_request_as(&self, name: &str, subject: &str, issuer: &str, extensions: &str, days: i32) {
        let file = |suffix: &str| format!("{name}.{suffix}");
        fs::write(self.path(&file("ext")), format!("{extensions}\n")).expect("writing");
        self.openssl(&["req", "-new", "-key", &file("key"), "-subj", subject, "-out", &file("csr")]);
        let (authority, key) = (format!("{issuer}.pem"), format!("{issuer}.key"));
        let serial = (1000 + name.bytes().map(u32::from).sum::<u32>()).to_string();
        let (csr, ext, out) = (file("csr"), file("ext"), file("pem"));
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &csr,
            "-CA",
            &authority,
            "-CAkey",
            &key,
            "-set_serial",
            &serial,
            "-days",
            &days.to_string(),
            "-extfile",
            &ext,
            "-out",
            &out,
        ]);
    }

    /// One more certificate under `inter`, with an RSA key; `NAME-chain.pem` too.
    pub fn issue_rsa(&self, name: &str, extensions: &str) {
        let key = format!("{name}.key");
        self.openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", &key]);
        self.sign_request(name, "inter", extensions, 20);
        let chain = [self.read(&format!("{name}.pem")), self.read("inter.pem")].concat();
        fs::write(self.path(&format!("{name}-chain.pem")), chain).expect("writing");
    }

    /// One more certificate with the name and key of `of`, by any issuer.
    pub fn certify(&self, name: &str, of: &str, issuer: &str, extensions: &str) {
        self.certify_by(name, of, issuer, extensions, "-sha256");
    }

    /// The same, signed with another hash.
    pub fn certify_by(&self, name: &str, of: &str, issuer: &str, extensions: &str, hash: &str) {
        let file = |name: &str, suffix: &str| format!("{name}.{suffix}");
        let (csr, ext, out) = (file(of, "csr"), file(name, "ext"), file(name, "pem"));
        let (authority, key) = (file(issuer, "pem"), file(issuer, "key"));
        fs::write(self.path(&ext), format!("{extensions}\n")).expect("writing");
        let by = ["x509", "-req", "-in", &csr, "-CA", &authority, "-CAkey", &key, "-extfile", &ext];
        self.openssl(&[&by[..], &["-set_serial", "77", "-days", "20", hash, "-out", &out]].concat());
    }

    /// One whose key is too short for anybody: RSA of 768 bits.
    pub fn issue_weak(&self, name: &str, issuer: &str, extensions: &str) {
        let key = format!("{name}.key");
        self.openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:768", "-out", &key]);
        self.sign_request(name, issuer, extensions, 20);
    }

    fn key(&self, name: &str) {
        let out = format!("{name}.key");
        self.openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &out]);
    }

    fn openssl(&self, arguments: &[&str]) {
        let output = Command::new("openssl").args(arguments).current_dir(self.directory.path()).output();
        let output = output.expect("the openssl program");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn sign(&self, signer: &str, bytes: &[u8]) -> Vec<u8> {
        let mut child = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign"])
            .arg(self.path(&format!("{signer}.key")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the openssl program");
        child.stdin.take().expect("piped").write_all(bytes).expect("writing");
        child.wait_with_output().expect("a signature").stdout
    }

    /// An OCSP response in DER.
    pub fn proof(&self, spec: &ProofSpec) -> Vec<u8> {
        self.proof_of_all(std::slice::from_ref(spec))
    }

    /// A response with several single responses; who signs, and how, is the first one's say.
    pub fn proof_of_all(&self, specs: &[ProofSpec]) -> Vec<u8> {
        let inside = specs[0].inside.map(|name| self.certificate(name).der().expect("DER"));
        self.signed_proof(specs, &inside.unwrap_or_default())
    }

    /// A response with these certificates inside, DER in a row.
    pub fn proof_with(&self, spec: &ProofSpec, inside: &[u8]) -> Vec<u8> {
        self.signed_proof(std::slice::from_ref(spec), inside)
    }

    fn signed_proof(&self, specs: &[ProofSpec], inside: &[u8]) -> Vec<u8> {
        let spec = &specs[0];
        let key = self.certificate(spec.signer).public_key_bits().expect("a key");
        let singles: Vec<u8> = specs.iter().flat_map(|spec| self.single(spec)).collect();
        let responder = match spec.by_name {
            false => der(0xa2, &octets(&sha1(&key))),
            true => der(0xa1, &self.certificate(spec.signer).raw_dn().expect("a name")),
        };
        let body = [responder, time(0x18, 0), der(SEQUENCE, &singles)].concat();
        let signed = der(SEQUENCE, &body);
        let mut signature = self.sign(spec.signer, &signed);
        if spec.broken {
            let last = signature.len() - 1;
            signature[last] ^= 1;
        }
        let mut basic = [signed, der(SEQUENCE, ECDSA_SHA256), bits(&signature)].concat();
        if !inside.is_empty() {
            basic.extend(der(0xa0, &der(SEQUENCE, inside)));
        }
        let bytes = [OCSP_BASIC.to_vec(), octets(&der(SEQUENCE, &basic))].concat();
        der(SEQUENCE, &[vec![0x0a, 1, 0], der(0xa0, &der(SEQUENCE, &bytes))].concat())
    }

    fn single(&self, spec: &ProofSpec) -> Vec<u8> {
        let subject = self.certificate(spec.subject);
        let issuer = match spec.subject {
            "inter" | "direct" | "strict" => "root",
            "under" | "loose" => "strict",
            _ => "inter",
        };
        let key = self.certificate(spec.id_key.unwrap_or(issuer)).public_key_bits().expect("a key");
        let named = self.certificate(spec.id_name.unwrap_or(spec.subject));
        let name = named.raw_issuer_dn().expect("a name");
        let (oid, hash) = if spec.sha256 { (SHA256, Digest::Sha256) } else { (SHA1, Digest::Sha1) };
        let hash = |bytes: &[u8]| octets(&digest(hash, bytes).expect("a digest"));
        let id = [
            der(SEQUENCE, oid),
            hash(&name),
            hash(&key),
            der(0x02, &subject.serial().expect("a serial number")),
        ];
        let status = match spec.status {
            Status::Good => vec![0x80, 0],
            Status::Revoked => der(0xa1, &time(0x18, -7200)),
            Status::Unknown => vec![0x82, 0],
        };
        let mut single = [der(SEQUENCE, &id.concat()), status, time(0x18, spec.this_update)].concat();
        if let Some(next) = spec.next_update {
            single.extend(der(0xa0, &time(0x18, next)));
        }
        der(SEQUENCE, &single)
    }
}

pub const SEQUENCE: u8 = 0x30;
/// id-pkix-ocsp-basic
const OCSP_BASIC: &[u8] = &[0x06, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
/// ecdsa-with-SHA256
pub const ECDSA_SHA256: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
/// sha256, NULL
const SHA256: &[u8] = &[0x06, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 0x05, 0];
/// sha1, NULL
const SHA1: &[u8] = &[0x06, 5, 0x2b, 0x0e, 3, 2, 0x1a, 5, 0];

pub fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let mut out = match length {
        0..=0x7f => vec![tag, length as u8],
        0x80..=0xff => vec![tag, 0x81, length as u8],
        0x100..=0xffff => vec![tag, 0x82, (length >> 8) as u8, length as u8],
        _ => vec![tag, 0x83, (length >> 16) as u8, (length >> 8) as u8, length as u8],
    };
    out.extend_from_slice(contents);
    out
}

pub fn octets(bytes: &[u8]) -> Vec<u8> {
    der(0x04, bytes)
}

pub fn bits(bytes: &[u8]) -> Vec<u8> {
    der(0x03, &[&[0], bytes].concat())
}

fn sha1(bytes: &[u8]) -> Vec<u8> {
    digest(Digest::Sha1, bytes).expect("SHA-1")
}

/// GeneralizedTime.
pub fn time(tag: u8, from_now: i64) -> Vec<u8> {
    let shift = Duration::from_secs(from_now.unsigned_abs());
    let now = SystemTime::now();
    let time = if from_now < 0 { now - shift } else { now + shift };
    let stamp = jiff::Timestamp::try_from(time).expect("a time");
    der(tag, stamp.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes())
}
