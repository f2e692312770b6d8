//! The smtp transport: one message to remote hosts over SMTP (spec chapter "The smtp transport").
//!
//! Hosts are tried in their order until no address is left for another try. What each host did to us is
//! told in [`Report::hosts`], for the retry hints; what each address came to in [`Report::outcomes`].
mod connect;
mod connection;
mod dane;
mod own_hosts;
mod policy;
mod reuse;
mod session;
mod transaction;
mod trouble;

pub use trouble::exim_errno;

use crate::config::{ConfigError, Flag, Instance, Number, Options};
use crate::expand::Context;
use crate::log::Which;
use crate::ocsp::standing::Standings;
use crate::text::Value;
use crate::tls::{Audience, ClientTls};
use crate::transport::write_message::{BodyPart, HeaderChanges, header_block};
use crate::transport::{Host, HostReport, Job, JobAddress, Outcome, Problem, Remote, Report};
use bstr::{BStr, BString, ByteSlice};
use dane::Demand;
use policy::Policy;
use reuse::{Connections, Key};
use session::Session;
use std::time::SystemTime;
use transaction::{Mail, send};
use trouble::{Failure, Scope};

/// A configured smtp transport.
pub struct Smtp {
    name: BString,
    options: Options,
    connections: Connections,
    tls: ClientTls,
}

impl Smtp {
    /// Checks the options of one instance.
    pub fn compile(instance: &Instance) -> Result<Self, Vec<ConfigError>> {
        let options = &instance.options;
        let mut errors = Vec::new();
        let mut complain = |option: &str, unsupported: bool, message: String| {
            let at = options.written(option).map_or(&instance.at, |setting| &setting.at);
            errors.push(ConfigError { at: at.clone(), message, line: None, unsupported });
        };
        match options.plain("protocol").unwrap_or_default().to_str_lossy().as_ref() {
            "" | "smtp" | "smtps" => {}
            "lmtp" => complain("protocol", true, "protocol = lmtp is known but not supported yet".into()),
            other => complain("protocol", false, format!("unknown protocol \"{other}\": smtp or smtps")),
        }
        for name in ["connect_timeout", "command_timeout", "data_timeout", "final_timeout"] {
            if options.time(name).is_zero() {
                complain(name, false, format!("{name} must not be zero: every wait has a deadline"));
            }
        }
        if errors.is_empty() {
            Ok(Self {
                name: instance.name.clone(),
                options: options.clone(),
                connections: Connections::default(),
                tls: ClientTls::new(),
            })
        } else {
            Err(errors)
        }
    }
}

impl Remote for Smtp {
    /// Delivers to the job's hosts (or the transport's own), in order, what the job has.
    fn deliver(&self, job: Job) -> Report {
        let mut delivery =
            Delivery { smtp: self, job: &job, outcomes: vec![None; job.addresses.len()], hosts: Vec::new() };
        match delivery.check_message().and_then(|()| self.hosts_to_try(&job)) {
            Ok(hosts) => delivery.try_hosts(&hosts),
            Err(failure) => delivery.settle_open(&failure.outcome()),
        }
        delivery.report()
    }

    fn multi_domain(&self, context: &Context) -> Result<bool, Problem> {
        self.flag("multi_domain", context).map_err(|failure| failure.problem)
    }

    fn hosts(&self, routed: Vec<Host>, context: &Context) -> Result<Vec<Host>, Problem> {
        let randomize = self.flag("hosts_randomize", context).map_err(|failure| failure.problem)?;
        if routed.is_empty() || self.options.bool("hosts_override") {
            return own_hosts::hosts_of(self.name.as_bstr(), &self.options, "hosts", context, randomize)
                .map_err(|failure| failure.problem);
        }
        let mut hosts = routed;
        // The order of MX records, and one that the router made by chance, stay.
        if randomize && hosts.iter().all(|host| host.preference < 0 && !host.randomized) {
            own_hosts::shuffle(&mut hosts);
        }
        Ok(hosts)
    }

