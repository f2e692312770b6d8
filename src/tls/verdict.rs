//! The client's judgement of what a server showed: chain, name, stapled proofs, revocation lists (rows C1 to C4); or, where
//! TLSA records say what it has to show, these in place of chain and name ([`super::dane`]).
//!
//! With TLS 1.3 a server may staple a proof for each certificate of its chain. The leaf's decides the state (`$tls_out_ocsp`);
//! what is given for the certificates above it has to be as good: one that is not makes the state "failed", and a
//! revocation counts wherever it is said. What is not given for them is not missed, unless the certificate promises it.

use super::client::{ClientError, ClientRequest, Verify};
use super::dane::{Found, Refusal};
use super::gnutls::credentials::Credentials;
use super::gnutls::ocsp;
use super::gnutls::session::{ChainStatus, Session};
use super::gnutls::x509::Certificate;
use super::notice::Notice;
use super::revocation::{Link, ListVerdict, Lists, issuer_among, trusted_issuer, way, weigh};
use super::status::{Asked, Status};
use crate::mail::envelope::OcspState;
use crate::ocsp::{Proof, Subject, Unfit};
use bstr::ByteSlice;
use std::time::SystemTime;

/// What the server showed, judged.
pub(super) struct Verdict {
    /// GnuTLS's whole verdict, and what remains of it without the proofs' part.
    whole: ChainStatus,
    chain: ChainStatus,
    host_name_fits: bool,
    /// What the TLSA records say, where there are some: nothing else is then asked about chain and name.
    dane: Option<Result<Found, Refusal>>,
    must_staple_broken: bool,
    pub ocsp: OcspState,
    /// Why a proof is not good, and which certificate of the chain it is for.
    pub unfit: Option<(usize, Unfit)>,
    /// What the lists of `tls_crl` say of the chain.
    lists: ListVerdict,
    /// Where a status is required: what is known of it.
    status: Status,
    /// All of this holds up to then.
    pub until: Option<SystemTime>,
}

impl Verdict {
    /// The certificate by itself. The absence or failure of a proof that nobody requires does not count
    /// (row C1), but a revocation does, and the promise of a must-staple certificate.
    pub fn certificate_is_good(&self) -> bool {
        let named = match &self.dane {
            None => self.chain.is_good() && self.host_name_fits,
            // Of a certificate that is itself in DNS nothing else counts (RFC 7671 5.1).
            Some(Ok(Found::EndEntity)) => return true,
            Some(Ok(Found::TrustAnchor(_))) => true,
            Some(Err(_)) => false,
        };
        named && !self.must_staple_broken && !self.is_revoked() && self.lists.unfit.is_none()
    }

    /// It was found good by a TLSA record.
    pub fn is_by_dane(&self) -> bool {
        self.dane.is_some() && self.certificate_is_good()
    }

    fn is_revoked(&self) -> bool {
        // With TLSA records GnuTLS has no trust to say anything by.
        self.dane.is_none() && self.whole.is_revoked()
            || self.unfit.as_ref().is_some_and(|(_, unfit)| unfit.is_revoked())
            || self.lists.revoked
            || matches!(self.status, Status::Revoked)
    }

    /// What the administrator should know.
    pub fn notices(&self, request: &ClientRequest<'_>) -> Vec<Notice> {
        let by_dane = request.terms.dane.as_ref().map(|dane| dane.host().as_slice());
        let host = request.host_name.or(by_dane).unwrap_or_default().as_bstr();
        let mut all = Vec::new();
        match &self.unfit {
            Some((0, unfit)) => all.push(format!("OCSP staple of {host} not good: {unfit}")),
            Some((at, unfit)) => {
                all.push(format!(
                    "OCSP staple of {host} for certificate {at} of its chain not good: {unfit}"
                ));
            }
            None => {}
        }
        if let Some(unfit) = &self.lists.unfit {
            all.push(format!("certificate of {host} not verified: its issuer's list in tls_crl: {unfit}"));
        }
        all.into_iter().map(Notice::main).collect()
    }
}

