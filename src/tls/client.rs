//! The client's side: what is shown and trusted, the handshake, and the judgement of the server's
//! certificate and of the proof it stapled (rows C1 to C4).

use super::cache::{FileCache, Files};
use super::gnutls::credentials::{Credentials, CredentialsBuilder};
use super::gnutls::ocsp;
use super::gnutls::priority::PriorityError;
use super::gnutls::session::{ChainStatus, Session, SessionError, Side};
use super::gnutls::x509::Certificate;
use super::notice::{Notice, Notify};
use super::priorities::Priorities;
use super::server::handshake_text;
use super::stream::TlsStream;
use super::unit::{UnitError, load_files, load_revocation_lists, load_trust};
use super::{gnutls, info};
use crate::mail::envelope::{OcspState, TlsInfo};
use crate::ocsp::{Proof, Subject, Unfit};
use crate::text::Value;
use bstr::{BString, ByteSlice};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// The TLS of all clients of one configuration; shared by their threads.
#[derive(Default)]
pub struct ClientTls {
    units: FileCache<ClientSettings, ClientUnit, UnitError>,
    priorities: Priorities,
}

/// Options of the smtp transport that name files, expanded. Empty values are unset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientSettings {
    /// `tls_certificate`: shown if the server asks.
    pub certificate: Option<BString>,
    /// `tls_privatekey`; none: in the certificate's file.
    pub private_key: Option<BString>,
    /// `tls_verify_certificates`: a file, a directory, or `system`.
    pub verify_certificates: Option<BString>,
    /// `tls_crl`.
    pub crl: Option<BString>,
}

/// How the server's certificate is to be checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// Not at all.
    No,
    /// It is checked, and the session goes on whatever comes of it (`tls_try_verify_hosts`).
    #[default]
    Try,
    /// Without a good certificate there is no session (`tls_verify_hosts`).
    Require,
}

/// One connection to make.
pub struct ClientRequest<'a> {
    /// Files.
    pub settings: &'a ClientSettings,
    /// `tls_require_ciphers`.
    pub ciphers: Option<&'a [u8]>,
    /// `tls_sni`.
    pub sni: Option<&'a [u8]>,
    /// Check of the certificate.
    pub verify: Verify,
    /// The host's name, if the certificate has to carry it (`tls_verify_cert_hostnames` matched).
    pub host_name: Option<&'a [u8]>,
    /// `hosts_request_ocsp` matched.
    pub request_ocsp: bool,
    /// `hosts_require_ocsp` matched; implies a request.
    pub require_ocsp: bool,
    /// When to give up the handshake. The stream keeps it until another is set.
    pub deadline: Option<Instant>,
    /// TLS from the first byte.
    pub on_connect: bool,
    /// The time.
    pub now: SystemTime,
    /// Takes notices.
    pub notify: Notify<'a>,
}

