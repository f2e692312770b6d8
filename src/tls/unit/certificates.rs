//! Certificates and their keys: a list of each, side by side in one unit, from files, from tokens (`pkcs11:` URLs), or
//! made here.
//!
//! GnuTLS decides in the handshake which of several certificates is shown (by what the client's signature algorithms
//! and cipher suites allow, and by the name it asks for).

use super::{FileProblem, UnitError, read};
use crate::text::list;
use crate::tls::cache::Files;
use crate::tls::gnutls::credentials::CredentialsBuilder;
use crate::tls::gnutls::pkcs11::{self, Object};
use crate::tls::gnutls::x509::{Certificate, PrivateKey, self_signed};
use crate::tls::notice::{Notice, Notify};
use crate::tls::settings::UnitSettings;
use bstr::{BStr, BString, ByteSlice};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bits of a self-signed RSA key (GnuTLS's "medium"), read by every client.
const SELF_SIGNED_BITS: u32 = 2048;
/// Life of a self-signed certificate. It is made anew whenever the process starts.
const SELF_SIGNED_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// X.520 organization and common name.
const OID_ORGANIZATION: &str = "2.5.4.10";
const OID_COMMON_NAME: &str = "2.5.4.3";
/// Most certificates of one unit: one for each kind of key is what clients can tell apart.
const MAX_CERTIFICATES: usize = 16;

/// A chain with the key of its leaf.
pub(super) struct Pair {
    /// Where the chain is from, as it may be shown; empty for what was made here.
    pub certificate: BString,
    /// Leaf first, at least that.
    pub chain: Vec<Certificate>,
    key: Key,
    /// Where the key is from, as it may be shown.
    key_place: BString,
}

/// A private key.
enum Key {
    /// In this process.
    Here(PrivateKey),
    /// In a token, which signs with it.
    Token(Object),
}

impl Pair {
    /// Into credentials; an error if key and certificate do not belong together.
    pub fn show(&self, builder: &mut CredentialsBuilder) -> Result<(), UnitError> {
        self.put(builder)
            .map_err(|problem| UnitError::pair(self.certificate.as_bstr(), self.key_place.as_bstr(), problem))
    }

    fn put(&self, builder: &mut CredentialsBuilder) -> Result<(), FileProblem> {
        match &self.key {
            Key::Here(key) => builder.set_key(&self.chain, key),
            Key::Token(key) => builder.set_token_key(&self.chain, key),
        }
        .map_err(|error| FileProblem::Malformed(self.key_place.clone(), error))
    }
}

/// All that the settings name, in their order.
pub(super) fn load_pairs(
    settings: &UnitSettings,
    files: &mut Files,
    now: SystemTime,
    notify: Notify<'_>,
) -> Result<Vec<Pair>, UnitError> {
    let Some(certificates) = &settings.certificate else {
        notify(Notice::main(
            "Warning: No server certificate defined; will use a selfsigned one.\n \
             Suggested action: either install a certificate or change tls_advertise_hosts option",
        ));
        return Ok(vec![make_self_signed(settings.own_name.as_bstr(), now)?]);
    };
    let certificates: Vec<BString> = list::items(certificates).take(MAX_CERTIFICATES + 1).collect();
    let keys = settings.private_key.as_ref().map(|keys| list::items(keys).collect::<Vec<BString>>());
    if certificates.len() > MAX_CERTIFICATES {
        return Err(UnitError::TooMany(MAX_CERTIFICATES));
    }
    if keys.as_ref().is_some_and(|keys| keys.len() > certificates.len()) {
        notify(Notice::main("TLS: tls_privatekey has more files than tls_certificate: the rest is not used"));
    }
    let one = |(at, certificate): (usize, &BString)| {
        let key = match &keys {
            None => certificate,
            Some(keys) => keys.get(at).ok_or(UnitError::OutOfKeys)?,
        };
        load_pair(certificate.as_bstr(), key.as_bstr(), files).map_err(|problem| {
            UnitError::pair(shown(certificate.as_bstr()).as_bstr(), shown(key.as_bstr()).as_bstr(), problem)
        })
    };
    let pairs = certificates.iter().enumerate().map(one).collect::<Result<Vec<_>, _>>()?;
    // A list that begins with its separator and has nothing else.
    if pairs.is_empty() { Err(UnitError::NoCertificate) } else { Ok(pairs) }
}

/// A certificate and a key from where they are, which may be one place.
fn load_pair(certificate: &BStr, key: &BStr, files: &mut Files) -> Result<Pair, FileProblem> {
    let (chain, private_key) = (load_chain(certificate, files)?, load_key(key, files)?);
    Ok(Pair { certificate: shown(certificate), chain, key: private_key, key_place: shown(key) })
}

fn load_chain(place: &BStr, files: &mut Files) -> Result<Vec<Certificate>, FileProblem> {
    let chain = match in_token(place)? {
        Some(object) => object.certificates(),
        None => Certificate::list_from_pem(&read(place, files)?),
    };
    let chain = chain.map_err(|error| FileProblem::Malformed(shown(place), error))?;
    if chain.is_empty() { Err(FileProblem::Nothing(shown(place))) } else { Ok(chain) }
}

fn load_key(place: &BStr, files: &mut Files) -> Result<Key, FileProblem> {
    if let Some(object) = in_token(place)? {
        return Ok(Key::Token(object));
    }
    let pem = read(place, files)?;
    PrivateKey::from_pem(&pem).map(Key::Here).map_err(|error| match pem.contains_str("ENCRYPTED") {
        true => FileProblem::Encrypted(place.to_owned()),
        false => FileProblem::Malformed(place.to_owned(), error),
    })
}

/// What a URL names; none for a file.
fn in_token(place: &BStr) -> Result<Option<Object>, FileProblem> {
    let Some(object) = Object::from_url(place) else { return Ok(None) };
    if !pkcs11::TOKENS {
        return Err(FileProblem::NoTokens(shown(place)));
    }
    if !pkcs11::may_load_modules() {
        return Err(FileProblem::NoModules(shown(place)));
    }
    Ok(Some(object))
}

/// A place as it may stand in a log: of a URL without the part that may have a PIN in it.
fn shown(place: &BStr) -> BString {
    let url = place.starts_with_str("pkcs11:");
    let end = place.find_byte(b'?').filter(|_| url).unwrap_or(place.len());
    place[..end].into()
}

/// A client's certificate and key into credentials.
pub(in crate::tls) fn load_files(
    certificate: &BStr,
    key: &BStr,
    files: &mut Files,
    builder: &mut CredentialsBuilder,
) -> Result<(), UnitError> {
    load_pair(certificate, key, files)
        .map_err(|problem| UnitError::pair(shown(certificate).as_bstr(), shown(key).as_bstr(), problem))?
        .show(builder)
}

fn make_self_signed(own_name: &BStr, now: SystemTime) -> Result<Pair, UnitError> {
    let key = PrivateKey::generate_rsa(SELF_SIGNED_BITS)?;
    // Any number does that differs from the one of the certificate before.
    let serial = now.duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs()).to_be_bytes();
    let name = [(OID_ORGANIZATION, &b"self-signed"[..]), (OID_COMMON_NAME, own_name.as_bytes())];
    let chain = vec![self_signed(&key, &serial, &name, now, SELF_SIGNED_LIFE)?];
    Ok(Pair { certificate: BString::default(), chain, key: Key::Here(key), key_place: BString::default() })
}
