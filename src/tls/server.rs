//! The server's side: which unit is shown, the handshake, and what came of it.
//!
//! [`ServerTls::prepare`] comes before `220 TLS go ahead`, so that a certificate that cannot be loaded is
//! answered by `454 TLS currently unavailable`; [`ServerTls::accept`] after it. If `tls_certificate` depends on the
//! server name, all options of the unit are expanded again between ClientHello and ServerHello (row S2).

use super::cache::{FileCache, Files, Watch};
use super::gnutls;
use super::gnutls::priority::{Priority, PriorityError};
use super::gnutls::resumption::offer_tickets;
use super::gnutls::session::{
    ChainStatus, ClientCertificate, ClientHello, Refusal, Session, SessionError, Side,
};
use super::info;
use super::notice::{Notice, Notify};
use super::priorities::Priorities;
use super::resume::TicketKeys;
use super::revocation::{trusted_issuer, way};
use super::settings::{Expand, OptionError, UnitSettings, safe_server_name, value};
use super::stream::TlsStream;
use super::terms::ServerTerms;
use super::unit::{Offer, Unit, UnitError};
use crate::mail::envelope::{OcspState, TlsInfo};
use crate::ocsp::registry::{Registry, Side as TlsSide};
use crate::ocsp::standing::{CertificateStanding, ListStanding, Standings};
use crate::text::quote::printable;
use crate::text::{Value, list};
use bstr::{BString, ByteSlice};
use std::collections::HashSet;
use std::io;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The TLS of all servers of one configuration; shared by their threads.
pub struct ServerTls {
    units: FileCache<UnitSettings, Unit, UnitError>,
    priorities: Priorities,
    depends_on_sni: bool,
    ticket_keys: TicketKeys,
    /// Where what is shown is looked after; none: nothing is fetched.
    registry: Option<Registry>,
    news: Arc<News>,
}

/// What the thread that watches the files has to say. It waits for somebody who can write it down.
#[derive(Default)]
struct News(Mutex<Vec<Notice>>);

/// Most lines that wait: one for each unit that may be loaded.
const MAX_NEWS: usize = 1024;

/// A client that lets this much time pass before its ClientHello is offered what there is then: a proof may have ended.
const LATE: Duration = Duration::from_secs(1);

/// One connection's circumstances.
pub struct Accept<'a> {
    /// Expands `tls_certificate`, `tls_privatekey`, `tls_verify_certificates`, `tls_crl`, `tls_ocsp_file`,
    /// `tls_ocsp_responder`, `tls_dhparam`, `tls_require_ciphers` and `tls_alpn`.
    pub expand: Expand<'a>,
    /// Takes notices.
    pub notify: Notify<'a>,
    /// `tls_try_verify_hosts` matched: `Requested`; `tls_verify_hosts` matched: `Required`.
    pub client_certificate: ClientCertificate,
    /// `tls_resumption_hosts` matched: tickets are given out and taken.
    pub resume: bool,
    /// When to give up the handshake. The stream keeps it until another is set.
    pub deadline: Option<Instant>,
    /// TLS from the first byte.
    pub on_connect: bool,
    /// `$smtp_active_hostname`, for a self-signed certificate.
    pub own_name: &'a [u8],
    /// The time.
    pub now: SystemTime,
    /// What is asked of the session besides.
    pub terms: ServerTerms,
}

/// All that a handshake needs, loaded.
pub struct Prepared {
    unit: Arc<Unit>,
    priority: Arc<Priority>,
    /// `tls_alpn`
    protocols: Vec<BString>,
}

/// What the server name has led to.
struct Chosen {
    unit: Arc<Unit>,
    /// Certificates whose proofs are in the unit's credentials.
    loaded: Vec<Arc<[u8]>>,
}

