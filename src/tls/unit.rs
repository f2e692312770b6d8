//! One certificate with its key, proof, trust and revocation lists: loaded and checked once, then only read.
//!
//! Certificate and proof always come from the same unit, so they are never mixed. An unusable certificate or
//! key is an error (STARTTLS is refused); an unusable proof is not: the unit then has none, and says why.

use super::cache::Files;
use super::gnutls;
use super::gnutls::credentials::{Credentials, CredentialsBuilder};
use super::gnutls::x509::{Certificate, PrivateKey, self_signed};
use super::kept::{Kept, Known};
use super::notice::{Notice, Notify};
use super::revocation::Lists;
use super::settings::UnitSettings;
use crate::ocsp::registry::Registry;
use crate::ocsp::{Proof, Subject, Unfit};
use crate::text::list::List;
use bstr::{BStr, BString, ByteSlice};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bits of a self-signed RSA key (GnuTLS's "medium"), read by every client.
const SELF_SIGNED_BITS: u32 = 2048;
/// Life of a self-signed certificate. It is made anew whenever the process starts.
const SELF_SIGNED_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// X.520 organization and common name.
const OID_ORGANIZATION: &str = "2.5.4.10";
const OID_COMMON_NAME: &str = "2.5.4.3";

/// What a server shows and trusts. Immutable but for what was last said of the proof.
pub(super) struct Unit {
    pub credentials: Arc<Credentials>,
    /// `tls_crl`
    pub lists: Option<Lists>,
    /// The file of the proof, and what is in it; none if no file is configured.
    proof: Option<(BString, Result<Proof, Unfit>)>,
    /// The chain, as far as proofs are fetched for it (`tls_ocsp_fetch`).
    kept: Kept,
    /// The certificate promises a staple (RFC 7633).
    demands_staple: bool,
    certificate: BString,
    /// The last trouble that was told, so that each change of state is told once.
    told: Mutex<Option<String>>,
}

/// Why a unit could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// Certificate or key, with the names of the files as Exim shows them.
    #[error("(cert/key setup: cert={certificate} key={key}): {problem}")]
    CertificateOrKey {
        /// `tls_certificate`
        certificate: BString,
        /// `tls_privatekey`
        key: BString,
        /// What is wrong.
        problem: FileProblem,
    },
    /// A file of authorities or revocation lists.
    #[error("could not load '{path}' ({option}): {}", problem.detail())]
    Trust {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: BString,
        /// What is wrong.
        problem: FileProblem,
    },
    /// GnuTLS has no memory, or no randomness.
    #[error("(credentials): {0}")]
    Library(#[from] gnutls::Error),
}

/// What is wrong with a file. The text is GnuTLS's, which Exim logs; see [`FileProblem::detail`].
#[derive(Debug, thiserror::Error)]
pub enum FileProblem {
    /// Cannot be read.
    #[error("Error while reading file.")]
    Unreadable(BString, io::Error),
    /// A path that does not start at the root could be anything.
    #[error("Error while reading file.")]
    Relative(BString),
    /// A key with a password, which nobody is there to type.
    #[error("Decryption has failed.")]
    Encrypted(BString),
    /// Not what it should be.
    #[error("{1}")]
    Malformed(BString, gnutls::Error),
    /// No revocation list, or one that cannot be used.
    #[error("{1}")]
    List(BString, String),
    /// The file has nothing of the kind.
    #[error("No certificate was found.")]
    Nothing(BString),
}

impl FileProblem {
    /// The file and the reason.
    fn detail(&self) -> String {
        match self {
            FileProblem::Unreadable(path, error) => format!("{path}: {}", io_text(error)),
            FileProblem::Relative(path) => format!("{path}: not an absolute path"),
            FileProblem::Encrypted(path) => format!("{path}: the private key is encrypted with a password"),
            FileProblem::Malformed(path, error) => format!("{path}: {error}"),
            FileProblem::List(path, reason) => format!("{path}: {reason}"),
            FileProblem::Nothing(path) => format!("{path}: no certificate in it"),
        }
    }
}

impl UnitError {
    /// A line that names the one file of several, and the reason.
    pub(super) fn notice(&self) -> Option<Notice> {
        let UnitError::CertificateOrKey { problem, .. } = self else { return None };
        Some(Notice::main(format!("TLS: {}", problem.detail())))
    }

    /// A file may not be read by this user.
    pub(super) fn is_denied(&self) -> bool {
        let (UnitError::CertificateOrKey { problem, .. } | UnitError::Trust { problem, .. }) = self else {
            return false;
        };
        matches!(problem, FileProblem::Unreadable(_, error) if error.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Key and certificate are not of one pair: perhaps the other file is just about to be replaced too.
    fn is_key_mismatch(&self) -> bool {
        let UnitError::CertificateOrKey { problem: FileProblem::Malformed(_, error), .. } = self else {
            return false;
        };
        error.is_key_mismatch()
    }
}

impl Unit {
    /// Loads and checks everything; `before` is the unit that these settings gave until now. What it shows is looked
    /// after in the `registry`, if there is one.
    pub fn load(
        settings: &UnitSettings,
        files: &mut Files,
        before: Option<&Arc<Unit>>,
        registry: Option<&Registry>,
        now: SystemTime,
        notify: Notify<'_>,
    ) -> Result<Arc<Self>, UnitError> {
        match (Self::load_anew(settings, files, registry, now, notify), before) {
            // Certificate and key are replaced by two renames: between them the old pair goes on.
            (Err(error), Some(before)) if error.is_key_mismatch() => {
                notify(Notice::main(format!("TLS: {error}; the former certificate stays in use")));
                Ok(Arc::clone(before))
            }
            (Ok(unit), Some(before)) => {
                *unit.told() = before.told().clone();
                Ok(Arc::new(unit))
            }
            (Err(error), _) => {
                error.notice().map(notify);
                Err(error)
            }
            (Ok(unit), None) => Ok(Arc::new(unit)),
        }
    }

    fn load_anew(
        settings: &UnitSettings,
        files: &mut Files,
        registry: Option<&Registry>,
        now: SystemTime,
        notify: Notify<'_>,
    ) -> Result<Self, UnitError> {
        let mut builder = CredentialsBuilder::new()?;
        let chain = load_pair(settings, files, &mut builder, now, notify)?;
        if let Some(place) = &settings.verify_certificates {
            load_trust(place.as_bstr(), settings.asks_clients, files, &mut builder)?;
        }
        let place = settings.crl.as_ref().map(|place| place.as_bstr());
        let lists = place.map(|place| Lists::load(place, files, notify)).transpose()?;
        builder.staple_by_session();
        let credentials = Arc::new(builder.share());
        let proof = settings.ocsp_file.clone().map(|path| {
            let proof = load_proof(path.as_bstr(), files, &chain, &credentials, now);
            (path, proof)
        });
        // Nobody else has issued what was made here.
        let registry = registry.filter(|_| settings.certificate.is_some());
        let kept = registry.map(|registry| {
            let responder = settings.ocsp_responder.as_ref().map(|url| url.as_bstr());
            let issuer_of = |at| issuer_of(&chain, at, &credentials);
            Kept::new(registry, &chain, issuer_of, responder, now, notify)
        });
        Ok(Self {
            credentials,
            lists,
            proof,
            kept: kept.unwrap_or_default(),
            demands_staple: chain.first().is_some_and(Certificate::demands_staple),
            certificate: settings.certificate.clone().unwrap_or_default(),
            told: Mutex::new(None),
        })
    }

    /// What to staple now, if anything; a change of state is told. Of the file's proof and the fetched one it is that
    /// which may be shown longer.
    pub fn staple(&self, now: SystemTime, notify: Notify<'_>) -> Option<Arc<[u8]>> {
        let filed = match &self.proof {
            None => Ok(None),
            Some((path, Ok(proof))) => {
                proof.usable(now).map(|()| Some(proof)).map_err(|unfit| trouble(path.as_bstr(), &unfit))
            }
            Some((path, Err(unfit))) => Err(trouble(path.as_bstr(), unfit)),
        };
        let (in_file, trouble) = match filed {
            Ok(proof) => (proof.cloned(), None),
            Err(notice) => (None, Some(notice)),
        };
        let proof = match self.kept.known(0, now, notify) {
            Known::Revoked => None,
            Known::Nothing => in_file,
            Known::Usable(fetched) => in_file.into_iter().chain([fetched]).max_by_key(Proof::until),
        };
        self.tell(trouble, proof.is_some(), notify);
        proof.map(|proof| Arc::clone(proof.der()))
    }

    fn tell(&self, trouble: Option<Notice>, stapled: bool, notify: Notify<'_>) {
        let trouble = match trouble {
            Some(notice) if self.demands_staple && !stapled => {
                Some(Notice::panic(format!("{}; {}", notice.text, self.promise())))
            }
            None if self.demands_staple && !stapled => Some(Notice::panic(self.promise())),
            other => other,
        };
        let text = trouble.as_ref().map(|notice| notice.text.to_string());
        let mut told = self.told();
        if *told == text {
            return;
        }
        let over = told.is_some() && trouble.is_none();
        *told = text;
        drop(told);
        match (trouble, &self.proof) {
            (Some(notice), _) => notify(notice),
            (None, Some((path, _))) if over => {
                notify(Notice::main(format!("OCSP: {path} is stapled again")));
            }
            (None, None) if over => {
                notify(Notice::main(format!("OCSP: a proof of {} is stapled", self.certificate)));
            }
            _ => {}
        }
    }

    fn promise(&self) -> String {
        let certificate = &self.certificate;
        format!(
            "{certificate} demands a stapled OCSP proof (must-staple): clients will refuse it without one"
        )
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The line about a proof that is not stapled. A revoked certificate is for the panic log too.
fn trouble(path: &BStr, unfit: &Unfit) -> Notice {
    let text = format!("OCSP: {path} is not stapled: {unfit}");
    if unfit.is_revoked() { Notice::panic(text) } else { Notice::main(text) }
}

/// Certificate and key into the credentials; the chain comes back, leaf first.
fn load_pair(
    settings: &UnitSettings,
    files: &mut Files,
    builder: &mut CredentialsBuilder,
    now: SystemTime,
    notify: Notify<'_>,
) -> Result<Vec<Certificate>, UnitError> {
    let Some(certificate) = &settings.certificate else {
        notify(Notice::main(
            "Warning: No server certificate defined; will use a selfsigned one.\n \
             Suggested action: either install a certificate or change tls_advertise_hosts option",
        ));
        return load_self_signed(settings.own_name.as_bstr(), builder, now);
    };
    let key = settings.private_key.as_ref().unwrap_or(certificate);
    load_files(certificate.as_bstr(), key.as_bstr(), files, builder).map_err(|problem| {
        UnitError::CertificateOrKey { certificate: certificate.clone(), key: key.clone(), problem }
    })
}

/// A certificate and a key from their files (which may be one) into the credentials.
pub(super) fn load_files(
    certificate: &BStr,
    key: &BStr,
    files: &mut Files,
    builder: &mut CredentialsBuilder,
) -> Result<Vec<Certificate>, FileProblem> {
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
    builder.set_key(&chain, &private_key).map_err(|error| FileProblem::Malformed(key.to_owned(), error))?;
    Ok(chain)
}

fn load_self_signed(
    own_name: &BStr,
    builder: &mut CredentialsBuilder,
    now: SystemTime,
) -> Result<Vec<Certificate>, UnitError> {
    let key = PrivateKey::generate_rsa(SELF_SIGNED_BITS)?;
    // Any number does that differs from the one of the certificate before.
    let serial = now.duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs()).to_be_bytes();
    let name = [(OID_ORGANIZATION, &b"self-signed"[..]), (OID_COMMON_NAME, own_name.as_bytes())];
    let chain = vec![self_signed(&key, &serial, &name, now, SELF_SIGNED_LIFE)?];
    builder.set_key(&chain, &key)?;
    Ok(chain)
}

/// Authorities: a file, a directory of files, or the system's (`system`; loaded only where certificates of
/// peers are checked, since it costs twenty handshakes).
pub(super) fn load_trust(
    place: &BStr,
    needed: bool,
    files: &mut Files,
    builder: &mut CredentialsBuilder,
) -> Result<(), UnitError> {
    let option = "tls_verify_certificates";
    if place == "system" {
        if needed {
            builder.trust_system()?;
        }
        return Ok(());
    }
    let problem = |problem| UnitError::Trust { option, path: place.to_owned(), problem };
    let unreadable = |error| problem(FileProblem::Unreadable(place.to_owned(), error));
    let path = path_of(place).map_err(problem)?;
    if files.is_directory(path).map_err(unreadable)? {
        for path in files.list(path).map_err(unreadable)? {
            let pem = files.read(&path).map_err(unreadable)?;
            // As with OpenSSL's and GnuTLS's directories, files that are no certificates do not disturb.
            let _ = builder.trust_pem(&pem);
        }
        return Ok(());
    }
    let pem = files.read(path).map_err(unreadable)?;
    // An empty file trusts nobody, which is a meaning.
    if !pem.trim().is_empty() {
        let malformed = |error| problem(FileProblem::Malformed(place.to_owned(), error));
        builder.trust_pem(&pem).map_err(malformed)?;
    }
    Ok(())
}

/// A proof from its file, checked as a client would check it.
fn load_proof(
    written: &BStr,
    files: &mut Files,
    chain: &[Certificate],
    credentials: &Credentials,
    now: SystemTime,
) -> Result<Proof, Unfit> {
    let (format, path) = proof_place(written)?;
    let relative = |_| Unfit::Unreadable(io::Error::other("not an absolute path"));
    let path = path_of(path).map_err(relative)?;
    let bytes = files.read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unfit::Missing,
        _ => Unfit::Unreadable(io::Error::other(io_text(&error))),
    })?;
    let der = match format {
        Format::Der => bytes,
        Format::Pem => from_pem(&bytes)?,
    };
    if der.is_empty() {
        return Err(Unfit::Empty);
    }
    let leaf = chain.first().ok_or(Unfit::IssuerUnknown)?;
    let inside = Proof::certificates_inside(&der);
    let issuer = find_issuer(leaf, chain, inside, credentials).ok_or(Unfit::IssuerUnknown)?;
    let subject = Subject::new(leaf, issuer).ok_or(Unfit::IssuerUnknown)?;
    Proof::check(&der, &subject, now)
}

enum Format {
    Der,
    Pem,
}

/// Is this value of `tls_ocsp_file` a list? Exim allows one with a list of certificates; it is not built yet.
pub fn is_list_of_proofs(written: &BStr) -> bool {
    written.contains(&b':') || List::names_separator(written)
}

/// `tls_ocsp_file` names one file, after `DER ` (the default) or `PEM `. A list is refused rather than half used:
/// constant text when the configuration is read, what was expanded here.
fn proof_place(written: &BStr) -> Result<(Format, &BStr), Unfit> {
    if is_list_of_proofs(written) {
        return Err(Unfit::Malformed("a list of several proofs is not supported yet".into()));
    }
    Ok(match (written.strip_prefix(b"DER "), written.strip_prefix(b"PEM ")) {
        (Some(path), _) => (Format::Der, path.trim().as_bstr()),
        (_, Some(path)) => (Format::Pem, path.trim().as_bstr()),
        _ => (Format::Der, written),
    })
}

/// The response in a PEM text (`-----BEGIN OCSP RESPONSE-----`).
fn from_pem(pem: &[u8]) -> Result<Vec<u8>, Unfit> {
    use base64::Engine;
    let malformed = || Unfit::Malformed("no OCSP RESPONSE in PEM".into());
    if pem.trim().is_empty() {
        return Err(Unfit::Empty);
    }
    let (_, rest) = pem.split_once_str(b"-----BEGIN OCSP RESPONSE-----").ok_or_else(malformed)?;
    let (body, _) = rest.split_once_str(b"-----END OCSP RESPONSE-----").ok_or_else(malformed)?;
    let body: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    base64::engine::general_purpose::STANDARD.decode(body).map_err(|_| malformed())
}

/// The leaf's issuer: next in the chain, or inside the proof, or among the trusted ones. It has to have signed
/// the leaf, so a wrong guess does no harm.
fn find_issuer(
    leaf: &Certificate,
    chain: &[Certificate],
    inside: Vec<Certificate>,
    credentials: &Credentials,
) -> Option<Certificate> {
    let copies = chain.iter().skip(1).filter_map(|other| Certificate::from_der(&other.der().ok()?).ok());
    let trusted = || trusted_issuer(leaf, credentials);
    copies
        .chain(inside)
        .chain(std::iter::once_with(trusted).flatten())
        .chain(std::iter::once_with(|| system_issuer(leaf)).flatten())
        .find(|issuer| leaf.is_signed_by(issuer))
}

/// The issuer of an element of the chain. That of an intermediate is next to it or a trusted root; the system's roots
/// are not loaded for it, and one that signed itself has no issuer to ask.
fn issuer_of(chain: &[Certificate], at: usize, credentials: &Credentials) -> Option<Certificate> {
    let certificate = chain.get(at)?;
    if at == 0 && !certificate.is_signed_by(certificate) {
        return find_issuer(certificate, chain, Vec::new(), credentials);
    }
    let next = chain.get(at + 1).and_then(|next| Certificate::from_der(&next.der().ok()?).ok());
    next.into_iter()
        .chain(std::iter::once_with(|| trusted_issuer(certificate, credentials)).flatten())
        .find(|issuer| certificate.is_signed_by(issuer) && !certificate.is_signed_by(certificate))
}

fn trusted_issuer(leaf: &Certificate, credentials: &Credentials) -> Option<Certificate> {
    Certificate::from_der(&credentials.trusted_issuer(leaf).ok()?).ok()
}

/// The last resort, reached only for a certificate without its intermediate.
fn system_issuer(leaf: &Certificate) -> Option<Certificate> {
    let mut builder = CredentialsBuilder::new().ok()?;
    builder.trust_system().ok()?;
    trusted_issuer(leaf, &builder.share())
}

fn read(path: &BStr, files: &mut Files) -> Result<Vec<u8>, FileProblem> {
    let unreadable = |error| FileProblem::Unreadable(path.to_owned(), error);
    files.read(path_of(path)?).map_err(unreadable)
}

pub(super) fn path_of(path: &BStr) -> Result<&Path, FileProblem> {
    let path = Path::new(OsStr::from_bytes(path));
    if path.is_absolute() { Ok(path) } else { Err(FileProblem::Relative(path.as_os_str().as_bytes().into())) }
}

/// As the C library says it, without Rust's number.
fn io_text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}