/// All that can be said of the server's certificate, without deciding.
pub(super) fn judge(
    session: &Session,
    credentials: &Credentials,
    lists: Option<&Lists>,
    asked: &Asked<'_>,
    request: &ClientRequest<'_>,
) -> Verdict {
    // A failure to verify is as bad as the worst verdict.
    let whole = session.verify_peer().unwrap_or(ChainStatus::UNVERIFIABLE);
    let chain = whole.without_proof();
    let sent = session.peer_certificates();
    let leaf = sent.first().and_then(|der| Certificate::from_der(der).ok());
    let host_name_fits = match (request.host_name, &leaf) {
        (None, _) => true,
        (Some(name), Some(leaf)) => leaf.names_host(name),
        (Some(_), None) => false,
    };
    let dane = request.terms.dane.as_ref().map(|dane| dane.judge(&sent));
    let mut way = match &dane {
        Some(Ok(Found::TrustAnchor(anchors))) => way(&sent, |certificate| issuer_among(anchors, certificate)),
        Some(_) => way(&sent, |_| None),
        None => way(&sent, |certificate| trusted_issuer(credentials, certificate)),
    };
    // Where the record names the certificate itself, nobody else is trusted: there is nowhere for the way to lead.
    way.is_lost &= matches!(dane, None | Some(Ok(Found::TrustAnchor(_))));
    let lists = lists.map(|lists| lists.words(&way, request.now)).unwrap_or_default();
    let way = way.links;
    let is_believed = |staples_are_checked: bool| match &dane {
        Some(found) => found.is_ok(),
        None => {
            request.verify != Verify::No
                && request.settings.verify_certificates.is_some()
                && whole.is_good()
                && staples_are_checked
        }
    };
    let staples = Staples::of(session, &sent, request);
    let (ocsp, unfit, proof_end) = staples.judge(session, &way, &is_believed, request);
    let shown = |at: usize| match at {
        0 => matches!(ocsp, OcspState::Verified | OcspState::NotVerified),
        at => staples.0.get(at).is_some_and(Option::is_some),
    };
    let demands = |at: usize, certificate: &Certificate| certificate.demands_staple() && !shown(at);
    let must_staple_broken = super::OCSP
        && (leaf.as_ref().is_some_and(|leaf| demands(0, leaf))
            || way.iter().any(|link| demands(link.at, &link.certificate)));
    let mut verdict = Verdict {
        whole,
        chain,
        host_name_fits,
        dane,
        must_staple_broken,
        ocsp,
        unfit,
        lists,
        status: Status::NotRequired,
        until: None,
    };
    if request.require_status {
        verdict.status = status(&verdict, &way, proof_end, asked, request);
    }
    let ends = way.iter().flat_map(|link| [link.certificate.not_after(), link.issuer.not_after()]);
    let status_end = if let Status::Good(end) = verdict.status { Some(end) } else { None };
    let list_end = verdict.lists.leaf;
    verdict.until = ends.chain(proof_end).chain(status_end).chain(list_end).min();
    verdict
}

/// "A status": the staple, or else a list. Asked for at what a certificate names only if it is verified.
fn status(
    verdict: &Verdict,
    way: &[Link],
    proof_end: Option<SystemTime>,
    asked: &Asked<'_>,
    request: &ClientRequest<'_>,
) -> Status {
    if verdict.is_revoked() {
        return Status::Revoked;
    }
    if verdict.ocsp == OcspState::Verified {
        return Status::Good(proof_end.unwrap_or(request.now));
    }
    let trusts = request.verify != Verify::No && request.settings.verify_certificates.is_some();
    let verified = (trusts || verdict.dane.is_some()) && verdict.certificate_is_good();
    let Some(leaf) = way.first().filter(|_| verified) else { return Status::Unproven };
    // A proof that is bad news, even if it is only old, is not outweighed by silence; a list is as good as a new one.
    if let Some(end) = verdict.lists.leaf {
        return Status::Good(end);
    }
    asked.status(leaf, request.now, |crls| weigh(&leaf.certificate, crls.into_iter().map(Ok), request.now))
}

/// What was stapled for each certificate that the server sent.
struct Staples(Vec<Option<Vec<u8>>>);