    /// Only where an option asks for a status or for DANE: nothing is expanded for other transports.
    fn requirement(&self, host: &Host, context: &Context) -> Option<BString> {
        let asks = |name| self.options.text(name).is_some_and(|list| !list.text().trim().is_empty());
        let dane = asks("hosts_require_dane") || host.secure && asks("hosts_try_dane");
        if !asks("hosts_require_ocsp") && !asks("hosts_require_status") && !dane {
            return None;
        }
        let context = at_host(context, host);
        // What cannot be expanded is told when the host is tried.
        Policy::of(&self.options, host, &context, &Demand::Nothing).ok()?.tls.requirement
    }

    /// A constant; an expansion is the limit of each transaction of one job.
    fn max_rcpt(&self) -> usize {
        match self.options.number("max_rcpt") {
            Some(Number::Fixed(number)) => usize::try_from(number).unwrap_or(0),
            Some(Number::Expanded(_)) | None => 0,
        }
    }

    fn standings(&self, now: SystemTime) -> Standings {
        self.tls.standings(now)
    }

    fn close(&self) {
        self.connections.close_all();
    }
}

impl Smtp {
    /// Most recipients of one transaction (`max_rcpt`; 0 is no limit).
    fn max_rcpt(&self, context: &Context) -> Result<usize, Failure> {
        let number = match self.options.number("max_rcpt") {
            None => 0,
            Some(Number::Fixed(number)) => number,
            Some(Number::Expanded(template)) => {
                let text = policy::expand_option("max_rcpt", template, context)?.unwrap_or_default();
                text.trim().to_str_lossy().parse().map_err(|_| {
                    Failure::new(Scope::Message, -1, format!("\"{text}\" is no number for max_rcpt"))
                })?
            }
        };
        Ok(usize::try_from(number).ok().filter(|number| *number > 0).unwrap_or(usize::MAX))
    }

    /// A boolean option that may be an expansion.
    fn flag(&self, name: &'static str, context: &Context) -> Result<bool, Failure> {
        match self.options.flag(name) {
            Flag::Fixed(on) => Ok(on),
            Flag::Expanded(template) => {
                let transport = &self.name;
                let text = crate::expand::expand(template, context)
                    .map_err(|error| {
                        let words = format!("failed to expand \"{name}\" in {transport} transport: {error}");
                        Failure::new(Scope::Message, -1, words)
                    })?
                    .into_bytes();
                crate::expand::boolean(&text).ok_or_else(|| {
                    let words = format!(
                        "\"{text}\" is not a valid value for the \"{name}\" option in the {transport} transport"
                    );
                    let mut failure = Failure::new(Scope::Message, -1, words);
                    failure.problem.of_configuration = true;
                    failure
                })
            }
        }
    }

    /// The hosts in the order of trying: the job's, then the fall-backs.
    fn hosts_to_try(&self, job: &Job) -> Result<Vec<Host>, Failure> {
        let mut hosts = job.hosts.clone();
        let limit = usize::try_from(self.options.int("hosts_max_try")).unwrap_or(usize::MAX).max(1);
        hosts.truncate(limit);
        let randomize = self.flag("hosts_randomize", job.context)?;
        let name = self.name.as_bstr();
        let fallback = own_hosts::hosts_of(name, &self.options, "fallback_hosts", job.context, randomize)?;
        hosts.extend(fallback);
        Ok(hosts)
    }
}

struct Delivery<'a> {
    smtp: &'a Smtp,
    job: &'a Job<'a>,
    outcomes: Vec<Option<Outcome>>,
    hosts: Vec<HostReport>,
}