/// Why there is no TLS, in Exim's words: what follows `TLS error on connection from ... `.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An option could not be expanded.
    #[error("{0}")]
    Option(#[from] OptionError),
    /// A file is unusable.
    #[error("{0}")]
    Unit(Arc<UnitError>),
    /// `tls_require_ciphers` is wrong.
    #[error("{0}")]
    Priority(#[from] PriorityError),
    /// `tls_alpn` is wrong.
    #[error("(gnutls_alpn_set_protocols): {0}")]
    Protocols(gnutls::Error),
    /// The client offered no protocol name of ours, which it has to.
    #[error("(handshake): ALPN required but not negotiated")]
    NoProtocol,
    /// The session could not be made.
    #[error("(gnutls_init): {0}")]
    Session(gnutls::Error),
    /// The handshake failed.
    #[error("(gnutls_handshake): {}", handshake_text(.0))]
    Handshake(SessionError),
    /// The client's certificate was required, and is not good.
    #[error("(certificate verification failed): {0}")]
    ClientCertificate(&'static str),
}

impl ServerError {
    /// A notice named the file and the reason already.
    pub fn was_told(&self) -> bool {
        matches!(self, Self::Unit(error) if error.notice().is_some())
    }
    /// A file may not be read by this user.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Unit(error) if error.is_denied())
    }
}

impl ServerTls {
    /// For a configuration whose `tls_certificate` is written so; see [`super::refers_to_sni`].
    pub fn new(depends_on_sni: bool) -> Self {
        Self::with(depends_on_sni, None)
    }

    /// The same, with proofs that are fetched for every certificate that is shown (`tls_ocsp_fetch`).
    pub fn with_registry(self, registry: Registry) -> Self {
        Self::with(self.depends_on_sni, Some(registry))
    }

    fn with(depends_on_sni: bool, registry: Option<Registry>) -> Self {
        let news = Arc::<News>::default();
        let (tell, looked_after) = (Arc::clone(&news), registry.clone());
        let reload = move |settings: &UnitSettings, files: &mut Files, before: &Arc<Unit>| {
            let (now, notify) = (SystemTime::now(), |notice| tell.add(notice));
            let unit = Unit::load(settings, files, Some(before), looked_after.as_ref(), now, &notify)?;
            unit.offer(now, &notify);
            Ok(unit)
        };
        let outdated = |unit: &Unit| unit.is_outdated(SystemTime::now());
        let units = FileCache::watched(Watch { reload: Box::new(reload), outdated: Box::new(outdated) });
        Self {
            units,
            priorities: Priorities::default(),
            depends_on_sni,
            ticket_keys: TicketKeys::default(),
            registry,
            news,
        }
    }

    /// Loads what is shown without a server name, so that it is looked after; does not judge its proof.
    pub fn load(&self, accept: &Accept<'_>) -> Result<(), ServerError> {
        self.unit(accept, None).map(drop)
    }

    /// How it stands with every certificate that was shown or loaded, and with those that are looked after besides, each
    /// with each of its files once; and with every revocation list. In the order of their names.
    pub fn standings(&self, now: SystemTime) -> Standings {
        let units = self.units.values();
        let entries = self.registry.as_ref().map(Registry::lists).unwrap_or_default();
        let filed = units
            .iter()
            .filter_map(|unit| unit.lists.as_ref())
            .flat_map(|lists| lists.standings(TlsSide::Server, now));
        let lists = filed.chain(entries.iter().map(|entry| ListStanding::of_entry(entry, now))).collect();
        let certificates = self.certificates(&units, now);
        let mut all = Standings { certificates, lists, ..Standings::default() };
        all.add_unusable(units.iter().flat_map(|unit| unit.unusable()));
        all.add_unusable(self.units.failures().iter().map(|error| error.unusable(TlsSide::Server, false)));
        all.ordered()
    }

    fn certificates(&self, units: &[Arc<Unit>], now: SystemTime) -> Vec<CertificateStanding> {
        let mut all: Vec<_> = units.iter().flat_map(|unit| unit.standings(now)).collect();
        let shown: HashSet<(String, String)> =
            all.iter().map(|one| (one.certificate.issuer.clone(), one.certificate.serial.clone())).collect();
        let entries = self.registry.as_ref().map(Registry::entries).unwrap_or_default();
        let besides = entries.iter().filter_map(|entry| CertificateStanding::of_entry(entry, now).ok());
        all.extend(besides.filter(|one| {
            !shown.contains(&(one.certificate.issuer.clone(), one.certificate.serial.clone()))
        }));
        all
    }

    /// Loads what the handshake will need, without a server name; also the check of the configuration.
    pub fn prepare(&self, accept: &Accept<'_>) -> Result<Prepared, ServerError> {
        let unit = self.unit(accept, None)?;
        unit.await_proofs(accept.now, accept.deadline);
        // Says what is wrong with the proofs, even if nobody asks for them.
        unit.offer(accept.now, accept.notify);
        let ciphers = value(accept.expand, "tls_require_ciphers", None)?;
        let priority = self.priorities.get(ciphers.as_ref().map(|text| text.as_slice()))?;
        let protocols = value(accept.expand, "tls_alpn", None)?.unwrap_or_default();
        let protocols = protocol_names(&protocols);
        Ok(Prepared { unit, priority, protocols })
    }

    /// Shakes hands. `socket` must have no byte left in any buffer of the caller: whatever the client sent
    /// after STARTTLS in the same packet was thrown away or refused before.
    pub fn accept(
        &self,
        prepared: Prepared,
        socket: TcpStream,
        accept: &Accept<'_>,
    ) -> Result<(TlsStream, TlsInfo), ServerError> {
        let Prepared { unit, priority, protocols } = prepared;
        let Offer { credentials, staples, loaded } = unit.offer(accept.now, accept.notify);
        let mut session =
            Session::new(side(accept), socket, credentials, priority).map_err(ServerError::Session)?;
        session.set_deadline(accept.deadline);
        session.set_staples(staples);
        match self.shake_hands(&mut session, Chosen { unit, loaded }, &protocols, accept) {
            Ok(info) => Ok((TlsStream::new(session), info)),
            Err(error) => {
                session.part();
                Err(error)
            }
        }
    }

    fn shake_hands(
        &self,
        session: &mut Session,
        mut chosen: Chosen,
        protocols: &[BString],
        accept: &Accept<'_>,
    ) -> Result<TlsInfo, ServerError> {
        if accept.resume {
            let key = self.ticket_keys.get(accept.client_certificate, Instant::now());
            let offered = key.and_then(|key| offer_tickets(session, &key));
            offered.map_err(ServerError::Session)?;
        }
        session.ask_certificate(accept.client_certificate);
        session.accept_protocols(protocols).map_err(ServerError::Protocols)?;
        if accept.terms.compatible {
            session.be_compatible();
        }
        let mut failure = None;
        let (unit, begun) = (Arc::clone(&chosen.unit), Instant::now());
        let mut hook = |hello: &ClientHello<'_>| match self.choose(hello, &unit, accept, begun.elapsed()) {
            Ok(None) => Ok(()),
            Ok(Some(other)) => {
                chosen = other;
                Ok(())
            }
            Err(error) => {
                failure = Some(error);
                Err(Refusal)
            }
        };
        let result = session.handshake(Some(&mut hook));
        if let Some(error) = failure {
            return Err(error);
        }
        // One name that is not ours says all in GnuTLS's words; of several it would not say which.
        if let Some(names) = session.refused_protocols().filter(|names| names.len() > 1) {
            let names: Vec<BString> = names.iter().map(|name| printable(name, true)).collect();
            (accept.notify)(Notice::main(format!(
                "TLS ALPN ({}) rejected",
                bstr::join(":", names).as_bstr()
            )));
        }
        result.map_err(ServerError::Handshake)?;
        if accept.terms.require_protocol && super::ALPN && session.protocol().is_none() {
            session.refuse_protocol();
            return Err(ServerError::NoProtocol);
        }
        let sni = session.server_name().and_then(|name| safe_server_name(&name)).map(Value::tainted);
        let mut info = info::describe(session, sni, accept.on_connect);
        let by_credentials = chosen.loaded.iter().any(|leaf| **leaf == *info.our_certificate);
        info.ocsp =
            status(session.status_was_asked(), !info.resumed && (session.was_stapled() || by_credentials));
        info.tickets = tickets(session, accept.resume);
        info.certificate_verified = check_client(session, &chosen.unit, accept, &info)?;
        Ok(info)
    }

    /// After the ClientHello, which came so long after `accept.now`: another unit, if the client named a server; or what
    /// the same one has to offer now, if the client took its time. Tells for which certificates it has proofs loaded.
    fn choose(
        &self,
        hello: &ClientHello<'_>,
        before: &Arc<Unit>,
        accept: &Accept<'_>,
        late: Duration,
    ) -> Result<Option<Chosen>, ServerError> {
        let name = hello.server_name().filter(|_| self.depends_on_sni);
        let unit = match name.and_then(|sent| safe_server_name(&sent)) {
            Some(name) => self.unit(accept, Some(&name))?,
            None if late < LATE => return Ok(None),
            None => Arc::clone(before),
        };
        let now = accept.now + late;
        unit.await_proofs(now, accept.deadline);
        let Offer { credentials, staples, loaded } = unit.offer(now, accept.notify);
        hello.show(&credentials, staples).map_err(ServerError::Session)?;
        hello.ask_certificate(accept.client_certificate);
        Ok(Some(Chosen { unit, loaded }))
    }

    fn unit(&self, accept: &Accept<'_>, sni: Option<&BString>) -> Result<Arc<Unit>, ServerError> {
        self.news.take().into_iter().for_each(accept.notify);
        let asks = accept.client_certificate != ClientCertificate::Ignored;
        let sni = sni.map(|name| name.as_slice());
        let settings = UnitSettings::expand(accept.expand, sni, asks, accept.own_name, &accept.terms)?;
        let load = |files: &mut Files, before: Option<&Arc<Unit>>| {
            Unit::load(&settings, files, before, self.registry.as_ref(), accept.now, accept.notify)
        };
        self.units.get(&settings, Instant::now(), load).map_err(ServerError::Unit)
    }
}

