//! `tls_crl`: what revocation lists say of a peer's chain (client and server).
//!
//! GnuTLS would take the lists too, but believes each of them: whether unsigned, of another issuer of that name, out of
//! date, or a part only; and it needs minutes for a large one. So the lists are read and judged here
//! ([`crate::ocsp::crl`]):
//!
//! | of a certificate's issuer there is | meaning |
//! |---|---|
//! | a list, however old, that names the certificate | revoked |
//! | a list that is complete, signed by the issuer, and in time | good |
//! | lists that are none of that | the certificate is not verified |
//! | no list | nothing is said, as with Exim and GnuTLS (`hosts_require_status` asks for more) |

use super::cache::Files;
use super::gnutls::credentials::Credentials;
use super::gnutls::hash::{Digest, digest};
use super::gnutls::x509::{Certificate, MAX_CHAIN};
use super::notice::{Notice, Notify};
use super::unit::{FileProblem, UnitError, path_of};
use crate::ocsp::crl::Unsigned;
use crate::ocsp::registry::Side;
use crate::ocsp::standing::{ListStanding, UnusableFile};
use crate::ocsp::{Crl, UnfitCrl};
use bstr::{BStr, BString, ByteSlice};
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Most issuers for which it is remembered which lists they signed.
const MAX_PROVEN: usize = 1024;
/// Most bytes that the lists of one option take: the largest ones of a hundred authorities.
const MAX_BYTES: usize = 256 * 1024 * 1024;

/// The lists of one option.
#[derive(Default)]
pub(super) struct Lists {
    all: Vec<Unsigned>,
    /// The file of each.
    paths: Vec<BString>,
    /// What cannot be used, though it would be the list of this issuer (DER of its name): the reason.
    left_out: Vec<(Vec<u8>, String)>,
    /// Files with a list that could not be used, why, and whether a former one goes on.
    unusable: Vec<(BString, String, bool)>,
    proven: Mutex<Proven>,
}

/// By number of the list and hash of the issuer: the list, if that issuer signed it.
type Proven = HashMap<(usize, Vec<u8>), Option<Crl>>;

/// A certificate of a chain, and who issued it.
pub(super) struct Link {
    /// Its number in what the peer sent.
    pub at: usize,
    pub certificate: Certificate,
    pub issuer: Certificate,
}

/// What lists say of a certificate.
#[derive(Debug)]
pub(super) enum Word {
    /// Nothing.
    Silent,
    /// Not revoked; this holds up to then.
    Good(SystemTime),
    /// Revoked.
    Revoked,
    /// There should be a word, and it is of no use.
    Unfit(UnfitCrl),
}

/// What lists say of a chain.
#[derive(Default)]
pub(super) struct ListVerdict {
    /// A certificate of it is revoked.
    pub revoked: bool,
    /// What is wrong with a list that should say something.
    pub unfit: Option<UnfitCrl>,
    /// The leaf is good up to then.
    pub leaf: Option<SystemTime>,
}

impl Lists {
    /// Loads a file, or a directory of files. What is no list makes a file an error, as with Exim; in a directory it is
    /// left out and told, as is a list that proves nothing (a delta, for instance, or one whose signature is too weak). Such
    /// a list stands for one that is not complete: a certificate of its issuer needs another.
    ///
    /// Whoever copies a new list over the old one has a piece of a list there for a while, and perhaps for long: in a
    /// directory the lists go on that its file had `before`.
    pub fn load(
        place: &BStr,
        files: &mut Files,
        before: Option<&Self>,
        notify: Notify<'_>,
    ) -> Result<Self, UnitError> {
        let problem = |problem| UnitError::Trust { option: "tls_crl", path: place.to_owned(), problem };
        let path = path_of(place).map_err(problem)?;
        let unreadable = |error| problem(FileProblem::Unreadable(place.to_owned(), error));
        let mut lists = Self::default();
        if files.is_directory(path).map_err(unreadable)? {
            for path in files.list(path).map_err(unreadable)? {
                if is_hidden(&path) {
                    continue; // an unfinished copy, as rsync and editors make them
                }
                let (held, read) = (lists.all.len(), files.read(&path).map_err(UnfitCrl::Unreadable));
                let Err(unfit) = read.and_then(|bytes| lists.add(&bytes, &path, notify)) else { continue };
                let former = before.map(|before| before.of_file(&path)).unwrap_or_default();
                lists.unusable.push((
                    path.as_os_str().as_bytes().into(),
                    unfit.to_string(),
                    !former.is_empty(),
                ));
                if former.is_empty() {
                    tell(&path, &unfit, notify);
                    continue;
                }
                lists.all.truncate(held);
                lists.all.extend(former);
                lists.paths.resize(lists.all.len(), path.as_os_str().as_bytes().into());
                let path = path.as_os_str().as_bytes().as_bstr();
                notify(Notice::main(format!("TLS: {path} (tls_crl): {unfit}; the former list stays in use")));
            }
            return Ok(lists);
        }
        let bytes = files.read(path).map_err(unreadable)?;
        match lists.add(&bytes, path, notify) {
            Err(unfit) => Err(problem(FileProblem::List(place.to_owned(), unfit.to_string()))),
            Ok(()) => Ok(lists),
        }
    }