impl Delivery<'_> {
    /// Addresses (of one domain or all) that are neither delivered nor failed for good.
    fn open_addresses(&self, domain: Option<&BStr>) -> Vec<usize> {
        let open = |outcome: &Option<Outcome>| matches!(outcome, None | Some(Outcome::Deferred(_)));
        let wanted = |index: &usize| {
            let own = self.job.addresses[*index].address.domain();
            open(&self.outcomes[*index]) && domain.is_none_or(|domain| domain.eq_ignore_ascii_case(own))
        };
        (0..self.outcomes.len()).filter(wanted).collect()
    }

    /// What no host could change: lines that SMTP does not carry (RFC 5321 section 4.5.3.1.6).
    fn check_message(&self) -> Result<(), Failure> {
        let limit = u64::try_from(self.smtp.options.int("message_linelength_limit")).unwrap_or(0);
        if limit != 0 && self.job.message.envelope.max_received_line > limit {
            let mut failure = Failure::new(Scope::Message, 0, "message has lines too long for transport");
            failure.permanent = true;
            return Err(failure);
        }
        Ok(())
    }

    fn try_hosts(&mut self, hosts: &[Host]) {
        for host in hosts {
            if self.open_addresses(None).is_empty() {
                return;
            }
            self.try_host(host);
        }
    }

    /// Gives this outcome to every address that is neither delivered nor failed for good.
    fn settle_open(&mut self, outcome: &Outcome) {
        for index in self.open_addresses(None) {
            self.outcomes[index] = Some(outcome.clone());
        }
    }

    fn try_host(&mut self, host: &Host) {
        ::log::debug!(target: "transport", "{} to {} {:?}", self.smtp.name, host.name, host.address);
        let mut context = at_host(self.job.context, host);
        let result = self.policy(host, &mut context).and_then(|policy| self.talk(host, &policy, &context));
        let problem = match result {
            Ok(problem) => problem,
            Err(failure) => {
                let failure = failure.at(host, None).printing(self.top_bit_prints());
                self.log_host(host, &failure);
                self.settle_open(&failure.outcome());
                // That the DNS does not have what is required says nothing about the host.
                if failure.of_dns && failure.permanent {
                    return;
                }
                Some(failure.problem)
            }
        };
        self.hosts.push(HostReport { host: host.clone(), problem });
    }

    /// What the options say for a host, and the DNS demands.
    fn policy(&self, host: &Host, context: &mut Context) -> Result<Policy, Failure> {
        let options = &self.smtp.options;
        let demand = Demand::of(options, host, context, &|line| self.log_line(line));
        let demand = demand.map_err(|mut failure| {
            if failure.of_dns {
                failure.problem.requirement = self.smtp.requirement(host, context);
            }
            failure
        })?;
        context.address.tlsa_usage = demand.usages();
        Policy::of(options, host, context, &demand)
    }

    /// All that is to be said to one host. Under DANE each domain has a connection of its own.
    fn talk(&mut self, host: &Host, policy: &Policy, context: &Context) -> Result<Option<Problem>, Failure> {
        if !policy.dane {
            return self.run_session(host, policy, None, context);
        }
        let open = self.open_addresses(None);
        let mut domains: Vec<BString> = Vec::new();
        for domain in open.iter().map(|index| self.job.addresses[*index].address.domain()) {
            if !domains.iter().any(|known| known.eq_ignore_ascii_case(domain)) {
                domains.push(domain.into());
            }
        }
        for domain in domains {
            let problem = self.run_session(host, policy, Some(domain.as_bstr()), context)?;
            if problem.is_some() {
                return Ok(problem);
            }
        }
        Ok(None)
    }

    /// Everything that can be said to one host, of one domain or all, in one session; a failure before MAIL is the error.
    fn run_session(
        &mut self,
        host: &Host,
        policy: &Policy,
        domain: Option<&BStr>,
        context: &Context,
    ) -> Result<Option<Problem>, Failure> {
        let key = Key {
            transport: self.smtp.name.clone(),
            host: host.name.clone(),
            address: host.address,
            policy: policy.clone(),
            domain: domain.map(|domain| domain.to_ascii_lowercase().into()),
        };
        let limit = self.smtp.max_rcpt(context)?;
        let (mut session, mut fresh) = match self.smtp.connections.take(&key) {
            Some(mut session) => {
                session.connection.watch(&self.job.context.globals.log);
                (session, false)
            }
            None => (self.open(host, &key.policy)?, true),
        };
        let head = match self.head(&session, context) {
            Ok(head) => head,
            Err(problem) => {
                self.keep(key, session);
                return Err(Failure { scope: Scope::Message, permanent: false, of_dns: false, problem });
            }
        };
        let mail = mail_of(self.smtp, self.job, &head, context);
        let mut problem = None;
        for chunk in self.open_addresses(domain).chunks(limit) {
            let addresses: Vec<JobAddress> =
                chunk.iter().map(|index| self.job.addresses[*index].clone()).collect();
            let pipelining = !key.policy.avoid_pipelining;
            let mut done = send(&mut session, &mail, &addresses, &key.policy.limits, pipelining);
            if !fresh && !done.answered {
                // The peer had closed the idle session: that says nothing about the host.
                session = self.open(host, &key.policy)?;
                done = send(&mut session, &mail, &addresses, &key.policy.limits, pipelining);
            }
            fresh = true;
            for (index, outcome) in chunk.iter().zip(done.outcomes) {
                self.outcomes[*index] = Some(at(outcome, host, &session, self.top_bit_prints()));
            }
            if let Some(failure) = done.failure {
                let failure = failure.at(host, session.tls.as_ref()).printing(self.top_bit_prints());
                self.log_host(host, &failure);
                problem = Some(failure.problem);
            }
            if !done.usable {
                // Addresses of later chunks had no try: they wait with the problem that ended the session.
                let rest = Outcome::Deferred(problem.clone().unwrap_or_default());
                self.outcomes.iter_mut().filter(|o| o.is_none()).for_each(|o| *o = Some(rest.clone()));
                if !done.lost {
                    self.smtp.connections.leave(session);
                }
                return Ok(problem);
            }
        }
        self.keep(key, session);
        Ok(problem)
    }

    fn open(&self, host: &Host, policy: &Policy) -> Result<Session, Failure> {
        let log = |audience, line: &[u8]| self.log_for(audience, line);
        session::open(host, policy, &self.smtp.tls, &log, &self.job.context.globals)
    }

    fn keep(&self, key: Key, mut session: Session) {
        let most = u32::try_from(self.smtp.options.int("connection_max_messages")).unwrap_or(0);
        let one_only = key.policy.tls.one_message && session.tls.is_some();
        if one_only || most != 0 && session.messages >= most {
            return self.smtp.connections.leave(session);
        }
        if !session.needs_reset {
            return self.smtp.connections.put(key, session);
        }
        session.connection.set_limit(key.policy.limits.command);
        session.connection.put_line(b"RSET");
        match session.connection.flush_out().and_then(|()| session.connection.read_reply()) {
            Ok(reply) if reply.code / 100 == 2 => {
                session.needs_reset = false;
                self.smtp.connections.put(key, session);
            }
            _ => self.smtp.connections.leave(session),
        }
    }

    /// The header block, with the blank line; nothing with `body_only`. What is added may tell of the session.
    fn head(&self, session: &Session, context: &Context) -> Result<Vec<u8>, Problem> {
        if self.smtp.options.bool("body_only") {
            return Ok(Vec::new());
        }
        let mut context = context.clone();
        context.address.tls_out.clone_from(&session.tls);
        context.address.sending = session.interface;
        let (add, remove) = match &self.job.late_headers {
            Some(late) => late(&context)?,
            None => (self.job.headers_add.clone(), self.job.headers_remove.clone()),
        };
        let changes = HeaderChanges { remove: &remove, add: &add, ..HeaderChanges::default() };
        let mut head = header_block(&self.job.message.headers, &changes);
        head.push(b'\n');
        Ok(head)
    }

    /// `print_topbitchars`
    fn top_bit_prints(&self) -> bool {
        self.job.context.globals.main.bool("print_topbitchars")
    }

    fn log_host(&self, host: &Host, failure: &Failure) {
        if let Some(line) = failure.host_line(host) {
            self.log_line(&line);
        }
    }

    fn log_line(&self, text: &[u8]) {
        self.log_for(Audience::Main, text);
    }

    fn log_for(&self, audience: Audience, text: &[u8]) {
        let mut line = BString::from(&self.job.message.id);
        line.push(b' ');
        line.extend_from_slice(text);
        let log = &self.job.context.globals.log;
        match audience {
            Audience::Main => log.write(Which::Main, line.as_bstr()),
            Audience::Panic => log.panic(line.as_bstr()),
            Audience::Debug => ::log::debug!(target: "tls", "{line}"),
        }
    }

    fn report(self) -> Report {
        let missing = Problem {
            text: "no host was left to try".into(),
            errno: -1,
            host_problem: true,
            ..Problem::default()
        };
        let outcomes = self
            .outcomes
            .into_iter()
            .map(|o| o.unwrap_or_else(|| Outcome::Deferred(missing.clone())))
            .collect();
        Report { outcomes, hosts: self.hosts }
    }
}

