//! The client's side: what is shown and trusted, the handshake, and what is made of the [judgement](super::verdict) of the
//! server's certificate and of the proofs it stapled (rows C1 to C6).

use super::cache::{FileCache, Files};
use super::dane::{Dane, Refusal};
use super::gnutls::credentials::{Credentials, CredentialsBuilder};
use super::gnutls::ocsp;
use super::gnutls::priority::PriorityError;
use super::gnutls::resumption::{ask_for_ticket, data, go_on_with};
use super::gnutls::session::{Session, SessionError, Side};
use super::notice::Notify;
use super::priorities::Priorities;
use super::resume::{Purpose, Sessions};
use super::revocation::Lists;
use super::server::handshake_text;
use super::status::{Asked, Held};
use super::stream::TlsStream;
use super::terms::ClientTerms;
use super::unit::{UnitError, load_files, load_trust};
use super::verdict::{enforce, judge};
use super::{gnutls, info};
use crate::mail::envelope::TlsInfo;
use crate::ocsp::registry::{Registry, Side as TlsSide};
use crate::ocsp::standing::Standings;
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
    held: Held,
    sessions: Arc<Sessions<ClientUnit>>,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
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
    /// `hosts_require_status` matched: a good proof, or a revocation list that does not name the certificate.
    pub require_status: bool,
    /// Where lists are asked for that certificates name; none: nowhere.
    pub registry: Option<&'a Registry>,
    /// `tls_resumption_hosts` matched: a former session with the same host and requirements may be gone on with.
    pub resume: bool,
    /// When to give up the handshake. The stream keeps it until another is set.
    pub deadline: Option<Instant>,
    /// TLS from the first byte.
    pub on_connect: bool,
    /// The time.
    pub now: SystemTime,
    /// Takes notices.
    pub notify: Notify<'a>,
    /// What is asked of the session besides.
    pub terms: ClientTerms,
}

/// Why there is no TLS, in Exim's words: what follows `TLS session: `. The host is deferred with errno -37.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A file is unusable.
    #[error("{0}")]
    Unit(Arc<UnitError>),
    /// `tls_require_ciphers` is wrong.
    #[error("{0}")]
    Priority(#[from] PriorityError),
    /// `tls_alpn` is wrong.
    #[error("(gnutls_alpn_set_protocols): {0}")]
    Protocols(gnutls::Error),
    /// The server agreed on no protocol name, which it has to.
    #[error("(handshake): ALPN required but not negotiated")]
    NoProtocol,
    /// The session could not be made.
    #[error("(gnutls_init): {0}")]
    Session(gnutls::Error),
    /// The handshake failed.
    #[error("(gnutls_handshake): {}", alert_or_text(.0))]
    Handshake(SessionError),
    /// `tls_sni` is no name that can be sent.
    #[error("(gnutls_server_name_set): {0}")]
    ServerName(gnutls::Error),
    /// The certificate is not good.
    #[error("(certificate verification failed): {0}")]
    Certificate(&'static str),
    /// No TLSA record is of the certificate, or what one is of is not good.
    #[error("(certificate verification failed): {0}")]
    Dane(Refusal),
    /// The certificate is good, but for another host.
    #[error("(certificate verification failed)")]
    HostName,
    /// A good proof was required. The reason was told as a notice.
    #[error("(certificate status check failed)")]
    Status,
    /// A status was required, and is not known yet: the list is asked for.
    #[error("(certificate status check failed): {0}")]
    StatusUnknown(String),
}

impl ClientError {
    /// The server's certificate or its status is not good enough.
    pub fn is_of_the_certificate(&self) -> bool {
        matches!(
            self,
            Self::Certificate(_) | Self::Dane(_) | Self::HostName | Self::Status | Self::StatusUnknown(_)
        )
    }
}

/// Loaded files.
struct ClientUnit {
    credentials: Arc<Credentials>,
    lists: Option<Lists>,
}

impl ClientRequest<'_> {
    /// The ClientHello has status_request.
    pub(super) fn asks_for_staple(&self) -> bool {
        super::OCSP && (self.request_ocsp || self.require_ocsp || self.require_status)
    }
}

impl ClientTls {
    /// Nothing loaded yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How it stands with the revocation lists of its files, and which files cannot be used.
    pub fn standings(&self, now: SystemTime) -> Standings {
        let units = self.units.values();
        let lists = units.iter().filter_map(|unit| unit.lists.as_ref());
        let of_files = lists.clone().flat_map(|lists| lists.standings(TlsSide::Client, now)).collect();
        let mut all = Standings { lists: of_files, ..Standings::default() };
        all.add_unusable(lists.flat_map(|lists| lists.unusable(TlsSide::Client)));
        all.add_unusable(self.units.failures().iter().map(|error| error.unusable(TlsSide::Client, false)));
        all
    }

