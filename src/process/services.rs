//! What the roles do with connections and messages: the one place where processes meet sessions and deliveries.

use super::certificate_status::{CertificateStatus, Started};
use super::delivery_worker::Settings;
use super::elsewhere::{self, Elsewhere};
use super::openmetrics::Numbers;
use super::orders::Orders;
use super::peer_lists::PeerLists;
use super::reading::{self, Reading};
use super::smtp_worker::{AcceptLimits, Accepted, Sessions};
use super::snapshot::Snapshot;
use super::spool_directory;
use super::trigger::{Request, Trigger};
use crate::as_user::{AsUser, SystemUsers};
use crate::config::build_settings;
use crate::deliver::{self, Env, How, OwnMail};
use crate::dns::resolv_conf::ResolvConf;
use crate::dns::{Resolver, stub::Stub};
use crate::expand::context::{Context, Globals, NoHooks, Users};
use crate::expand::expand;
use crate::hints::Hints;
use crate::load::{self, Configuration};
use crate::log::{Echo, Which};
use crate::mail::{IdForm, IdGenerator, MessageId};
use crate::matching::{self, HostSubject};
use crate::metrics::{Counter, Counters};
use crate::ocsp::registry::Registry;
use crate::ocsp::standing::Standings;
use crate::queue::{self, Act, Run, Selection, Who};
use crate::receive::{OwnMessages, Station};
use crate::smtp_in::stream::TlsAcceptor;
use crate::smtp_in::tls_session::Acceptor;
use crate::smtp_in::{self, Connected, Server};
use crate::spool::{Layout, commit, message_log};
use crate::upward::{Announce, Submit};
use bstr::{BString, ByteSlice};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

/// Names, paths and services of a configuration, as this process sees them.
pub fn globals(reading: &Reading) -> Result<Globals, String> {
    let users: Arc<dyn Users> = Arc::new(SystemUsers);
    let main = &reading.written.main;
    let run_as = reading::run_as(main, &*users)?;
    let dns: Arc<dyn Resolver> = Arc::new(resolver(main));
    let mut globals =
        load::globals(&reading.written, run_as, dns, users).map_err(|error| reading::error_text(&error))?;
    let setting = |name: &str| reading.snapshot.setting(name);
    if setting("verbose").is_some() {
        globals.log = Arc::new(globals.log.shown_by(Echo::to_standard_error()));
    }
    // A process that delivers by itself has no link with the keeper, but can use what the keeper has stored.
    let lists = PeerLists::of(&globals.main, &globals.spool_directory).map_err(|error| error.to_string())?;
    globals.status = lists.map(|lists| lists.registry().clone());
    if let Some(time) = setting("smtp_timeout") {
        globals.main.overrule("smtp_receive_timeout", &time.to_str_lossy());
    }
    Ok(globals)
}

/// Who is asked about names. Signatures are always asked for unless `dns_dnssec_ok = 0`; a resolver's word for what it has
/// verified counts where resolv.conf has `trust-ad`.
fn resolver(main: &crate::config::Options) -> Stub {
    let stub = Stub::system(!main.bool("disable_ipv6"));
    if main.int("dns_dnssec_ok") == 0 { stub.without_signatures() } else { stub }
}

/// The meant configuration: everything compiled, or everything that is wrong with it. What is not
/// supported yet is wrong too.
pub fn configure(
    reading: &Reading,
    globals: Arc<Globals>,
    orders: Option<Arc<dyn AsUser>>,
) -> Result<Configuration, String> {
    let texts = |errors: &[crate::config::ConfigError]| {
        errors.iter().map(reading::error_text).collect::<Vec<_>>().join("\n")
    };
    let compiled = load::compile(reading.written.clone(), globals, orders);
    match compiled {
        Ok(_) if !reading.unsupported.is_empty() => Err(texts(&reading.unsupported)),
        Ok(configuration) => Ok(configuration),
        Err(mut errors) => {
            errors.retain(|error| !reading.unsupported.iter().any(|known| known.tells_the_same(error)));
            errors.splice(0..0, reading.unsupported.iter().cloned());
            Err(texts(&errors))
        }
    }
}

/// Where messages lie.
pub fn layout(globals: &Globals) -> Layout {
    Layout::new(globals.spool_directory.clone(), globals.main.bool("split_spool_directory"))
}