/// Why there is no TLS, in Exim's words: what follows `TLS session: `. The host is deferred with errno -37.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A file is unusable.
    #[error("{0}")]
    Unit(Arc<UnitError>),
    /// `tls_require_ciphers` is wrong.
    #[error("(gnutls_priority_init): {0}")]
    Priority(#[from] PriorityError),
    /// The session could not be made.
    #[error("(gnutls_init): {0}")]
    Session(gnutls::Error),
    /// The handshake failed.
    #[error("(gnutls_handshake): {}", handshake_text(.0))]
    Handshake(SessionError),
    /// The certificate is not good.
    #[error("(certificate verification failed): {0}")]
    Certificate(&'static str),
    /// The certificate is good, but for another host.
    #[error("(certificate verification failed)")]
    HostName,
    /// A good proof was required. The reason was told as a notice.
    #[error("(certificate status check failed)")]
    Status,
}

/// Loaded files.
struct ClientUnit {
    credentials: Arc<Credentials>,
}

/// What the server showed, judged.
struct Verdict {
    /// GnuTLS's whole verdict, and what remains of it without the proof's part.
    whole: ChainStatus,
    chain: ChainStatus,
    host_name_fits: bool,
    must_staple_broken: bool,
    ocsp: OcspState,
    /// Why the proof is not good.
    unfit: Option<Unfit>,
}

impl ClientTls {
    /// Nothing loaded yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Shakes hands. `socket` must have no byte left in any buffer of the caller. On an error the connection is
    /// closed; nothing was sent over it in clear after STARTTLS.
    pub fn connect(
        &self,
        socket: TcpStream,
        request: &ClientRequest<'_>,
    ) -> Result<(TlsStream, TlsInfo), ClientError> {
        let load = |files: &mut Files, _: Option<&Arc<_>>| {
            load_unit(request, files).inspect_err(|error| {
                error.notice().map(request.notify);
            })
        };
        let unit = self.units.get(request.settings, Instant::now(), load).map_err(ClientError::Unit)?;
        let priority = self.priorities.get(request.ciphers)?;
        let request_status = request.request_ocsp || request.require_ocsp;
        let side = Side::Client { request_status };
        let mut session = Session::new(side, socket, Arc::clone(&unit.credentials), priority)
            .map_err(ClientError::Session)?;
        session.set_deadline(request.deadline);
        if let Some(name) = request.sni {
            session.set_server_name(name).map_err(ClientError::Session)?;
        }
        if request_status {
            ocsp::request_staple(&mut session).map_err(ClientError::Session)?;
        }
        session.handshake(None).map_err(ClientError::Handshake)?;
        let verdict = judge(&session, &unit.credentials, request);
        if let Some(unfit) = &verdict.unfit {
            let host = request.host_name.unwrap_or_default().as_bstr();
            (request.notify)(Notice::main(format!("OCSP staple of {host} not good: {unfit}")));
        }
        if let Err(error) = enforce(&verdict, request) {
            session.refuse_certificate();
            return Err(error);
        }
        let sni = request.sni.map(Value::clean);
        let mut info = info::describe(&session, sni, request.on_connect);
        info.ocsp = verdict.ocsp;
        info.certificate_verified = request.verify != Verify::No && verdict.certificate_is_good();
        Ok((TlsStream::new(session), info))
    }
}

impl Verdict {
    /// The certificate by itself. The absence or failure of a proof that nobody requires does not count
    /// (row C1), but a revocation does, and the promise of a must-staple certificate.
    fn certificate_is_good(&self) -> bool {
        self.chain.is_good() && self.host_name_fits && !self.must_staple_broken
    }

    fn is_revoked(&self) -> bool {
        self.whole.is_revoked() || self.unfit.as_ref().is_some_and(Unfit::is_revoked)
    }
}

fn load_unit(request: &ClientRequest<'_>, files: &mut Files) -> Result<Arc<ClientUnit>, UnitError> {
    let settings = request.settings;
    let mut builder = CredentialsBuilder::new()?;
    if let Some(certificate) = &settings.certificate {
        let key = settings.private_key.as_ref().unwrap_or(certificate);
        load_files(certificate.as_bstr(), key.as_bstr(), files, &mut builder).map_err(|problem| {
            UnitError::CertificateOrKey { certificate: certificate.clone(), key: key.clone(), problem }
        })?;
    }
    if let Some(place) = &settings.verify_certificates {
        load_trust(place.as_bstr(), true, files, &mut builder)?;
    }
    if let Some(path) = &settings.crl {
        load_revocation_lists(path.as_bstr(), files, &mut builder)?;
    }
    Ok(Arc::new(ClientUnit { credentials: Arc::new(builder.share()) }))
}

/// All that can be said of the server's certificate, without deciding.
fn judge(session: &Session, credentials: &Credentials, request: &ClientRequest<'_>) -> Verdict {
    // A failure to verify is as bad as the worst verdict.
    let whole = session.verify_peer().unwrap_or(ChainStatus::UNVERIFIABLE);
    let chain = whole.without_proof(request.settings.crl.is_some());
    let certificates: Vec<Certificate> =
        session.peer_certificates().iter().map_while(|der| Certificate::from_der(der).ok()).collect();
    let leaf = certificates.first();
    let host_name_fits = match (request.host_name, leaf) {
        (None, _) => true,
        (Some(name), Some(leaf)) => leaf.names_host(name),
        (Some(_), None) => false,
    };
    let (ocsp, unfit) = judge_staple(session, credentials, certificates.as_slice(), whole, request);
    let demanded = super::OCSP && leaf.is_some_and(Certificate::demands_staple);
    let shown = matches!(ocsp, OcspState::Verified | OcspState::NotVerified);
    Verdict { whole, chain, host_name_fits, must_staple_broken: demanded && !shown, ocsp, unfit }
}

/// The state of the staple. 4 needs GnuTLS's whole verdict and ours (row C4).
fn judge_staple(
    session: &Session,
    credentials: &Credentials,
    certificates: &[Certificate],
    whole: ChainStatus,
    request: &ClientRequest<'_>,
) -> (OcspState, Option<Unfit>) {
    if !(request.request_ocsp || request.require_ocsp) {
        return (OcspState::NotRequested, None);
    }
    let Some(staple) = ocsp::received_staple(session) else { return (OcspState::NoResponse, None) };
    let Some(subject) = subject(certificates, credentials) else {
        return (OcspState::NotVerified, Some(Unfit::IssuerUnknown));
    };
    if let Err(unfit) = Proof::check(&staple, &subject, request.now) {
        return (OcspState::Failed, Some(unfit));
    }
    let believed = request.verify != Verify::No
        && request.settings.verify_certificates.is_some()
        && whole.is_good()
        && ocsp::library_checked_staple(session);
    (if believed { OcspState::Verified } else { OcspState::NotVerified }, None)
}

/// The leaf and its issuer: next in the chain, or trusted.
fn subject(certificates: &[Certificate], credentials: &Credentials) -> Option<Subject> {
    let leaf = certificates.first()?;
    let sent = certificates.iter().skip(1).filter_map(|other| other.der().ok());
    let trusted = std::iter::once_with(|| credentials.trusted_issuer(leaf).ok()).flatten();
    sent.chain(trusted).find_map(|der| Subject::new(leaf, Certificate::from_der(&der).ok()?))
}

/// What was required and is not there ends the session.
fn enforce(verdict: &Verdict, request: &ClientRequest<'_>) -> Result<(), ClientError> {
    if request.verify == Verify::Require && !verdict.certificate_is_good() {
        return Err(match verdict.is_revoked() {
            true => ClientError::Certificate("certificate revoked"),
            false if verdict.chain.is_good() && !verdict.host_name_fits => ClientError::HostName,
            false => ClientError::Certificate("certificate invalid"),
        });
    }
    if request.require_ocsp && verdict.ocsp != OcspState::Verified {
        return Err(match verdict.is_revoked() {
            true => ClientError::Certificate("certificate revoked"),
            false => ClientError::Status,
        });
    }
    Ok(())
}