/// `$host` and `$host_address` say which.
fn at_host<'c>(context: &Context<'c>, host: &Host) -> Context<'c> {
    let mut context = context.clone();
    context.address.host = Some(Value::clean(host.name.clone()));
    context.address.host_address = host.address.map(|address| Value::clean(address.to_string()));
    context
}

/// The job's message in the form it is sent.
fn mail_of<'m>(smtp: &Smtp, job: &'m Job, head: &'m [u8], context: &Context) -> Mail<'m> {
    let envelope = &job.message.envelope;
    // Room for CRLF at each line's end, and for what the peer adds.
    let lines = head.find_iter(b"\n").count() as u64 + envelope.body_lines;
    let addition = u64::try_from(smtp.options.int("size_addition")).ok();
    Mail {
        return_path: &job.return_path,
        size: addition.map(|addition| context.message.size + lines + addition),
        eight_bit: envelope.body_8bitmime == 8,
        dsn: dsn_parameters(envelope.dsn_ret, envelope.dsn_envid.as_ref()),
        head,
        data: &job.message.data,
        body: (!smtp.options.bool("headers_only"))
            .then(|| BodyPart { offset: job.message.body_offset(), size: job.message.body_size }),
    }
}

/// The outcome, with the host it happened at, and what the host said in a form that can be shown.
fn at(outcome: Outcome, host: &Host, session: &Session, top_bit_prints: bool) -> Outcome {
    let place = |mut problem: Problem| {
        problem.text = trouble::printing(&problem.text, top_bit_prints);
        problem.host = Some(host.clone());
        problem.tls.clone_from(&session.tls);
        problem
    };
    match outcome {
        Outcome::Delivered(mut delivered) => {
            delivered.host = Some(host.clone());
            Outcome::Delivered(delivered)
        }
        Outcome::Deferred(problem) => Outcome::Deferred(place(problem)),
        Outcome::Failed(problem) => Outcome::Failed(place(problem)),
    }
}

/// ` RET=...` and ` ENVID=...` (RFC 3461 sections 4.3 and 4.4).
fn dsn_parameters(ret: u8, envid: Option<&BString>) -> BString {
    let mut text = BString::default();
    match ret {
        1 => text.extend_from_slice(b" RET=HDRS"),
        2 => text.extend_from_slice(b" RET=FULL"),
        _ => {}
    }
    if let Some(envid) = envid {
        text.extend_from_slice(b" ENVID=");
        text.extend_from_slice(envid);
    }
    text
}