/// What taking in a message needs.
pub fn station(globals: &Arc<Globals>, announce: Arc<dyn Announce>) -> Station {
    let form = IdForm::of_build(build_settings::MESSAGE_IDS);
    Station {
        globals: globals.clone(),
        layout: layout(globals),
        log: globals.log.clone(),
        ids: Arc::new(IdGenerator::new(form, std::process::id())),
        announce,
    }
}

/// The login name of the user that oxim runs as; its number if it has none.
fn own_login(globals: &Globals) -> io::Result<BString> {
    let own = globals.users.by_uid(globals.oxim_uid)?;
    Ok(own.map_or_else(|| globals.oxim_uid.to_string().into(), |entry| entry.name))
}

/// What SMTP sessions need, over TCP and on standard input.
pub fn server(
    configuration: &Configuration,
    announce: Arc<dyn Announce>,
    stop: Arc<AtomicBool>,
    registry: Option<Registry>,
) -> io::Result<Server> {
    let globals = &configuration.globals;
    Ok(Server {
        station: station(globals, announce),
        acls: configuration.acls.clone(),
        verifier: configuration.routers.clone(),
        tls: Some(Arc::new(Acceptor::new(&globals.main, registry))),
        login: own_login(globals)?,
        stop,
    })
}

/// The service of the SMTP worker.
pub struct Smtp {
    configuration: Configuration,
    server: Server,
    trigger: Arc<Trigger>,
    tls_ports: Vec<u16>,
    always_tls: bool,
    queue_only: bool,
    suppress_fixups: bool,
    /// Until it is started.
    status: Option<CertificateStatus>,
}

impl Smtp {
    /// From the configuration that the master handed over.
    pub fn new(reading: &Reading, trigger: Trigger, counters: Arc<Counters>) -> io::Result<Self> {
        let globals = Arc::new(Globals { counters, ..globals(reading).map_err(io::Error::other)? });
        spool_directory::prepare(&globals).map_err(io::Error::other)?;
        let status = CertificateStatus::of(&globals).map_err(io::Error::other)?;
        // Callouts ask for the same lists as deliveries, and here there is a link.
        let of_peers = status.as_ref().and_then(CertificateStatus::of_peers);
        let globals = Arc::new(Globals { status: of_peers, ..(*globals).clone() });
        let configuration = configure(reading, globals, None).map_err(io::Error::other)?;
        let trigger = Arc::new(trigger);
        let registry = status.as_ref().and_then(CertificateStatus::of_shown);
        let server = server(&configuration, trigger.clone(), Arc::default(), registry)?;
        Ok(Self {
            status,
            tls_ports: tls_ports(&server.station.globals),
            always_tls: reading.snapshot.setting("tls_on_connect").is_some(),
            suppress_fixups: reading.snapshot.setting("suppress_fixups").is_some(),
            queue_only: reading.snapshot.setting("queue_only").is_some()
                || configuration.globals.main.bool("queue_only"),
            configuration,
            server,
            trigger,
        })
    }

    /// Removes what the worker before this one left in the spool when it died.
    pub fn sweep_spool(&self) {
        sweep_spool(&self.configuration.globals, &self.server.station.layout);
    }

    /// Begins to have the status of certificates looked after, if the configuration wants it. In the main thread, once
    /// it is confined.
    pub fn start_status(&mut self, links: Vec<OwnedFd>, control: OwnedFd) -> io::Result<Option<Started>> {
        let Some(status) = self.status.take() else { return Ok(None) };
        let (tls, globals) = (self.shown_tls(), self.server.station.globals.clone());
        let refresh = move || {
            if let Some(tls) = &tls {
                tls.register(&Context::new(globals.clone(), &NoHooks));
            }
        };
        status.start(links, control, Box::new(refresh)).map(Some)
    }

    /// TLS, where it is offered at all.
    fn shown_tls(&self) -> Option<Arc<dyn TlsAcceptor>> {
        let main = &self.server.station.globals.main;
        let offered = main.text("tls_advertise_hosts").is_some_and(|list| !list.text().is_empty());
        self.server.tls.clone().filter(|_| offered || self.always_tls || !self.tls_ports.is_empty())
    }

    /// Loads what TLS shows, where it is offered at all, and tells what is wrong with it, before anybody connects; a
    /// certificate that demands a proof has a while to get one first.
    pub fn preload_tls(&self, status: Option<&Started>) {
        let tls = self.shown_tls();
        let context = Context::new(self.server.station.globals.clone(), &NoHooks);
        if let Some(status) = status {
            tls.iter().for_each(|tls| tls.register(&context));
            status.wait_for_demanded_proofs();
        }
        tls.iter().for_each(|tls| tls.preload(&context));
    }

