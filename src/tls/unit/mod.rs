//! What a server shows and trusts: certificates with their keys and proofs, authorities, revocation lists. Loaded and
//! checked once, then only read.
//!
//! Certificates and proofs always come from the same unit, and a proof goes out only with the certificate that it was
//! checked for, so they are never mixed. An unusable certificate or key is an error (STARTTLS is refused, or the former
//! unit goes on); an unusable proof is not: the certificate then has none, and the log says why.
//!
//! Proofs reach a client in two ways (row S8). The leaf's is handed out by a callback, so that a new one needs no new
//! credentials. Where there are proofs of the certificates above it too, second credentials have all of them loaded:
//! they go out under TLS 1.3, one for each certificate. What is loaded outranks the callback, so those credentials are
//! used only as long as the proofs in them are the ones that should go out; the unit is then loaded anew by the thread
//! that watches the files, and until it is the leaf's proof goes out alone.

mod certificates;
pub(super) mod proofs;
mod shown;
mod trust;
mod unusable;

use super::cache::Files;
use super::dh::{self, DhError};
use super::gnutls;
use super::gnutls::credentials::{Credentials, CredentialsBuilder};
use super::gnutls::session::{Staple, Staples};
use super::kept::Kept;
use super::notice::{Notice, Notify};
use super::revocation::Lists;
use super::settings::UnitSettings;
use crate::ocsp::Proof;
use crate::ocsp::registry::{Entry, FIRST_WORD_PATIENCE, Registry, Side};
use crate::ocsp::standing::{CertificateStanding, UnusableFile};
use bstr::{BStr, BString, ByteSlice};
use certificates::{Pair, load_pairs};
use shown::Shown;
use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

pub(super) use certificates::load_files;
pub(super) use trust::load_trust;

/// Certificate, key and proof are replaced by three renames. How often files that do not fit together are read again,
/// and after what pause, before they count as what they are.
const HALF_TRIES: usize = 2;
const HALF_PAUSE: Duration = Duration::from_millis(50);

/// What a server shows and trusts.
pub(super) struct Unit {
    shown: Vec<Shown>,
    pub credentials: Arc<Credentials>,
    /// `tls_crl`
    pub lists: Option<Lists>,
    /// Where there are proofs of whole chains.
    chains: Option<Chains>,
    /// Files that are newer and cannot be used: this goes on in their place.
    spoilt: Mutex<Option<UnusableFile>>,
}

/// Credentials with proofs loaded into them.
struct Chains {
    /// None: GnuTLS would not load them.
    credentials: Option<Arc<Credentials>>,
    /// What was to be loaded for each certificate; nothing for one without proofs above its leaf's.
    proofs: Vec<Vec<Proof>>,
}

/// What one session is given.
pub(super) struct Offer {
    pub credentials: Arc<Credentials>,
    pub staples: Staples,
    /// Certificates whose proofs are in the credentials.
    pub loaded: Vec<Arc<[u8]>>,
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
    /// Fewer keys than certificates.
    #[error("(cert/key setup: out of keys)")]
    OutOfKeys,
    /// A list without an item.
    #[error("(cert/key setup): tls_certificate names no file")]
    NoCertificate,
    /// A list that is too long.
    #[error("(cert/key setup): more than {0} files in tls_certificate")]
    TooMany(usize),
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
    /// `tls_dhparam`.
    #[error("{0}")]
    DhParameters(#[from] DhError),
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
    /// A token, which only a module can be asked for.
    #[error("no PKCS#11 module is loaded, since gnutls_allow_auto_pkcs11 is not set")]
    NoModules(BString),
    /// A token, and a library that is too old.
    #[error("certificates and keys in a token need GnuTLS 3.6.3 or later")]
    NoTokens(BString),
}

impl UnitError {
    fn pair(certificate: &BStr, key: &BStr, problem: FileProblem) -> Self {
        Self::CertificateOrKey { certificate: certificate.to_owned(), key: key.to_owned(), problem }
    }

    /// A line that names the one file of several, and the reason.
    pub(super) fn notice(&self) -> Option<Notice> {
        let UnitError::CertificateOrKey { problem, .. } = self else { return None };
        Some(Notice::main(format!("TLS: {}", problem.detail())))
    }