impl Staples {
    fn of(session: &Session, sent: &[Vec<u8>], request: &ClientRequest<'_>) -> Self {
        if !request.asks_for_staple() {
            return Self(Vec::new());
        }
        Self((0..sent.len()).map(|at| ocsp::received_staple(session, at)).collect())
    }

    /// The state of the staples, what is wrong, and when the leaf's ends. 4 needs GnuTLS's whole verdict (or that of the
    /// TLSA records) and ours (row C4).
    fn judge(
        &self,
        session: &Session,
        way: &[Link],
        is_believed: &dyn Fn(bool) -> bool,
        request: &ClientRequest<'_>,
    ) -> (OcspState, Option<(usize, Unfit)>, Option<SystemTime>) {
        if !request.asks_for_staple() {
            return (OcspState::NotRequested, None, None);
        }
        let (state, unfit, end) = match self.0.first() {
            Some(Some(staple)) => match check(staple, way.first(), request.now) {
                Ok(proof) => (OcspState::NotVerified, None, Some(proof.until())),
                Err(Unfit::IssuerUnknown) => (OcspState::NotVerified, Some((0, Unfit::IssuerUnknown)), None),
                Err(unfit) => (OcspState::Failed, Some((0, unfit)), None),
            },
            _ => (OcspState::NoResponse, None, None),
        };
        // Of several reasons the worst is told: that a certificate is revoked.
        let above = self.judge_above(way, request.now);
        let worse = above.as_ref().is_some_and(|(_, above)| {
            unfit.is_none() || above.is_revoked() && !unfit.as_ref().is_some_and(|(_, own)| own.is_revoked())
        });
        if worse {
            return (OcspState::Failed, above, None);
        }
        let believed = state == OcspState::NotVerified
            && unfit.is_none()
            && is_believed(ocsp::library_checked_staple(session));
        (if believed { OcspState::Verified } else { state }, unfit, end)
    }

    /// What is wrong with those of the certificates above the leaf.
    fn judge_above(&self, way: &[Link], now: SystemTime) -> Option<(usize, Unfit)> {
        let mut worst: Option<(usize, Unfit)> = None;
        for (at, staple) in self.0.iter().enumerate().skip(1) {
            let Some(staple) = staple else { continue };
            // One that is not on the way to a trusted authority proves nothing, and spoils nothing.
            let Some(link) = way.iter().find(|link| link.at == at) else { continue };
            if let Err(unfit) = check(staple, Some(link), now)
                && (worst.is_none() || unfit.is_revoked())
            {
                worst = Some((at, unfit));
            }
        }
        worst
    }
}

fn check(staple: &[u8], link: Option<&Link>, now: SystemTime) -> Result<Proof, Unfit> {
    let link = link.ok_or(Unfit::IssuerUnknown)?;
    let issuer = link.issuer.der().and_then(|der| Certificate::from_der(&der))?;
    let subject = Subject::new(&link.certificate, issuer).ok_or(Unfit::IssuerUnknown)?;
    Proof::check(staple, &subject, now)
}

/// What was required and is not there ends the session.
pub(super) fn enforce(verdict: &Verdict, request: &ClientRequest<'_>) -> Result<(), ClientError> {
    if let Some(Err(refusal)) = &verdict.dane {
        return Err(ClientError::Dane(*refusal));
    }
    let must_be_good = request.verify == Verify::Require || verdict.dane.is_some();
    if must_be_good && !verdict.certificate_is_good() {
        return Err(match verdict.is_revoked() {
            true => ClientError::Certificate("certificate revoked"),
            false if verdict.dane.is_none() && verdict.chain.is_good() && !verdict.host_name_fits => {
                ClientError::HostName
            }
            false => ClientError::Certificate("certificate invalid"),
        });
    }
    let proved = !request.require_ocsp || verdict.ocsp == OcspState::Verified;
    let revoked = (request.require_ocsp || request.require_status) && verdict.is_revoked();
    match &verdict.status {
        _ if revoked => Err(ClientError::Certificate("certificate revoked")),
        _ if !proved => Err(ClientError::Status),
        Status::NotRequired | Status::Good(_) => Ok(()),
        Status::Waiting(reason) => Err(ClientError::StatusUnknown(reason.clone())),
        Status::Revoked | Status::Unproven => Err(ClientError::Status),
    }
}