    /// What this process can show of itself, and of the one that delivers. (Before the status is started.)
    pub fn numbers(&self) -> Numbers {
        let (globals, layout) = (self.server.station.globals.clone(), self.server.station.layout.clone());
        let (tls, transports) = (self.server.tls.clone(), self.configuration.transports.clone());
        let (fetched, elsewhere) = (globals.status.clone(), Elsewhere::new(self.trigger.clone()));
        let listed = self.status.as_ref().map(CertificateStatus::unusable).unwrap_or_default();
        let standings = move |now| {
            let mut all = tls.as_ref().map(|tls| tls.standings(now)).unwrap_or_default();
            all.add_unusable(listed.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
            // As a client it asks whether addresses are good.
            all.join(elsewhere::of_client(&transports, fetched.as_ref(), now));
            all.join(elsewhere.standings());
            all.ordered()
        };
        Numbers::new(globals.counters.clone(), layout, Box::new(standings))
    }

    /// The configuration.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }
    /// What expansions see.
    pub fn globals(&self) -> &Globals {
        &self.configuration.globals
    }
    /// What SMTP sessions need.
    pub fn server(&self) -> &Server {
        &self.server
    }
    /// Takes messages in.
    pub fn station(&self) -> &Station {
        &self.server.station
    }

    /// The way to the delivery worker.
    pub fn trigger(&self) -> &Arc<Trigger> {
        &self.trigger
    }

    /// Set it to end the sessions.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        self.server.stop.clone()
    }

    /// `smtp_accept_max` and its kin.
    pub fn accept_limits(&self) -> AcceptLimits {
        let main = &self.server.station.globals.main;
        let number = |name: &str| u32::try_from(main.int(name)).unwrap_or(0);
        AcceptLimits {
            max: number("smtp_accept_max"),
            reserve: number("smtp_accept_reserve"),
            queue: number("smtp_accept_queue"),
        }
    }

    fn context(&self, peer: IpAddr) -> Context<'static> {
        let mut context = Context::new(self.server.station.globals.clone(), &NoHooks);
        context.session.origin.host = Some(SocketAddr::new(peer, 0));
        context
    }
}

/// `tls_on_connect_ports`, names looked up.
fn tls_ports(globals: &Globals) -> Vec<u16> {
    let written = globals.main.plain("tls_on_connect_ports").unwrap_or_default();
    crate::text::list::items(&written).filter_map(|item| super::interfaces::system_port(&item)).collect()
}

impl Sessions for Smtp {
    fn max_per_host(&self, peer: IpAddr) -> u32 {
        let globals = &self.server.station.globals;
        let Some(template) = globals.main.text("smtp_accept_max_per_host") else { return 0 };
        if template.text().is_empty() {
            return 0;
        }
        let value = expand(template, &self.context(peer)).map(|value| value.into_bytes());
        match value {
            Ok(text) if text.is_empty() => 0,
            Ok(text) => match text.to_str().ok().and_then(|text| text.trim().parse().ok()) {
                Some(number) => number,
                None => {
                    let line = format!(
                        "invalid expansion of smtp_accept_max_per_host for [{peer}] (value is {text})"
                    );
                    globals.log.panic(line.as_bytes().as_bstr());
                    0
                }
            },
            Err(error) => {
                let line = format!("expansion of smtp_accept_max_per_host failed for [{peer}]: {error}");
                globals.log.panic(line.as_bytes().as_bstr());
                0
            }
        }
    }

    fn is_reserved(&self, peer: IpAddr) -> bool {
        let Some(list) = self.server.station.globals.main.text("smtp_reserve_hosts") else { return false };
        let host = HostSubject { address: Some(peer), name: None };
        matching::host(&self.context(peer), &host, list).is_ok_and(|answer| answer.is_yes())
    }

    fn host_name(&self, _: IpAddr) -> BString {
        self.server.station.globals.primary_hostname.clone()
    }

    fn serve(&self, accepted: Accepted) {
        self.server.station.globals.counters.count(Counter::ConnectionsServed);
        if self.server.station.globals.main.bool("smtp_accept_keepalive") {
            // A peer that is gone already shows at the first read.
            let _ = crate::sys::listen::keep_alive(&accepted.stream);
        }
        let _ = accepted.stream.set_nodelay(self.server.station.globals.main.bool("tcp_nodelay"));
        let how = Connected {
            peer: accepted.peer,
            local: accepted.local,
            count: accepted.count,
            tls_on_connect: self.always_tls || self.tls_ports.contains(&accepted.local.port()),
            queue_only: accepted.queue_only || self.queue_only,
            suppress_fixups: self.suppress_fixups,
        };
        smtp_in::serve(&self.server, accepted.stream, how);
    }