impl News {
    fn add(&self, notice: Notice) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MAX_NEWS {
            waiting.push(notice);
        }
    }

    fn take(&self) -> Vec<Notice> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A client whose certificate matters has to finish the handshake first.
fn side(accept: &Accept<'_>) -> Side {
    let early = accept.terms.early_start
        && accept.on_connect
        && accept.client_certificate == ClientCertificate::Ignored;
    if early { Side::EarlyServer } else { Side::Server }
}

/// The names in a value of `tls_alpn`.
pub fn protocol_names(text: &[u8]) -> Vec<BString> {
    list::items(text).filter(|name| !name.is_empty()).collect()
}

/// The bits of `$tls_in_resumption` that are no other field's.
fn tickets(session: &Session, given: bool) -> u8 {
    let (asked, offered) = session.ticket_wishes();
    (if asked && given { 2 } else { 0 }) | if offered { 4 } else { 0 } | if given { 8 } else { 0 }
}

/// `$tls_in_ocsp`. What is stapled was verified before, so there is nothing between 1 and 4.
fn status(asked: bool, stapled: bool) -> OcspState {
    match (asked, stapled) {
        (false, _) => OcspState::NotRequested,
        (true, false) => OcspState::NoResponse,
        (true, true) => OcspState::Verified,
    }
}

