//! Certificates and their keys: a list of each, side by side in one unit, from files or made here.
//!
//! GnuTLS decides in the handshake which of several certificates is shown (by what the client's signature algorithms
//! and cipher suites allow, and by the name it asks for).

use super::{FileProblem, UnitError, read};
use crate::text::list;
use crate::tls::cache::Files;
use crate::tls::gnutls::credentials::CredentialsBuilder;
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
    /// The file that the chain is from; empty for what was made here.
    pub certificate: BString,
    /// Leaf first, at least that.
    pub chain: Vec<Certificate>,
    key: PrivateKey,
    /// The file that the key is from.
    key_file: BString,
}

impl Pair {
    /// Into credentials; an error if key and certificate do not belong together.
    pub fn show(&self, builder: &mut CredentialsBuilder) -> Result<(), UnitError> {
        builder.set_key(&self.chain, &self.key).map_err(|error| {
            let problem = FileProblem::Malformed(self.key_file.clone(), error);
            UnitError::pair(self.certificate.as_bstr(), self.key_file.as_bstr(), problem)
        })
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
        load_pair(certificate.as_bstr(), key.as_bstr(), files)
            .map_err(|problem| UnitError::pair(certificate.as_bstr(), key.as_bstr(), problem))
    };
    let pairs = certificates.iter().enumerate().map(one).collect::<Result<Vec<_>, _>>()?;
    // A list that begins with its separator and has nothing else.
    if pairs.is_empty() { Err(UnitError::NoCertificate) } else { Ok(pairs) }
}

/// A certificate and a key from their files, which may be one.
fn load_pair(certificate: &BStr, key: &BStr, files: &mut Files) -> Result<Pair, FileProblem> {
    let chain = Certificate::list_from_pem(&read(certificate, files)?)
        .map_err(|error| FileProblem::Malformed(certificate.to_owned(), error))?;
    if chain.is_empty() {
        return Err(FileProblem::Nothing(certificate.to_owned()));
    }
    let pem = read(key, files)?;
    let private_key = PrivateKey::from_pem(&pem).map_err(|error| match pem.contains_str("ENCRYPTED") {
        true => FileProblem::Encrypted(key.to_owned()),
        false => FileProblem::Malformed(key.to_owned(), error),
    })?;
    Ok(Pair { certificate: certificate.to_owned(), chain, key: private_key, key_file: key.to_owned() })
}

/// A client's certificate and key into credentials.
pub(in crate::tls) fn load_files(
    certificate: &BStr,
    key: &BStr,
    files: &mut Files,
    builder: &mut CredentialsBuilder,
) -> Result<(), FileProblem> {
    let pair = load_pair(certificate, key, files)?;
    builder.set_key(&pair.chain, &pair.key).map_err(|error| FileProblem::Malformed(key.to_owned(), error))
}

fn make_self_signed(own_name: &BStr, now: SystemTime) -> Result<Pair, UnitError> {
    let key = PrivateKey::generate_rsa(SELF_SIGNED_BITS)?;
    // Any number does that differs from the one of the certificate before.
    let serial = now.duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs()).to_be_bytes();
    let name = [(OID_ORGANIZATION, &b"self-signed"[..]), (OID_COMMON_NAME, own_name.as_bytes())];
    let chain = vec![self_signed(&key, &serial, &name, now, SELF_SIGNED_LIFE)?];
    Ok(Pair { certificate: BString::default(), chain, key, key_file: BString::default() })
}
