//! TLS for sessions: the options of the main section, expanded for this peer and the server name it asks
//! for, given to [`ServerTls`].

use super::stream::{TlsAcceptor, TlsHandshake, TlsSession, Transport};
use crate::expand::{Context, ExpandError, expand};
use crate::log::{Log, Which};
use crate::mail::envelope::TlsInfo;
use crate::matching::{self, HostSubject, Match, MatchError};
use crate::ocsp::registry::Registry;
use crate::ocsp::standing::Standings;
use crate::syntax::Template;
use crate::text::Value;
use crate::tls::gnutls::session::ClientCertificate;
use crate::tls::server::Prepared;
use crate::tls::{
    Accept, Audience, ExpandFailure, Making, Notice, Notify, ServerError, ServerTerms, ServerTls, TlsStream,
    refers_to_sni,
};
use bstr::{BString, ByteSlice};
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// The TLS of one configuration.
pub struct Acceptor {
    tls: Arc<ServerTls>,
}

impl Acceptor {
    /// For a configuration; nothing is loaded before the first handshake or [`TlsAcceptor::preload`].
    /// With a registry the proofs of what is shown are fetched.
    pub fn new(main: &crate::config::Options, registry: Option<Registry>) -> Self {
        let written =
            main.text("tls_certificate").map(|template| template.text().to_owned()).unwrap_or_default();
        let tls = ServerTls::new(refers_to_sni(&written));
        let tls = match registry {
            Some(registry) => tls.with_registry(registry),
            None => tls,
        };
        Self { tls: Arc::new(tls) }
    }

    /// What is wrong with the files of a constant certificate, for the check of a configuration (row S11: a promise
    /// of a staple that cannot be kept). Nothing is said of files that the caller may not read.
    pub fn warnings(&self, context: &Context) -> Vec<BString> {
        let texts = RefCell::new(Vec::new());
        if context.globals.main.plain("tls_certificate").is_none_or(|written| written.is_empty()) {
            return Vec::new();
        }
        let denied =
            self.load_constant(context, Making::Nothing, &|notice| texts.borrow_mut().push(notice.text));
        if denied.is_some_and(|error| error.is_denied()) { Vec::new() } else { texts.into_inner() }
    }

    /// What does not depend on the peer; none if something does.
    fn constant<'h>(&self, context: &Context<'h>, making: Making) -> Option<Handshake<'h>> {
        let main = &context.globals.main;
        let names = UNIT_OPTIONS.iter().filter(|name| crate::tls::OCSP || !name.starts_with("tls_ocsp_"));
        let mut written = names.filter_map(|name| main.text(name));
        written.all(Template::is_literal).then(|| Handshake {
            tls: Arc::clone(&self.tls),
            client_certificate: ClientCertificate::Ignored,
            terms: dh_terms(context, making),
            on_connect: false,
            resume: false,
            context: context.clone(),
            prepared: None,
        })
    }

    /// Loads it, and tells what is wrong with it.
    fn load_constant(&self, context: &Context, making: Making, notify: Notify<'_>) -> Option<ServerError> {
        let handshake = self.constant(context, making)?;
        let error = handshake.with_accept(None, notify, |accept| self.tls.prepare(accept)).err()?;
        if !error.was_told() {
            notify(Notice::main(format!("TLS cannot be offered: {error}")));
        }
        Some(error)
    }
}

/// The options that make what the server shows. Where they are constant it is known before anybody connects.
const UNIT_OPTIONS: [&str; 8] = [
    "tls_certificate",
    "tls_privatekey",
    "tls_ocsp_file",
    "tls_ocsp_responder",
    "tls_verify_certificates",
    "tls_crl",
    "tls_dhparam",
    "tls_require_ciphers",
];