    /// The one file of several, and the reason; both files of a pair that is none.
    fn detail(&self) -> String {
        match self {
            UnitError::CertificateOrKey { problem, .. } if !self.is_key_mismatch() => problem.detail(),
            other => other.to_string(),
        }
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

    /// What goes on if this comes in the place of something good.
    fn what_stays(&self) -> &'static str {
        match self {
            UnitError::Trust { .. } => "the former files stay",
            _ => "the former certificate stays",
        }
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
        let said = RefCell::new(Vec::new());
        let mut load = || {
            said.borrow_mut().clear();
            let notify = |notice| said.borrow_mut().push(notice);
            Self::load_anew(settings, files, before, registry, now, &notify)
        };
        let mut loaded = load();
        for _ in 0..HALF_TRIES {
            if !is_half(&loaded) {
                break;
            }
            thread::sleep(HALF_PAUSE);
            loaded = load();
        }
        said.into_inner().into_iter().for_each(notify);
        match (loaded, before) {
            // Between the renames of certificate and key the former pair goes on. So does what was loaded when a file
            // is taken away or spoilt: mail should not stop for that before somebody restarts.
            (Err(error), Some(before)) => {
                notify(Notice::main(format!("TLS: {}; {} in use", error.detail(), error.what_stays())));
                *before.spoilt() = Some(error.unusable(Side::Server, true));
                Ok(Arc::clone(before))
            }
            (Ok(unit), Some(before)) => {
                unit.shown.iter().zip(&before.shown).for_each(|(shown, before)| shown.remember(before));
                Ok(Arc::new(unit))
            }
            (Err(error), None) => {
                error.notice().map(notify);
                Err(error)
            }
            (Ok(unit), None) => Ok(Arc::new(unit)),
        }
    }

    fn load_anew(
        settings: &UnitSettings,
        files: &mut Files,
        before: Option<&Arc<Unit>>,
        registry: Option<&Registry>,
        now: SystemTime,
        notify: Notify<'_>,
    ) -> Result<Self, UnitError> {
        let pairs = load_pairs(settings, files, now, notify)?;
        let credentials = Arc::new(build(settings, &pairs, files, notify)?.share());
        let place = settings.crl.as_ref().map(|place| place.as_bstr());
        let before = before.and_then(|before| before.lists.as_ref());
        let lists = place.map(|place| Lists::load(place, files, before, notify)).transpose()?;
        let mut places =
            settings.ocsp_file.as_ref().map(|list| proofs::places(list.as_bstr())).unwrap_or_default();
        if places.len() > pairs.len() {
            notify(Notice::main(
                "OCSP: tls_ocsp_file has more files than tls_certificate: the rest is not used",
            ));
        }
        places.resize(pairs.len(), None);
        // Nobody else has issued what was made here.
        let registry = registry.filter(|_| settings.certificate.is_some());
        let responder = settings.ocsp_responder.as_ref().map(|url| url.as_bstr());
        let one = |(pair, place): (&Pair, Option<proofs::Place>)| {
            let filed = place.map(|place| proofs::load(place, files, &pair.chain, &credentials, now));
            let issuer_of = |at| proofs::issuer_of(&pair.chain, at, &credentials);
            let kept =
                registry.map(|registry| Kept::new(registry, &pair.chain, issuer_of, responder, now, notify));
            Shown::new(pair.certificate.clone(), &pair.chain, filed, kept.unwrap_or_default())
        };
        let shown: Vec<Shown> = pairs.iter().zip(places).map(one).collect();
        let mut unit = Self { shown, credentials, lists, chains: None, spoilt: Mutex::default() };
        unit.chains = unit.load_chains(settings, &pairs, files, now, notify)?;
        Ok(unit)
    }

    /// The credentials with proofs in them, if there are any to load.
    fn load_chains(
        &self,
        settings: &UnitSettings,
        pairs: &[Pair],
        files: &mut Files,
        now: SystemTime,
        notify: Notify<'_>,
    ) -> Result<Option<Chains>, UnitError> {
        let proofs = self.whole_chains(now);
        if proofs.iter().all(Vec::is_empty) {
            return Ok(None);
        }
        // What there is to say was said of the credentials without proofs.
        let mut builder = build(settings, pairs, files, &|_| {})?;
        let load = |(at, proofs): (usize, &Vec<Proof>)| {
            let responses: Vec<&[u8]> = proofs.iter().map(|proof| &**proof.der()).collect();
            if responses.is_empty() { Ok(()) } else { builder.staple_chain(at, &responses) }
        };
        let credentials = match proofs.iter().enumerate().try_for_each(load) {
            Ok(()) => Some(Arc::new(builder.share())),
            Err(error) => {
                notify(Notice::main(format!("OCSP: only the proofs of leafs are stapled: {error}")));
                None
            }
        };
        Ok(Some(Chains { credentials, proofs }))
    }

    /// For each certificate the proofs of its whole chain; none if the library cannot staple them, or if there is not
    /// the leaf's and another.
    fn whole_chains(&self, now: SystemTime) -> Vec<Vec<Proof>> {
        let of = |shown: &Shown| {
            let (leaf, _) = shown.leaf_proof(now);
            let above: Vec<Proof> =
                shown.proofs_above(now).into_iter().filter_map(|(proof, _)| proof).collect();
            let leaf = leaf.filter(|_| gnutls::credentials::STAPLES_CHAINS && !above.is_empty());
            leaf.map(|leaf| std::iter::once(leaf).chain(above).collect()).unwrap_or_default()
        };
        self.shown.iter().map(of).collect()
    }