    /// The lists that were read from a file.
    fn of_file(&self, path: &Path) -> Vec<Unsigned> {
        let lists = self.all.iter().zip(&self.paths);
        lists.filter(|(_, from)| *from == path.as_os_str().as_bytes()).map(|(list, _)| list.clone()).collect()
    }

    /// The lists of one file. An error: it has none at all, or what cannot be read.
    fn add(&mut self, bytes: &[u8], path: &Path, notify: Notify<'_>) -> Result<(), UnfitCrl> {
        for der in crate::ocsp::crl::texts(bytes)? {
            let held: usize = self.all.iter().map(Unsigned::size).sum();
            if held + der.len() > MAX_BYTES {
                return Err(UnfitCrl::NoRoom(MAX_BYTES));
            }
            let issuer = Unsigned::issuer_of(&der).map(<[u8]>::to_vec);
            match Unsigned::parse(der) {
                Ok(list) => {
                    self.all.push(list);
                    self.paths.push(path.as_os_str().as_bytes().into());
                }
                Err(unfit @ UnfitCrl::Malformed(_)) => return Err(unfit),
                Err(unfit) => {
                    tell(path, &unfit, notify);
                    self.unusable.push((path.as_os_str().as_bytes().into(), unfit.to_string(), false));
                    if let Some(issuer) = issuer.filter(|_| !matches!(unfit, UnfitCrl::Attributes)) {
                        self.left_out.push((issuer, unfit.to_string()));
                    }
                }
            }
        }
        Ok(())
    }

    /// What is not used, for the administrator.
    pub fn unusable(&self, side: Side) -> impl Iterator<Item = UnusableFile> {
        self.unusable.iter().map(move |(path, error, former)| UnusableFile {
            side,
            option: "tls_crl".to_owned(),
            file: path.to_string(),
            error: error.clone(),
            former_in_use: *former,
        })
    }

    /// How it stands with each list, for the administrator.
    pub fn standings(&self, side: Side, now: SystemTime) -> Vec<ListStanding> {
        let lists = self.all.iter().zip(&self.paths);
        lists.map(|(list, path)| ListStanding::of_file(list, path.as_bstr(), side, now)).collect()
    }

    /// What the lists say of a chain. Where GnuTLS knows a way to a trusted authority that is not known here, nobody can
    /// tell whose lists are to be asked.
    pub fn words(&self, way: &Way, now: SystemTime) -> ListVerdict {
        let lost = way.is_lost.then_some(UnfitCrl::IssuerUnknown);
        let mut said = ListVerdict { unfit: lost, ..ListVerdict::default() };
        for link in &way.links {
            match weigh(&link.certificate, self.of(&link.issuer), now) {
                Word::Silent => {}
                Word::Good(end) if link.at == 0 => said.leaf = Some(end),
                Word::Good(_) => {}
                Word::Revoked => said.revoked = true,
                Word::Unfit(unfit) => said.unfit = said.unfit.or(Some(unfit)),
            }
        }
        said
    }

    /// The lists that bear the issuer's name; an error in place of one that it did not sign.
    fn of(&self, issuer: &Certificate) -> Vec<Result<Crl, UnfitCrl>> {
        let Ok(name) = issuer.raw_dn() else { return Vec::new() };
        let named = self.all.iter().enumerate().filter(|(_, list)| list.issuer() == name);
        let left_out = self.left_out.iter().filter(|(of, _)| *of == name);
        let left_out = left_out.map(|(_, reason)| Err(UnfitCrl::LeftOut(reason.clone())));
        named.map(|(at, list)| self.proven(at, list, issuer)).chain(left_out).collect()
    }

