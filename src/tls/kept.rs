//! The certificates of a unit as the staple keeper looks after them: one entry for each element of the chain whose
//! issuer is known, leaf first.

use super::gnutls::x509::Certificate;
use super::notice::{Notice, Notify};
use crate::ocsp::Proof;
use crate::ocsp::http::Url;
use crate::ocsp::registry::{Entry, MAX_ENTRIES, Registry, Report, Word, demands_proof, has_responder};
use bstr::{BStr, ByteSlice};
use std::sync::Arc;
use std::time::SystemTime;

/// What is held makes the keeper look after it.
#[derive(Default)]
pub(super) struct Kept {
    entries: Vec<Option<Arc<Entry>>>,
    /// The leaf promises a staple, and somebody can be asked for it here: a client had better wait for the first.
    demanded: Option<Registry>,
}

/// What the keeper knows of a certificate.
pub(super) enum Known {
    /// No proof that can be shown now.
    Nothing,
    /// This proof can be shown now.
    Usable(Proof),
    /// It is revoked: no proof may be shown, whoever has one.
    Revoked,
}

impl Kept {
    /// Registers a chain, leaf first. `issuer_of` finds the issuer of one of its elements; `responder` is the leaf's
    /// (`tls_ocsp_responder`), the other elements are asked about where they say.
    pub fn new(
        registry: &Registry,
        chain: &[Certificate],
        issuer_of: impl Fn(usize) -> Option<Certificate>,
        responder: Option<&BStr>,
        now: SystemTime,
        notify: Notify<'_>,
    ) -> Self {
        let responder = responder.and_then(|written| check_responder(written, notify));
        let one = |(at, certificate): (usize, &Certificate)| {
            let responder = responder.clone().filter(|_| at == 0);
            let Some(issuer) = issuer_of(at) else {
                if at == 0 {
                    tell_unknown_issuer(certificate, responder.as_deref(), notify);
                }
                return None;
            };
            // Neither fails for a certificate that a session can show.
            let entry = registry.look_after(certificate, &issuer, responder, now).ok()?;
            if entry.is_none() {
                let name = certificate.dn().unwrap_or_default();
                notify(Notice::main(format!(
                    "OCSP: there are more than {MAX_ENTRIES} certificates: no proof is fetched for {}",
                    name.as_bstr()
                )));
            }
            entry
        };
        let entries = chain.iter().enumerate().map(one).collect();
        let demanded = chain.first().is_some_and(|leaf| demands_proof(leaf, responder.as_deref()));
        Self { entries, demanded: demanded.then(|| registry.clone()) }
    }

    /// The leaf, if it promises a staple and the first word on it may be near; and who can wait for that.
    pub fn awaited(&self, now: SystemTime) -> Option<(&Registry, &Entry)> {
        let (registry, leaf) = (self.demanded.as_ref()?, self.entries.first()?.as_deref()?);
        leaf.is_awaited(now).then_some((registry, leaf))
    }

    /// Tells what changed of any element since it was told last.
    pub fn tell(&self, now: SystemTime, notify: Notify<'_>) {
        for change in self.entries.iter().flatten().filter_map(|entry| entry.change(now)) {
            notify(if change.alarming { Notice::panic(change.text) } else { Notice::main(change.text) });
        }
    }

    /// What is known of the element at this place of the chain.
    pub fn known(&self, at: usize, now: SystemTime) -> Known {
        let Some(entry) = self.entries.get(at).and_then(Option::as_ref) else { return Known::Nothing };
        match entry.word().0 {
            Word::Good(proof) if proof.usable(now).is_ok() => Known::Usable(proof),
            Word::Good(_) | Word::Nothing => Known::Nothing,
            Word::Revoked(_) => Known::Revoked,
        }
    }
}

impl Kept {
    /// What is known of the element at this place of the chain, and how the fetching goes.
    pub fn word(&self, at: usize) -> Option<(Word, Report)> {
        let entry = self.entries.get(at).and_then(Option::as_ref)?;
        Some((entry.word().0, entry.report()))
    }
}

/// Somebody could be asked, if it were known about what: a file without the intermediate is the usual reason.
fn tell_unknown_issuer(leaf: &Certificate, responder: Option<&str>, notify: Notify<'_>) {
    if leaf.is_signed_by(leaf) || !has_responder(leaf, responder) {
        return;
    }
    let name = leaf.dn().unwrap_or_default();
    notify(Notice::main(format!(
        "OCSP: no proof is fetched for {}: its issuer's certificate is neither behind it in its file nor in \
         tls_verify_certificates",
        name.as_bstr()
    )));
}

/// A responder that was written down as a constant was checked when the configuration was read; one that was expanded
/// is checked here, and the certificate's own serves in its place.
fn check_responder(written: &BStr, notify: Notify<'_>) -> Option<String> {
    match Url::parse(written) {
        Ok(_) => written.to_str().ok().map(str::to_owned),
        Err(error) => {
            notify(Notice::main(format!(
                "OCSP: tls_ocsp_responder is not used, the certificate's own responder is asked: {error}"
            )));
            None
        }
    }
}
