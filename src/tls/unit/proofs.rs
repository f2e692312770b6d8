//! Proofs from the files of `tls_ocsp_file`, checked as a client would check them.
//!
//! The option is a list in the order of `tls_certificate`'s. A file holds one response in DER, or any number of them in
//! PEM: the leaf's, and those of the certificates above it (row S8).

use super::{io_text, path_of};
use crate::ocsp::{Proof, Subject, Unfit};
use crate::text::list;
use crate::tls::cache::Files;
use crate::tls::gnutls::credentials::{Credentials, CredentialsBuilder};
use crate::tls::gnutls::x509::{Certificate, MAX_CHAIN};
use bstr::{BStr, BString, ByteSlice};
use std::io;
use std::time::SystemTime;

/// Where one certificate's proofs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub path: BString,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Der,
    Pem,
}

/// A proof that was found good, or why it was not.
pub(super) type Word = Result<Proof, Unfit>;

/// What a file has for one chain.
pub(super) struct Filed {
    pub path: BString,
    /// The leaf's.
    pub leaf: Word,
    /// Those of the certificates above the leaf; none where the file says nothing of one.
    pub above: Vec<Option<Word>>,
}

impl Filed {
    /// Something in it was found too early or too late, and is not any more.
    pub fn is_outdated(&self, now: SystemTime) -> bool {
        let words = std::iter::once(&self.leaf).chain(self.above.iter().flatten());
        words.filter_map(|word| word.as_ref().err()).any(|unfit| unfit.is_over(now))
    }
}

/// The places in `tls_ocsp_file`, one for each certificate in their order. A prefix `DER ` or `PEM ` holds until the
/// next; at first it is DER. An empty item leaves a certificate without.
pub(super) fn places(written: &BStr) -> Vec<Option<Place>> {
    let mut format = Format::Der;
    let one = |item: BString| {
        let (named, path) = match (item.strip_prefix(b"DER "), item.strip_prefix(b"PEM ")) {
            (Some(path), _) => (Format::Der, path.trim()),
            (_, Some(path)) => (Format::Pem, path.trim()),
            _ => (format, item.as_slice()),
        };
        format = named;
        (!path.is_empty()).then(|| Place { path: path.into(), format })
    };
    list::items(written).map(one).collect()
}

/// Reads and checks the proofs of a chain.
pub(super) fn load(
    place: Place,
    files: &mut Files,
    chain: &[Certificate],
    credentials: &Credentials,
    now: SystemTime,
) -> Filed {
    let checked = read(&place, files).map(|responses| check(&responses, chain, credentials, now));
    let (leaf, above) = match checked {
        Ok((leaf, above)) => (leaf, above),
        Err(unfit) => (Err(unfit), Vec::new()),
    };
    Filed { path: place.path, leaf, above }
}

/// The responses in a file; at least one.
fn read(place: &Place, files: &mut Files) -> Result<Vec<Vec<u8>>, Unfit> {
    let relative = |_| Unfit::Unreadable(io::Error::other("not an absolute path"));
    let path = path_of(place.path.as_bstr()).map_err(relative)?;
    let bytes = files.read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unfit::Missing,
        _ => Unfit::Unreadable(io::Error::other(io_text(&error))),
    })?;
    let responses = match place.format {
        Format::Der => vec![bytes],
        Format::Pem => from_pem(&bytes)?,
    };
    if responses.iter().any(Vec::is_empty) { Err(Unfit::Empty) } else { Ok(responses) }
}

/// The best word of the responses on each certificate of the chain.
fn check(
    responses: &[Vec<u8>],
    chain: &[Certificate],
    credentials: &Credentials,
    now: SystemTime,
) -> (Word, Vec<Option<Word>>) {
    let leaf = word_on(0, responses, chain, credentials, now)
        .unwrap_or_else(|| judge(0, &responses[0], chain, credentials, now));
    let leafs = leaf.as_ref().ok().map(|proof| proof.der().to_vec());
    // A combined response goes out once, with the leaf.
    let rest: Vec<Vec<u8>> = responses.iter().filter(|der| leafs.as_ref() != Some(der)).cloned().collect();
    // One response says nothing of more than the leaf, unless it does not speak of the leaf at all.
    let above = 1..if rest.is_empty() { 1 } else { chain.len() };
    (leaf, above.map(|at| word_on(at, &rest, chain, credentials, now)).collect())
}

/// What the responses say of one certificate of the chain: a good word before a bad one; none if they say nothing.
fn word_on(
    at: usize,
    responses: &[Vec<u8>],
    chain: &[Certificate],
    credentials: &Credentials,
    now: SystemTime,
) -> Option<Word> {
    let mut words: Vec<_> = responses
        .iter()
        .map(|der| judge(at, der, chain, credentials, now))
        .filter(|word| !matches!(word, Err(Unfit::OtherCertificate | Unfit::IssuerUnknown)))
        .collect();
    let best = words.iter().position(Result::is_ok).unwrap_or(0);
    (!words.is_empty()).then(|| words.swap_remove(best))
}