    /// The hash over a large list is made once for each issuer.
    fn proven(&self, at: usize, list: &Unsigned, issuer: &Certificate) -> Result<Crl, UnfitCrl> {
        let key = issuer.der().and_then(|der| digest(Digest::Sha256, &der)).map(|hash| (at, hash))?;
        let mut proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(crl) = proven.get(&key) {
            return crl.clone().ok_or(UnfitCrl::BadSignature);
        }
        let crl = list.signed_by(issuer);
        if proven.len() >= MAX_PROVEN {
            proven.clear();
        }
        proven.insert(key, crl.as_ref().ok().cloned());
        crl
    }
}

/// What these lists of its issuer say of a certificate.
pub(super) fn weigh(
    certificate: &Certificate,
    lists: impl IntoIterator<Item = Result<Crl, UnfitCrl>>,
    now: SystemTime,
) -> Word {
    let Ok(serial) = certificate.serial() else { return Word::Silent };
    let mut word = Word::Silent;
    for list in lists {
        let said = match list {
            Err(unfit) => Word::Unfit(unfit),
            Ok(crl) => match (crl.revoked(&serial), crl.usable(now)) {
                // An authority does not take back a revocation; so it counts in an old list too, and in one of any part.
                (Some(_), _) => return Word::Revoked,
                _ if !crl.covers(certificate) => Word::Silent,
                (None, Ok(())) => Word::Good(crl.until()),
                (None, Err(unfit)) => Word::Unfit(unfit),
            },
        };
        word = match (word, said) {
            (Word::Good(a), Word::Good(b)) => Word::Good(a.max(b)),
            (Word::Good(end), _) | (_, Word::Good(end)) => Word::Good(end),
            (Word::Silent, said) => said,
            (word, _) => word,
        };
    }
    word
}

/// The way from the leaf to a trusted authority, as far as it is known.
#[derive(Default)]
pub(super) struct Way {
    /// Each certificate on it, with its issuer; the leaf first.
    pub links: Vec<Link>,
    /// It leads nowhere, though it has a beginning.
    pub is_lost: bool,
}

/// The way of what the peer sent. Trusted certificates are not themselves looked at: nobody could revoke them.
///
/// It is GnuTLS's own: of several possible issuers the trusted one, else the first that was sent. No certificate ends it by
/// what it says of itself (that its issuer has its own name, for instance), or a peer could keep the lists from being asked.
pub(super) fn way(sent: &[Vec<u8>], trusted_issuer: impl Fn(&Certificate) -> Option<Certificate>) -> Way {
    let read = |at: usize| Certificate::from_der(sent.get(at)?).ok();
    let mut way = Way::default();
    let mut next = (!sent.is_empty()).then_some(0);
    while let Some(at) = next.take() {
        let Some(certificate) = read(at).filter(|_| way.links.len() < MAX_CHAIN) else { break };
        let trusted = trusted_issuer(&certificate);
        if trusted.as_ref().and_then(|trusted| trusted.der().ok()).is_some_and(|trusted| trusted == sent[at])
        {
            return way;
        }
        if let Some(issuer) = trusted.filter(|issuer| certificate.is_signed_by(issuer)) {
            way.links.push(Link { at, certificate, issuer });
            return way;
        }
        let passed = |other: &usize| *other == at || way.links.iter().any(|link: &Link| link.at == *other);
        let issuer = (0..sent.len()).filter(|other| !passed(other)).find_map(|other| {
            let issuer = read(other).filter(|issuer| certificate.names_as_issuer(issuer))?;
            Some((other, issuer))
        });
        // Only one signature for each step, or a peer's time would be short and ours long.
        if let Some((other, issuer)) = issuer.filter(|(_, issuer)| certificate.is_signed_by(issuer)) {
            way.links.push(Link { at, certificate, issuer });
            next = Some(other);
        }
    }
    way.is_lost = !way.links.is_empty();
    way
}

/// The issuer of a certificate among those that credentials trust.
pub(super) fn trusted_issuer(credentials: &Credentials, certificate: &Certificate) -> Option<Certificate> {
    credentials.trusted_issuer(certificate).and_then(|der| Certificate::from_der(&der)).ok()
}

/// The issuer of a certificate among these.
pub(super) fn issuer_among(authorities: &[Certificate], certificate: &Certificate) -> Option<Certificate> {
    let issuer = authorities.iter().find(|issuer| certificate.is_signed_by(issuer))?;
    issuer.der().and_then(|der| Certificate::from_der(&der)).ok()
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.as_bytes().starts_with(b".") || name.as_bytes().ends_with(b"~"))
}

fn tell(path: &Path, unfit: &UnfitCrl, notify: Notify<'_>) {
    let path = path.as_os_str().as_bytes().as_bstr();
    notify(Notice::main(format!("TLS: a list of {path} is left out (tls_crl): {unfit}")));
}