impl TlsAcceptor for Acceptor {
    fn prepare<'h>(
        &self,
        context: &Context<'h>,
        on_connect: bool,
    ) -> Result<Box<dyn TlsHandshake + 'h>, String> {
        let handshake = Handshake {
            tls: Arc::clone(&self.tls),
            client_certificate: wish(context)?,
            terms: terms(context)?,
            on_connect,
            resume: is_favoured(context, "tls_resumption_hosts")?,
            context: context.clone(),
            prepared: None,
        };
        let prepared = handshake.with_log(None, |accept| self.tls.prepare(accept));
        let prepared = prepared.map_err(|error| {
            // An option that fails to expand is the administrator's to mend: it is told where he looks first.
            let ServerError::Option(option) = &error else { return error.to_string() };
            context.globals.log.panic(option.to_string().as_bytes().as_bstr());
            "Internal error".to_owned()
        })?;
        Ok(Box::new(Handshake { prepared: Some(prepared), ..handshake }))
    }

    fn register(&self, context: &Context) {
        if let Some(handshake) = self.constant(context, making(context)) {
            // What fails here fails again when it is told.
            let _ = handshake.with_log(None, |accept| self.tls.load(accept));
        }
    }

    fn preload(&self, context: &Context) {
        // what is wrong is told
        let _ = self.load_constant(context, making(context), &|notice| write(&context.globals.log, &notice));
    }

    fn standings(&self, now: SystemTime) -> Standings {
        self.tls.standings(now)
    }
}

/// Is the peer asked for a certificate, and must it be good?
fn wish(context: &Context) -> Result<ClientCertificate, String> {
    if is_listed(context, "tls_verify_hosts")? {
        Ok(ClientCertificate::Required)
    } else if is_favoured(context, "tls_try_verify_hosts")? {
        Ok(ClientCertificate::Requested)
    } else {
        Ok(ClientCertificate::Ignored)
    }
}

/// What else is asked of this peer's session.
fn terms(context: &Context) -> Result<ServerTerms, String> {
    let main = &context.globals.main;
    Ok(ServerTerms {
        require_protocol: is_listed(context, "hosts_require_alpn")?,
        early_start: is_favoured(context, "tls_early_banner_hosts")?,
        compatible: main.bool("gnutls_compat_mode"),
        ..dh_terms(context, making(context))
    })
}

/// The part of the terms that makes what is loaded.
fn dh_terms(context: &Context, making: Making) -> ServerTerms {
    let main = &context.globals.main;
    let directory = main.plain("spool_directory").unwrap_or_default();
    ServerTerms {
        dh_max_bits: u32::try_from(main.int("tls_dh_max_bits")).unwrap_or(0),
        spool_directory: Some(directory.to_path_lossy().into_owned()),
        making,
        ..ServerTerms::default()
    }
}

/// A file whose name may come from an expansion is not made.
fn making(context: &Context) -> Making {
    let written = context.globals.main.text("tls_dhparam");
    if written.is_none_or(Template::is_literal) { Making::Anywhere } else { Making::InSpool }
}

/// Is the peer in this host list?
fn is_listed(context: &Context, option: &'static str) -> Result<bool, String> {
    is_known_to_be_listed(context, option)?.ok_or_else(|| format!("{option} cannot be expanded"))
}

/// The same of a list whose answer no safety depends on: if it cannot be expanded, nobody is in it.
fn is_favoured(context: &Context, option: &'static str) -> Result<bool, String> {
    Ok(is_known_to_be_listed(context, option)?.unwrap_or(false))
}

/// None: the list cannot be expanded, and the panic log has been told.
fn is_known_to_be_listed(context: &Context, option: &'static str) -> Result<Option<bool>, String> {
    let origin = &context.session.origin;
    let subject = HostSubject { address: origin.host.map(|host| host.ip()), name: origin.host_name.clone() };
    match context.globals.main.text(option) {
        None => Ok(Some(false)),
        Some(list) => match matching::host(context, &subject, list) {
            Ok(found) => Ok(Some(found != Match::No)),
            Err(MatchError::Unexpanded) => Ok(None),
            Err(error) => Err(format!("failed to check {option}: {error}")),
        },
    }
}