    fn log_refused(&self, line: BString) {
        self.server.station.globals.counters.count(Counter::ConnectionsRefused);
        self.server.station.log.write(Which::Main, line.as_bstr());
    }

    fn log_panic(&self, text: &str) {
        let line = format!("internal error in an SMTP session: {text}");
        self.server.station.log.panic(line.as_bytes().as_bstr());
    }
}

/// Takes in messages of our own making.
pub fn submitter(station: &Station) -> io::Result<OwnMessages> {
    Ok(OwnMessages::new(station.clone(), own_login(&station.globals)?))
}

/// What deliveries need.
pub fn environment(
    configuration: &Configuration,
    station: &Station,
    submit: Arc<dyn Submit>,
    as_user: Arc<dyn AsUser>,
) -> Env {
    Env {
        globals: configuration.globals.clone(),
        chain: configuration.routers.clone(),
        transports: configuration.transports.clone(),
        retry: configuration.retry.clone(),
        layout: station.layout.clone(),
        hints: Arc::new(Hints::new(&configuration.globals.spool_directory)),
        submit,
        as_user,
    }
}

fn sweep_spool(globals: &Globals, layout: &Layout) {
    let keeps_logs = globals.main.bool("preserve_message_logs");
    let swept = commit::sweep(layout).and_then(|mut removed| {
        if !keeps_logs {
            removed.append(&mut message_log::sweep(layout)?);
        }
        Ok(removed)
    });
    let words = match swept {
        Ok(removed) if removed.is_empty() => return,
        Ok(removed) => format!("removed left-over spool files: {}", removed.join(" ")),
        Err(error) => format!("spool could not be looked through for left-over files: {error}"),
    };
    globals.log.write(Which::Main, words.as_str().into());
}

/// Deliveries at once in the delivery worker: more than processors, since they wait for disks and peers.
const DELIVERIES: usize = 32;

/// The service of the delivery worker.
pub struct Delivery {
    env: Env,
    station: Station,
    run: Run,
    /// Until it is started.
    lists: Option<PeerLists>,
}

impl Delivery {
    /// From the configuration that the master handed over; orders go out over the control socket, our own messages
    /// are announced like all others.
    pub fn new(
        reading: &Reading,
        control: OwnedFd,
        announce: Trigger,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let mut globals = Globals { counters, ..globals(reading).map_err(io::Error::other)? };
        let lists = PeerLists::of(&globals.main, &globals.spool_directory)?;
        globals.status = lists.as_ref().map(|lists| lists.registry().clone());
        let globals = Arc::new(globals);
        spool_directory::prepare(&globals).map_err(io::Error::other)?;
        let orders: Arc<dyn AsUser> = Arc::new(Orders::new(control));
        let configuration =
            configure(reading, globals.clone(), Some(orders.clone())).map_err(io::Error::other)?;
        let station = station(&globals, Arc::new(announce));
        let trusts_dns = ResolvConf::system().trust_ad;
        for warning in crate::load::warnings(&reading.written, trusts_dns) {
            let line = format!("Warning: {}: {}", warning.at, warning.text);
            station.log.write(Which::Main, line.as_bytes().as_bstr());
        }
        let submit = Arc::new(submitter(&station)?);
        let run = queue_run(&reading.snapshot);
        Ok(Self { env: environment(&configuration, &station, submit, orders), station, run, lists })
    }
    /// Begins to have revocation lists fetched, if the configuration wants it; what takes up later links.
    pub fn start_lists(&mut self, links: Vec<OwnedFd>, control: OwnedFd) -> io::Result<Option<PeerLists>> {
        let Some(lists) = self.lists.take() else { return Ok(None) };
        lists.start(self.env.globals.log.clone(), links, control)?;
        Ok(Some(lists))
    }
    /// What one request delivers with: who asked with `-v` is shown what is logged.
    fn env_for(&self, echo: Option<Echo>) -> Env {
        let Some(echo) = echo else { return self.env.clone() };
        let globals = Arc::new(Globals {
            log: Arc::new(self.env.globals.log.shown_by(echo)),
            ..(*self.env.globals).clone()
        });
        let station = Station { globals: globals.clone(), log: globals.log.clone(), ..self.station.clone() };
        let submit: Arc<dyn Submit> = match submitter(&station) {
            Ok(submitter) => Arc::new(submitter),
            Err(_) => self.env.submit.clone(), // its lines are not shown, all else is
        };
        Env { globals, submit, ..self.env.clone() }
    }
    /// Removes what a crash left in the spool: files of messages that never were, or are no more.
    pub fn sweep_spool(&self) {
        sweep_spool(&self.env.globals, &self.env.layout);
    }
    /// What this process can show of itself.
    pub fn numbers(&self) -> Numbers {
        let (globals, transports) = (self.env.globals.clone(), self.env.transports.clone());
        let (counters, fetched) = (globals.counters.clone(), globals.status.clone());
        let standings = move |now| elsewhere::of_client(&transports, fetched.as_ref(), now);
        Numbers::new(counters, self.env.layout.clone(), Box::new(standings))
    }
    fn standings(&self, now: SystemTime) -> Standings {
        elsewhere::of_client(&self.env.transports, self.env.globals.status.as_ref(), now)
    }
    /// What expansions see.
    pub fn globals(&self) -> &Globals {
        &self.env.globals
    }
    /// How much at once, how often.
    pub fn settings(&self, snapshot: &Snapshot) -> Settings {
        let seconds = snapshot.setting("queue_interval").and_then(|text| text.to_str().ok()?.parse().ok());
        Settings {
            after_death: false,
            threads: DELIVERIES,
            queue_runs: usize::try_from(self.env.globals.main.int("queue_run_max")).unwrap_or(0),
            interval: seconds.map(std::time::Duration::from_secs),
        }
    }
}