fn check_client(
    session: &mut Session,
    unit: &Unit,
    accept: &Accept<'_>,
    info: &TlsInfo,
) -> Result<bool, ServerError> {
    let wish = accept.client_certificate;
    if wish == ClientCertificate::Required && info.peer_certificate.is_empty() {
        // Only a session that is gone on with could come here without one.
        return Err(ServerError::ClientCertificate("certificate invalid"));
    }
    if wish == ClientCertificate::Ignored || info.peer_certificate.is_empty() {
        return Ok(false);
    }
    // Nobody staples for a client; a status word other than 0 is bad.
    let status = session.verify_peer().unwrap_or(ChainStatus::UNVERIFIABLE);
    let mut revoked = status.is_revoked();
    let mut good = status.is_good();
    if let Some(lists) = &unit.lists {
        let way = way(&session.peer_certificates(), |one| trusted_issuer(&unit.credentials, one));
        let said = lists.words(&way, accept.now);
        good &= !said.revoked && said.unfit.is_none();
        revoked |= said.revoked;
        if let Some(unfit) = said.unfit {
            let text = format!("client certificate not verified: its issuer's list in tls_crl: {unfit}");
            (accept.notify)(Notice::main(text));
        }
    }
    if !good && wish == ClientCertificate::Required {
        session.refuse_certificate();
        let word = if revoked { "certificate revoked" } else { "certificate invalid" };
        return Err(ServerError::ClientCertificate(word));
    }
    Ok(good)
}

/// Exim says `timed out` where the deadline passed.
pub(super) fn handshake_text(error: &SessionError) -> String {
    match error {
        SessionError::Connection(error) if error.kind() == io::ErrorKind::TimedOut => "timed out".to_owned(),
        other => other.to_string(),
    }
}