struct Handshake<'h> {
    tls: Arc<ServerTls>,
    context: Context<'h>,
    client_certificate: ClientCertificate,
    terms: ServerTerms,
    on_connect: bool,
    resume: bool,
    prepared: Option<Prepared>,
}

impl Handshake<'_> {
    fn with_log<T>(&self, deadline: Option<Instant>, act: impl FnOnce(&Accept<'_>) -> T) -> T {
        self.with_accept(deadline, &|notice| write(&self.context.globals.log, &notice), act)
    }

    fn with_accept<T>(
        &self,
        deadline: Option<Instant>,
        notify: Notify<'_>,
        act: impl FnOnce(&Accept<'_>) -> T,
    ) -> T {
        let session = &self.context.session;
        let own_name = match session.smtp_active_hostname.is_empty() {
            true => &self.context.globals.primary_hostname,
            false => &session.smtp_active_hostname,
        };
        act(&Accept {
            expand: &|option, sni| expand_for(&self.context, option, sni),
            notify,
            client_certificate: self.client_certificate,
            resume: self.resume,
            deadline,
            on_connect: self.on_connect,
            own_name,
            now: SystemTime::now(),
            terms: self.terms.clone(),
        })
    }
}

impl TlsHandshake for Handshake<'_> {
    fn run(mut self: Box<Self>, stream: TcpStream, time: Duration) -> Result<TlsSession, String> {
        let prepared = self.prepared.take().ok_or("TLS was not prepared")?;
        let deadline = Some(Instant::now() + time);
        self.with_log(deadline, |accept| self.tls.accept(prepared, stream, accept))
            .map(|(stream, info)| TlsSession { transport: Box::new(stream), info })
            .map_err(|error| error.to_string())
    }
}

/// Expands a TLS option; with a server name, `$tls_in_sni` is that (and tainted).
fn expand_for(
    context: &Context,
    option: &'static str,
    sni: Option<&[u8]>,
) -> Result<Option<BString>, ExpandFailure> {
    let Some(template) = context.globals.main.text(option) else { return Ok(None) };
    let value = match sni {
        None => expand(template, context),
        Some(name) => {
            let mut named = context.clone();
            let tls = named.session.origin.tls.get_or_insert_with(TlsInfo::default);
            tls.sni = Some(Value::tainted(name));
            expand(template, &named)
        }
    };
    match value {
        // A path may hold `$tls_in_sni`, as with Exim: the name that comes here has only letters, digits,
        // hyphens, underscores and single dots (row S2), so it names no other directory.
        Ok(value) => Ok(Some(value.into_bytes())),
        Err(ExpandError::Forced(_)) => Err(ExpandFailure::Forced),
        Err(ExpandError::Defer(text) | ExpandError::Failed(text)) => Err(ExpandFailure::Failed(text)),
    }
}

fn write(log: &Log, notice: &Notice) {
    match notice.audience {
        Audience::Main => log.write(Which::Main, notice.text.as_bstr()),
        Audience::Panic => log.panic(notice.text.as_bstr()),
        Audience::Debug => ::log::debug!(target: "tls", "{}", notice.text),
    }
}

impl Transport for TlsStream {
    fn read(&mut self, buffer: &mut [u8], time: Duration) -> io::Result<usize> {
        self.set_deadline(Some(Instant::now() + time));
        Read::read(self, buffer)
    }

    fn write_all(&mut self, bytes: &[u8], time: Duration) -> io::Result<()> {
        self.set_deadline(Some(Instant::now() + time));
        Write::write_all(self, bytes)
    }

    fn wait_input(&mut self, time: Duration) -> io::Result<bool> {
        if self.pending() > 0 {
            return Ok(true);
        }
        super::stream::wait_for(self.socket().as_fd(), nix::poll::PollFlags::POLLIN, time)
    }

    fn close(&mut self) {
        // The peer may be gone; then nobody misses the close_notify.
        let _ = self.shutdown();
    }
}