/// How the daemon's queue runs are done, as its command line said.
fn queue_run(snapshot: &Snapshot) -> Run {
    let flag = |name: &str| snapshot.setting(name).is_some();
    let selection = |name: &str| {
        let regex = snapshot.setting(&format!("{name}_regex"));
        let text = regex.or_else(|| snapshot.setting(name))?;
        Some(Selection { text: text.clone(), regex: regex.is_some() })
    };
    Run {
        two_stage: flag("two_stage"),
        first_only: flag("first_only"),
        force: flag("force"),
        force_frozen: flag("force_frozen"),
        local_only: flag("local_only"),
        recipient: selection("recipient"),
        sender: selection("sender"),
        from: None,
        to: None,
    }
}

impl super::delivery_worker::Deliveries for Delivery {
    fn deliver(&self, id: &MessageId) {
        // Whoever was told of it later, by a look at the spool, leaves it to the retry rules once it was tried.
        deliver::deliver_told(&self.env, id, How { first_only: true, ..How::default() });
    }
    fn carry_out(&self, request: &Request, words: &mut dyn io::Write, echo: Option<Echo>) -> bool {
        let env = &self.env_for(echo);
        let waited_for = How { own_mail: OwnMail::AtOnce, ..How::default() };
        match request {
            Request::Deliver(id) => deliver::deliver(env, id, waited_for),
            Request::DeliverIfDue(id) => deliver::deliver(env, id, How::default()),
            Request::DeliverLocally(id) => deliver::deliver(env, id, How { local_only: true, ..waited_for }),
            Request::Force(id) => {
                deliver::deliver(env, id, How { force: true, thaw: true, ..How::default() })
            }
            Request::GiveUp((id, by)) => {
                // Whoever asks was found to be an admin user where the call came in.
                let who = Who { login: by.as_bstr(), uid: self.env.globals.oxim_uid, admin: true };
                return queue::act(env, Act::GiveUp, id, &[], who, words).unwrap_or(false);
            }
            Request::Run(run) => {
                queue::run(env, run);
                return true;
            }
            Request::Standings(()) => {
                let known = elsewhere::to_wire(&self.standings(SystemTime::now()));
                return known.len() <= elsewhere::MAX_ANSWER && words.write_all(&known).is_ok();
            }
        };
        true
    }
    fn run_queue(&self) {
        // What a set-uid start or an SMTP worker left when it was killed.
        self.sweep_spool();
        queue::run(&self.env, &self.run);
    }
    fn look_at_spool(&self) -> Vec<MessageId> {
        queue::untried(&self.env)
    }
    fn end(&self) {
        self.env.transports.close();
    }
    fn log_panic(&self, text: &str) {
        let line = format!("internal error in a delivery: {text}");
        self.env.log().panic(line.as_bytes().as_bstr());
    }
}