fn judge(at: usize, der: &[u8], chain: &[Certificate], credentials: &Credentials, now: SystemTime) -> Word {
    let certificate = chain.get(at).ok_or(Unfit::IssuerUnknown)?;
    let inside = Proof::certificates_inside(der);
    let issuer = find_issuer(certificate, chain, inside, credentials).ok_or(Unfit::IssuerUnknown)?;
    let subject = Subject::new(certificate, issuer).ok_or(Unfit::IssuerUnknown)?;
    Proof::check_to_show(der, &subject, now)
}

/// The responses in a PEM text (`-----BEGIN OCSP RESPONSE-----`), at most as many as a chain has certificates.
fn from_pem(pem: &[u8]) -> Result<Vec<Vec<u8>>, Unfit> {
    use base64::Engine;
    let malformed = || Unfit::Malformed("no OCSP RESPONSE in PEM".into());
    if pem.trim().is_empty() {
        return Err(Unfit::Empty);
    }
    let (mut rest, mut responses) = (pem, Vec::new());
    while let Some((_, begun)) = rest.split_once_str(b"-----BEGIN OCSP RESPONSE-----") {
        let (body, left) = begun.split_once_str(b"-----END OCSP RESPONSE-----").ok_or_else(malformed)?;
        let body: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        responses.push(base64::engine::general_purpose::STANDARD.decode(body).map_err(|_| malformed())?);
        rest = left;
        if responses.len() > MAX_CHAIN {
            return Err(Unfit::Malformed(format!("more than {MAX_CHAIN} responses")));
        }
    }
    if responses.is_empty() { Err(malformed()) } else { Ok(responses) }
}

/// The issuer of one certificate of a chain: another of the chain, or inside the proof, or among the trusted ones. It
/// has to have signed it, so a wrong guess does no harm.
fn find_issuer(
    certificate: &Certificate,
    chain: &[Certificate],
    inside: Vec<Certificate>,
    credentials: &Credentials,
) -> Option<Certificate> {
    let copies = chain.iter().skip(1).filter_map(|other| Certificate::from_der(&other.der().ok()?).ok());
    let trusted = || trusted_issuer(certificate, credentials);
    copies
        .chain(inside)
        .chain(std::iter::once_with(trusted).flatten())
        .chain(std::iter::once_with(|| system_issuer(certificate)).flatten())
        .find(|issuer| certificate.is_signed_by(issuer))
}

/// The issuer of an element of the chain. That of an intermediate is next to it or a trusted root; the system's roots
/// are not loaded for it, and one that signed itself has no issuer to ask.
pub(in crate::tls) fn issuer_of(
    chain: &[Certificate],
    at: usize,
    credentials: &Credentials,
) -> Option<Certificate> {
    let certificate = chain.get(at)?;
    if at == 0 && !certificate.is_signed_by(certificate) {
        return find_issuer(certificate, chain, Vec::new(), credentials);
    }
    let next = chain.get(at + 1).and_then(|next| Certificate::from_der(&next.der().ok()?).ok());
    next.into_iter()
        .chain(std::iter::once_with(|| trusted_issuer(certificate, credentials)).flatten())
        .find(|issuer| certificate.is_signed_by(issuer) && !certificate.is_signed_by(certificate))
}

fn trusted_issuer(certificate: &Certificate, credentials: &Credentials) -> Option<Certificate> {
    Certificate::from_der(&credentials.trusted_issuer(certificate).ok()?).ok()
}

/// The last resort, reached only for a certificate without its intermediate, and for a proof of an intermediate of a root
/// that the system alone knows.
fn system_issuer(certificate: &Certificate) -> Option<Certificate> {
    let mut builder = CredentialsBuilder::new().ok()?;
    builder.trust_system().ok()?;
    trusted_issuer(certificate, &builder.share())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_places(written: &str) -> Vec<String> {
        let text = |place: Option<Place>| {
            place.map(|place| format!("{:?} {}", place.format, place.path)).unwrap_or_default()
        };
        places(written.into()).into_iter().map(text).collect()
    }

    #[test]
    fn a_prefix_holds_until_the_next_and_the_first_format_is_der() {
        assert_eq!(read_places("/a"), ["Der /a"]);
        assert_eq!(
            read_places("/a : PEM /b:/c : DER /d:/e"),
            ["Der /a", "Pem /b", "Pem /c", "Der /d", "Der /e"]
        );
        assert_eq!(read_places("<; PEM /a:b ; /c"), ["Pem /a:b", "Pem /c"]);
    }

    #[test]
    fn an_empty_item_leaves_its_certificate_without_a_proof() {
        assert_eq!(read_places(" : /b"), ["", "Der /b"]);
        assert_eq!(
            read_places("PEM : /b"),
            ["Der PEM", "Der /b"],
            "a prefix is followed by a space and a path"
        );
    }

    #[test]
    fn a_pem_text_may_hold_several_responses() {
        let one = "-----BEGIN OCSP RESPONSE-----\nAQID\n-----END OCSP RESPONSE-----\n";
        assert_eq!(from_pem(one.as_bytes()).unwrap(), [[1, 2, 3]]);
        assert_eq!(from_pem(format!("text\n{one}{one}").as_bytes()).unwrap().len(), 2);
        assert!(from_pem(one.repeat(MAX_CHAIN + 1).as_bytes()).is_err());
        assert!(from_pem(b"-----BEGIN OCSP RESPONSE-----\nAQID").is_err());
    }
}
