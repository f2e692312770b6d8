//! One certificate that a unit may show: which proof goes out with it, and what the log is told of that.

use super::proofs::{Filed, Word};
use crate::ocsp::registry::{Entry, Registry};
use crate::ocsp::standing::{CertificateFacts, CertificateStanding};
use crate::ocsp::{Proof, Unfit};
use crate::tls::gnutls::x509::Certificate;
use crate::tls::kept::{Kept, Known};
use crate::tls::notice::{Notice, Notify};
use bstr::{BStr, BString, ByteSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// A certificate with its proofs. Immutable but for what was last said of them.
pub(super) struct Shown {
    /// DER: tells which of several was chosen.
    pub leaf: Arc<[u8]>,
    /// The file it is from.
    pub certificate: BString,
    /// It promises a staple (RFC 7633).
    demands_staple: bool,
    /// The certificates above the leaf.
    above: Vec<Above>,
    /// What the certificates of the chain say of themselves, leaf first.
    facts: Vec<CertificateFacts>,
    filed: Option<Filed>,
    /// The chain, as far as proofs are fetched for it (`tls_ocsp_fetch`).
    kept: Kept,
    /// The last trouble that was told of each certificate of the chain, so that each change of state is told once.
    told: Mutex<Vec<Option<String>>>,
}

/// A certificate above the leaf.
struct Above {
    name: String,
    /// Its issuer is in the chain too.
    issuer_is_sent: bool,
}

impl Shown {
    /// A chain, leaf first, with what its file has and what is fetched for it.
    pub fn new(certificate: BString, chain: &[Certificate], filed: Option<Filed>, kept: Kept) -> Self {
        let leaf = chain.first().and_then(|leaf| leaf.der().ok()).unwrap_or_default();
        let above = |pair: &[Certificate]| Above {
            name: pair[0].dn().unwrap_or_default().to_str_lossy().into_owned(),
            issuer_is_sent: pair.get(1).is_some_and(|issuer| pair[0].is_signed_by(issuer)),
        };
        Self {
            leaf: leaf.into(),
            certificate,
            demands_staple: chain.first().is_some_and(Certificate::demands_staple),
            above: (1..chain.len()).map(|at| above(&chain[at..])).collect(),
            facts: chain.iter().filter_map(|one| CertificateFacts::of(one).ok()).collect(),
            filed,
            kept,
            told: Mutex::new(vec![None; chain.len()]),
        }
    }

    /// The file has a proof, and it is another certificate's.
    pub fn has_proof_of_another(&self) -> bool {
        self.filed.as_ref().is_some_and(|filed| matches!(filed.leaf, Err(Unfit::OtherCertificate)))
    }

    /// The file's proofs would be judged otherwise now than when they were loaded.
    pub fn is_outdated(&self, now: SystemTime) -> bool {
        self.filed.as_ref().is_some_and(|filed| filed.is_outdated(now))
    }

    /// The leaf's proof that may be shown now, and why its file's may not. Of the file's and the fetched one it is that
    /// which may be shown longer.
    pub fn leaf_proof(&self, now: SystemTime) -> (Option<Proof>, Option<Notice>) {
        let (in_file, trouble) = match &self.filed {
            None => (None, None),
            Some(filed) => usable(&filed.leaf, now, filed.path.as_bstr(), &String::new),
        };
        (self.choose(0, in_file, now), trouble)
    }

    /// The same of each certificate above the leaf, in their order.
    pub fn proofs_above(&self, now: SystemTime) -> Vec<(Option<Proof>, Option<Notice>)> {
        let one = |(at, above): (usize, &Above)| {
            let unsent = Err(Unfit::SignerNotSent);
            let word = |filed: &'_ Filed| match filed.above.get(at)?.as_ref()? {
                Ok(proof) if !above.can_be_checked(proof) => {
                    Some(usable(&unsent, now, filed.path.as_bstr(), &|| above.of()))
                }
                word => Some(usable(word, now, filed.path.as_bstr(), &|| above.of())),
            };
            let (in_file, trouble) = self.filed.as_ref().and_then(word).unwrap_or_default();
            let proof = self.choose(at + 1, in_file, now).filter(|proof| above.can_be_checked(proof));
            (proof, trouble)
        };
        self.above.iter().enumerate().map(one).collect()
    }

    fn choose(&self, at: usize, in_file: Option<Proof>, now: SystemTime) -> Option<Proof> {
        match self.kept.known(at, now) {
            Known::Revoked => None,
            Known::Nothing => in_file,
            Known::Usable(fetched) => in_file.into_iter().chain([fetched]).max_by_key(Proof::until),
        }
    }

    /// How it stands with each certificate of the chain, for the administrator.
    pub fn standings(&self, now: SystemTime) -> Vec<CertificateStanding> {
        let unsent = Unfit::SignerNotSent;
        let one = |(at, facts): (usize, &CertificateFacts)| {
            let filed = self.filed_word(at).map(|(path, word)| match (word, at.checked_sub(1)) {
                (Ok(proof), Some(at)) if !self.above[at].can_be_checked(proof) => (path, Err(&unsent)),
                (word, _) => (path, word.as_ref()),
            });
            CertificateStanding::of(facts.clone(), filed, self.kept.word(at), now)
        };
        self.facts.iter().enumerate().map(one).collect()
    }

    /// What the file says of one certificate of the chain.
    fn filed_word(&self, at: usize) -> Option<(&BStr, &Word)> {
        let filed = self.filed.as_ref()?;
        let word = match at.checked_sub(1) {
            None => &filed.leaf,
            Some(at) => filed.above.get(at)?.as_ref()?,
        };
        Some((filed.path.as_bstr(), word))
    }

    /// The leaf, if it promises a proof, has none to be shown, and may have one fetched any moment; and who can wait.
    pub fn awaited(&self, now: SystemTime) -> Option<(&Registry, &Entry)> {
        let awaited = self.kept.awaited(now)?;
        self.leaf_proof(now).0.is_none().then_some(awaited)
    }

    /// Tells what changed since it was told last.
    pub fn tell_state(&self, now: SystemTime, notify: Notify<'_>) {
        self.kept.tell(now, notify);
        let (proof, trouble) = self.leaf_proof(now);
        if proof.is_none() && self.kept.awaited(now).is_some() {
            return; // it is too early to say that a promise is not kept
        }
        let trouble = match trouble {
            Some(notice) if self.demands_staple && proof.is_none() => {
                Some(Notice::panic(format!("{}; {}", notice.text, self.promise())))
            }
            None if self.demands_staple && proof.is_none() => Some(Notice::panic(self.promise())),
            other => other,
        };
        self.tell(0, &String::new, trouble, notify);
        for (at, (above, (_, trouble))) in self.above.iter().zip(self.proofs_above(now)).enumerate() {
            self.tell(at + 1, &|| above.of(), trouble, notify);
        }
    }

    /// What was told of the same chain before it was loaded anew.
    pub fn remember(&self, before: &Self) {
        let said = before.told().clone();
        if said.len() == self.above.len() + 1 {
            *self.told() = said;
        }
    }

    fn tell(&self, at: usize, of: &dyn Fn() -> String, trouble: Option<Notice>, notify: Notify<'_>) {
        let text = trouble.as_ref().map(|notice| notice.text.to_string());
        let mut told = self.told();
        let Some(last) = told.get_mut(at).filter(|last| **last != text) else { return };
        let over = last.is_some() && trouble.is_none();
        *last = text;
        drop(told);
        match (trouble, &self.filed) {
            (Some(notice), _) => notify(notice),
            (None, Some(filed)) if over => {
                notify(Notice::main(format!("OCSP: {}{} is stapled again", filed.path, of())));
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

    fn told(&self) -> MutexGuard<'_, Vec<Option<String>>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Above {
    /// For lines of the log, behind the file.
    fn of(&self) -> String {
        format!(": the proof of {}", self.name)
    }

    /// GnuTLS's clients look for the signer in the chain and in the proof, not among the authorities they trust, and
    /// refuse the whole chain if they do not find it. So a root's word without the root inside stays here.
    fn can_be_checked(&self, proof: &Proof) -> bool {
        self.issuer_is_sent || proof.has_signer_inside()
    }
}

/// A proof if it may be shown now; else the line about it. A revoked certificate is for the panic log too.
fn usable(
    word: &Word,
    now: SystemTime,
    path: &BStr,
    of: &dyn Fn() -> String,
) -> (Option<Proof>, Option<Notice>) {
    let line = |unfit: &Unfit| {
        let text = format!("OCSP: {path}{} is not stapled: {unfit}", of());
        if unfit.is_revoked() { Notice::panic(text) } else { Notice::main(text) }
    };
    match word {
        Ok(proof) => match proof.usable(now) {
            Ok(()) => (Some(proof.clone()), None),
            Err(unfit) => (None, Some(line(&unfit))),
        },
        Err(unfit) => (None, Some(line(unfit))),
    }
}