    /// How it stands with each certificate that may be shown, for the administrator.
    pub fn standings(&self, now: SystemTime) -> Vec<CertificateStanding> {
        self.shown.iter().flat_map(|shown| shown.standings(now)).collect()
    }

    /// What could not be loaded: newer files, and lists that are left out.
    pub fn unusable(&self) -> Vec<UnusableFile> {
        let left_out = self.lists.iter().flat_map(|lists| lists.unusable(Side::Server));
        self.spoilt().clone().into_iter().chain(left_out).collect()
    }

    fn spoilt(&self) -> MutexGuard<'_, Option<UnusableFile>> {
        self.spoilt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if proofs should be judged again, or others be loaded into credentials than are.
    pub fn is_outdated(&self, now: SystemTime) -> bool {
        if self.shown.iter().any(|shown| shown.is_outdated(now)) {
            return true;
        }
        let wanted = self.whole_chains(now);
        match &self.chains {
            None => wanted.iter().any(|proofs| !proofs.is_empty()),
            Some(chains) => !chains.are(&wanted),
        }
    }

    /// Waits for proofs that certificates of this unit promise and that are about to be fetched, as long as that may take.
    pub fn await_proofs(&self, now: SystemTime, deadline: Option<Instant>) {
        let awaited: Vec<_> = self.shown.iter().filter_map(|shown| shown.awaited(now)).collect();
        if let Some((registry, _)) = awaited.first() {
            let entries: Vec<&Entry> = awaited.iter().map(|(_, entry)| *entry).collect();
            registry.await_words(&entries, FIRST_WORD_PATIENCE, deadline, now);
        }
    }

    /// What to give a session now; changes of state are told.
    pub fn offer(&self, now: SystemTime, notify: Notify<'_>) -> Offer {
        self.shown.iter().for_each(|shown| shown.tell_state(now, notify));
        let staple = |shown: &Shown| {
            let (proof, _) = shown.leaf_proof(now);
            proof.map(|proof| Staple { certificate: Arc::clone(&shown.leaf), proof: Arc::clone(proof.der()) })
        };
        let mut staples: Vec<_> = self.shown.iter().filter_map(staple).collect();
        let staples = match (self.shown.len(), staples.pop()) {
            (1, Some(only)) => Staples::One(only.proof),
            (_, None) => Staples::None,
            (_, Some(last)) => Staples::Of({
                staples.push(last);
                staples
            }),
        };
        let current = self.chains.as_ref().filter(|chains| chains.are(&self.whole_chains(now)));
        let Some((chains, credentials)) =
            current.and_then(|chains| Some((chains, chains.credentials.as_ref()?)))
        else {
            return Offer { credentials: Arc::clone(&self.credentials), staples, loaded: Vec::new() };
        };
        let with_proofs = self.shown.iter().zip(&chains.proofs).filter(|(_, proofs)| !proofs.is_empty());
        let loaded = with_proofs.map(|(shown, _)| Arc::clone(&shown.leaf)).collect();
        Offer { credentials: Arc::clone(credentials), staples, loaded }
    }
}

impl Chains {
    /// True if these are the proofs that are loaded.
    fn are(&self, proofs: &[Vec<Proof>]) -> bool {
        let same = |(one, other): (&Proof, &Proof)| one.der() == other.der();
        self.proofs.len() == proofs.len()
            && self
                .proofs
                .iter()
                .zip(proofs)
                .all(|(one, other)| one.len() == other.len() && one.iter().zip(other).all(same))
    }
}

/// Perhaps some of the files are replaced, and the others just about to be.
fn is_half(loaded: &Result<Unit, UnitError>) -> bool {
    match loaded {
        Ok(unit) => unit.shown.iter().any(Shown::has_proof_of_another),
        Err(error) => error.is_key_mismatch(),
    }
}

/// Credentials with certificates and trust, to which proofs may still be added.
fn build(
    settings: &UnitSettings,
    pairs: &[Pair],
    files: &mut Files,
    notify: Notify<'_>,
) -> Result<CredentialsBuilder, UnitError> {
    let mut builder = CredentialsBuilder::new()?;
    pairs.iter().try_for_each(|pair| pair.show(&mut builder))?;
    if let Some(place) = &settings.verify_certificates {
        load_trust(place.as_bstr(), settings.asks_clients, files, &mut builder)?;
    }
    dh::load(&settings.dh, files, &mut builder, notify)?;
    builder.staple_by_session();
    Ok(builder)
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
pub(super) fn io_text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}