    /// Shakes hands. `socket` must have no byte left in any buffer of the caller. On an error the connection is
    /// closed; nothing was sent over it in clear after STARTTLS.
    pub fn connect(
        &self,
        socket: TcpStream,
        request: &ClientRequest<'_>,
    ) -> Result<(TlsStream, TlsInfo), ClientError> {
        let load = |files: &mut Files, before: Option<&Arc<ClientUnit>>| {
            load_unit(request, files, before).inspect_err(|error| {
                error.notice().map(request.notify);
            })
        };
        let unit = self.units.get(request.settings, Instant::now(), load).map_err(ClientError::Unit)?;
        let priority = self.priorities.get(request.ciphers)?;
        let request_status = request.asks_for_staple();
        let side = Side::Client { request_status };
        let mut session = Session::new(side, socket, Arc::clone(&unit.credentials), priority)
            .map_err(ClientError::Session)?;
        session.set_deadline(request.deadline);
        if let Some(name) = request.sni {
            session.set_server_name(name).map_err(ClientError::ServerName)?;
        }
        let purpose = session.socket().peer_addr().ok().filter(|_| request.resume);
        let purpose = purpose.map(|host| Purpose::of(host, request));
        let former = purpose.as_ref().and_then(|purpose| self.sessions.take(purpose, &unit, request.now));
        if purpose.is_some() {
            ask_for_ticket(&mut session).map_err(ClientError::Session)?;
        }
        if let Some(former) = &former {
            // Data that is not taken only costs a whole handshake.
            let _ = go_on_with(&mut session, &former.data);
        }
        if request_status {
            ocsp::request_staple(&mut session).map_err(ClientError::Session)?;
        }
        set_terms(&mut session, &request.terms)?;
        session.handshake(None).map_err(ClientError::Handshake)?;
        if request.terms.require_protocol && super::ALPN && session.protocol().is_none() {
            session.refuse_protocol();
            return Err(ClientError::NoProtocol);
        }
        let asked = Asked { held: &self.held, registry: request.registry };
        let verdict = judge(&session, &unit.credentials, unit.lists.as_ref(), &asked, request);
        verdict.notices(request).into_iter().for_each(request.notify);
        if let Err(error) = enforce(&verdict, request) {
            session.refuse_certificate();
            return Err(error);
        }
        let sni = request.sni.map(Value::clean);
        let mut info = info::describe(&session, sni, request.on_connect);
        info.ocsp = verdict.ocsp;
        info.dane = verdict.is_by_dane();
        info.certificate_verified =
            info.dane || request.verify != Verify::No && verdict.certificate_is_good();
        info.tlsa_usage = request.terms.dane.as_ref().map_or(0, Dane::usages);
        info.tickets = if purpose.is_some() { 2 } else { 0 } | if former.is_some() { 4 } else { 0 };
        let mut stream = TlsStream::new(session);
        let good = request.verify == Verify::No || verdict.certificate_is_good();
        if let Some(purpose) = purpose.filter(|_| good) {
            let (sessions, made) = (Arc::clone(&self.sessions), request.now);
            // Going on does not put off the end. Under TLS 1.2 the former session may be gone on with again.
            let former = former.filter(|_| info.resumed);
            let until = verdict.until.into_iter().chain(former.as_ref().map(|former| former.until)).min();
            let again = former.map(|former| former.data).filter(|_| info.version != "TLS1.3");
            stream.at_end(Box::new(move |session| {
                if let Some(data) = data(session).or(again) {
                    sessions.put(purpose, &unit, data, made, until);
                }
            }));
        }
        Ok((stream, info))
    }
}

/// Of an alert a client's line has the name alone, as with Exim.
fn alert_or_text(error: &SessionError) -> String {
    match error {
        SessionError::Alert(name) => (*name).to_owned(),
        other => handshake_text(other),
    }
}

fn set_terms(session: &mut Session, terms: &ClientTerms) -> Result<(), ClientError> {
    if terms.compatible {
        session.be_compatible();
    }
    if terms.dh_min_bits > 0 {
        session.require_prime_bits(terms.dh_min_bits);
    }
    session.offer_protocols(&terms.protocols).map_err(ClientError::Protocols)
}

fn load_unit(
    request: &ClientRequest<'_>,
    files: &mut Files,
    before: Option<&Arc<ClientUnit>>,
) -> Result<Arc<ClientUnit>, UnitError> {
    let settings = request.settings;
    let mut builder = CredentialsBuilder::new()?;
    if let Some(certificate) = &settings.certificate {
        let key = settings.private_key.as_ref().unwrap_or(certificate);
        load_files(certificate.as_bstr(), key.as_bstr(), files, &mut builder)?;
    }
    if let Some(place) = &settings.verify_certificates {
        load_trust(place.as_bstr(), true, files, &mut builder)?;
    }
    let place = settings.crl.as_ref().map(|place| place.as_bstr());
    let before = before.and_then(|before| before.lists.as_ref());
    let lists = place.map(|place| Lists::load(place, files, before, request.notify)).transpose()?;
    Ok(Arc::new(ClientUnit { credentials: Arc::new(builder.share()), lists }))
}
