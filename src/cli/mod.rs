//! The command line: what was asked for, who asked, and the way to what does it.
pub mod args;
mod caller;
mod certificates;
pub mod daemon;
mod delivery;
pub mod environment;
mod error_mail;
pub mod info;
pub mod keeper_plan;
mod local_smtp;
mod ocsp_fetch;
mod queue_commands;
mod settings;
mod standard_input;
mod start;
mod submission;
mod submit;
pub mod test_expand;
mod test_modes;
pub mod trust;

use crate::expand::context::{Context, Globals};
use crate::expand::{ExpandError, expand};
use crate::log::debug::Selection;
use crate::log::{Log, Which};
use crate::process::reading::{self, Reading};
use crate::process::role_main;
use crate::process::submit_socket::Call;
use crate::sys::identity::{self, LaidDown, Rights};
use crate::sys::{descriptors, environment as sys_environment, inherited, secure};
use anyhow::anyhow;
use args::{Action, Invocation};
use bstr::{BStr, BString, ByteSlice};
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::sync::Arc;
use trust::{Decision, Facts, Standing};

/// What a call without anything to do hears, and `--help`.
const ABOUT: &str = "is a Mail Transfer Agent. It is normally called by Mail User Agents,\n\
     not directly from a shell command line. Options and/or arguments control\n\
     what it does when called. For a list of options, see the Exim documentation.";

/// What `-bI:help` and unknown words after `-bI:` hear.
const INFO_HELP: &str = "The -bI: flag takes a string indicating which information to provide.\n\
     If the string is not recognised, you'll get this help (on stderr).\n\n  \
     exim -bI:help    this information\n  \
     exim -bI:dscp    list of known dscp value keywords\n  \
     exim -bI:sieve   list of supported sieve extensions";

/// What `-bV` claims after `Support for:`; the words are Exim's.
const SUPPORT: &[&str] = if crate::tls::OCSP {
    &["IPv6", "GnuTLS", "move_frozen_messages", "DANE", "DNSSEC", "OCSP"]
} else {
    &["IPv6", "GnuTLS", "move_frozen_messages", "DANE", "DNSSEC"]
};

/// A program that knows what it was asked for, by whom, and its configuration.
pub struct Program {
    /// The command line.
    pub invocation: Invocation,
    /// Build and caller.
    pub facts: Facts,
    /// What was decided about rights.
    pub decision: Decision,
    /// The configuration as written.
    pub reading: Reading,
    /// What expansions see.
    pub globals: Arc<Globals>,
    /// The caller.
    pub standing: Standing,
    /// oxim's group of a set-gid start, for a message that is left in `drop/`.
    pub drop_group: Option<LaidDown>,
    /// The environment that was kept.
    pub environment: Vec<(OsString, OsString)>,
    /// `http_proxy` of the environment as it was, if whoever set it has the rights that this process has: for the staple
    /// keeper, whatever `keep_environment` says.
    pub http_proxy: Option<OsString>,
}

/// Who asks for what: all that taking in a message needs to know of a call, be it this process's own or one that
/// came over the submission socket.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The command line.
    pub invocation: &'a Invocation,
    /// What expansions see.
    pub globals: &'a Arc<Globals>,
    /// The caller.
    pub standing: &'a Standing,
}

impl Asked<'_> {
    /// Expands a main option; none if it is not set.
    pub fn expand_option(&self, name: &str) -> anyhow::Result<Option<BString>> {
        let Some(template) = self.globals.main.text(name) else { return Ok(None) };
        let context = Context::new(self.globals.clone(), &crate::expand::context::NoHooks);
        match expand(template, &context) {
            Ok(value) => Ok(Some(value.into_bytes())),
            Err(ExpandError::Forced(_)) => Ok(None),
            Err(ExpandError::Defer(text) | ExpandError::Failed(text)) => {
                Err(anyhow!("failed to expand {name}: {text}"))
            }
        }
    }
}

impl Program {
    /// Who asks for what.
    pub fn asked(&self) -> Asked<'_> {
        Asked { invocation: &self.invocation, globals: &self.globals, standing: &self.standing }
    }

    /// Writes a log line; while this process has root's rights, a child without them does it.
    fn log_unprivileged(&self, which: Which, line: &BStr) {
        let write = |log: &Log| log.write(which, line);
        match daemon::rights_of_roles(self) {
            Ok(None) => write(&self.globals.log),
            Ok(Some(rights)) => crate::process::without_root::as_other(&rights, || write(&self.globals.log)),
            Err(_) => {} // no user to write it as: what follows fails for the same reason, with words
        }
    }

    /// What is wrong with the server's certificate, or its proof, as far as the caller may look.
    fn tls_warnings(&self) -> Vec<bstr::BString> {
        let context = Context::new(self.globals.clone(), &crate::expand::context::NoHooks);
        // A proof that the keeper has stored is as good as one that the administrator has.
        let status = crate::process::certificate_status::CertificateStatus::of(&self.globals);
        let registry = status.ok().flatten().and_then(|status| status.of_shown());
        crate::smtp_in::tls_session::Acceptor::new(&self.globals.main, registry).warnings(&context)
    }

    /// Gives up root's rights for good: from here on this process is oxim.
    fn become_oxim(&self) -> anyhow::Result<()> {
        if let Some(rights) = daemon::rights_of_roles(self)? {
            log::debug!(target: "uid", "becoming uid={} gid={}", rights.uid, rights.gid);
            identity::become_user(&rights)?;
        } else if !identity::is_plain() {
            identity::become_user(&Rights::of_caller()?)?;
        }
        Ok(())
    }
}

/// The whole program: reads the command line, acts, and tells how it went.
pub fn main() -> ExitCode {
    let code = match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            1
        }
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn run() -> anyhow::Result<i32> {
    descriptors::make_standard_valid()?;
    let group = identity::lay_down_group()?;
    let mut words = std::env::args_os().map(|word| BString::from(word.into_vec()));
    let name = words.next().unwrap_or_default();
    let arguments: Vec<BString> = words.collect();
    secure::set_umask();
    if let [option, role, rights @ ..] = arguments.as_slice()
        && option == "--role"
    {
        let rights = rights.first().map(|rights| rights.as_slice());
        return Ok(role_main::run(role, rights, submission::server));
    }
    descriptors::close_from(3)?;
    let found: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    if secure::started_with_foreign_rights() {
        sys_environment::replace(&[]);
        inherited::forget_timers_and_signals()?;
    }
    if ocsp_fetch::is_called(&name) {
        return ocsp_fetch::run(&arguments, &found);
    }
    let invocation = args::parse(&name, &arguments)?;
    let only_tells = matches!(
        invocation.action,
        Action::Version
            | Action::Print
            | Action::Expand
            | Action::ListQueue(_)
            | Action::Certificates { .. }
            | Action::TestAddresses
            | Action::VerifyAddresses { .. }
    );
    match obey(invocation, found, group, name, arguments) {
        Err(error) if only_tells && was_not_heard(&error) => Ok(0),
        other => other,
    }
}

/// Nobody reads standard output any more (`| head`): nothing that its caller wants to hear of. As Exim, this is no
/// failure of a call that only tells something.
fn was_not_heard(error: &anyhow::Error) -> bool {
    let broken = |cause: &std::io::Error| cause.kind() == std::io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(broken))
        && descriptors::has_no_reader(std::io::stdout().as_fd())
}

/// Does what the command line says.
fn obey(
    invocation: Invocation,
    found: Vec<(OsString, OsString)>,
    group: Option<LaidDown>,
    name: BString,
    arguments: Vec<BString>,
) -> anyhow::Result<i32> {
    match invocation.action {
        Action::About => {
            eprintln!("{} {ABOUT}", about_name());
            return Ok(1);
        }
        Action::InfoHelp => {
            eprintln!("{INFO_HELP}");
            return Ok(1);
        }
        Action::Version => print_version()?,
        _ => {}
    }
    check_built(&invocation)?;
    let debug = invocation.debug.as_ref().and_then(|text| Selection::parse(&text.to_str_lossy()).ok());
    let of_daemon = invocation.action == Action::Daemon;
    // Before the configuration is read nobody but root is known to be an admin user.
    if let Some(debug) = debug.filter(|_| nix::unistd::getuid().is_root()) {
        debug.start(of_daemon);
    }
    let group = keep_group(group, &invocation)?;
    let program = start::start(invocation, found, group)?;
    if let Some(debug) = debug {
        debug.start(of_daemon);
    }
    let named = program.invocation.config.is_some();
    let configuration = named.then(|| program.reading.snapshot.config_file.clone());
    act(program, Call { name, arguments, configuration })
}

/// The group of a set-gid start is for a message of the installed configuration that no daemon takes: anything else
/// goes on without it, for good.
fn keep_group(group: Option<LaidDown>, invocation: &Invocation) -> anyhow::Result<Option<LaidDown>> {
    let needed =
        invocation.action == Action::Receive && invocation.config.is_none() && invocation.macros.is_empty();
    if group.is_some() && !needed {
        identity::become_user(&Rights::of_caller()?)?;
    }
    Ok(group.filter(|_| needed))
}

/// Options that change what another option does, and that are not built.
fn check_built(invocation: &Invocation) -> anyhow::Result<()> {
    if invocation.dry_run {
        return Err(not_built("-N"));
    }
    if invocation.connection_max.is_some() {
        return Err(not_built("-oB"));
    }
    if invocation.syslog_tag.is_some() {
        return Err(not_built("-L"));
    }
    let message = &invocation.message;
    if message.bounce_about.is_some() && invocation.action == Action::Smtp {
        return Err(not_built("-E with -bs"));
    }
    if message.delivery == args::DeliveryMode::QueueSmtp && invocation.action == Action::Daemon {
        return Err(not_built("-odqs with a daemon"));
    }
    Ok(())
}

fn not_built(option: &str) -> anyhow::Error {
    anyhow!("exim: option {option} is known but not supported yet")
}

/// The name that the world sees, with a capital as in a sentence.
fn about_name() -> String {
    let mut name = crate::config::build_settings::MAILER_NAME.to_owned();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    name
}

/// Everything but `-bV`'s last lines is told before the configuration is read.
fn print_version() -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let tables = crate::load::tables();
    let date = crate::config::build_settings::build_date();
    let build = info::Build {
        date: &date,
        number: 1,
        gnutls_built: crate::tls::GNUTLS_BUILD_VERSION,
        gnutls_running: crate::tls::gnutls_runtime_version(),
        support: SUPPORT,
        lookups: tables.lookups,
        tables: &tables,
    };
    info::print_version(&build, &mut out)?;
    Ok(out.flush()?)
}

/// Does what was asked for, with the rights it needs.
fn act(mut program: Program, called: Call) -> anyhow::Result<i32> {
    if submission::is_needed(&program) {
        return submission::hand_over(&program, called);
    }
    if program.drop_group.take().is_some() && !identity::is_root() {
        identity::become_user(&Rights::of_caller()?)?;
    }
    match program.invocation.action.clone() {
        Action::Version => {
            program.become_oxim()?;
            let mut out = std::io::stdout().lock();
            let (missing, wrong): (Vec<_>, Vec<_>) = crate::load::check_acl_options(&program.reading.written)
                .into_iter()
                .partition(|e| e.unsupported);
            let unsupported = [program.reading.unsupported.as_slice(), &missing].concat();
            info::print_configuration(&program.reading.written, &unsupported, &mut out)?;
            let warnings = program.tls_warnings();
            let trusts_dns = crate::dns::resolv_conf::ResolvConf::system().trust_ad;
            let places = crate::load::warnings(&program.reading.written, trusts_dns);
            info::print_warnings(&places, &warnings, &mut out)?;
            wrong.iter().for_each(|error| eprintln!("{}", reading::error_text(error)));
            Ok(i32::from(!wrong.is_empty()))
        }
        Action::Print => {
            program.become_oxim()?;
            let asker = info::Asker { admin: program.standing.admin, names: !program.invocation.terse };
            let tables = crate::load::tables();
            let mut written = (*program.reading.written).clone();
            written.fill_names(&program.globals.primary_hostname.to_str_lossy());
            let listing = info::Listing { written: &written, tables: &tables, asker };
            let mut out = std::io::BufWriter::new(std::io::stdout().lock());
            let known = listing.print(&program.invocation.arguments, &mut out)?;
            out.flush()?;
            Ok(if known { 0 } else { 1 })
        }
        Action::Daemon => daemon::run(program),
        Action::LogLine(line) => {
            program.log_unprivileged(Which::Main, BStr::new(&line));
            Ok(0)
        }
        Action::Receive => submit::run(program),
        Action::Smtp => local_smtp::run(program),
        Action::QueueRun(run) => queue_commands::run_queue(program, &run),
        Action::ListQueue(listing) => queue_commands::list(&program, listing),
        Action::Certificates { .. } => certificates::ask(&program, &called),
        Action::Messages(command) => queue_commands::messages(program, &command),
        Action::Expand => test_modes::expand(&program),
        Action::TestAddresses => test_modes::addresses(program, None),
        Action::VerifyAddresses { as_sender } => test_modes::addresses(program, Some(as_sender)),
        // Nothing is to be rebuilt: bi_command, which could say otherwise, refuses.
        Action::RebuildAliases => Ok(0),
        Action::RemovePidFile => daemon::remove_pid_file(&program),
        Action::BatchSmtp => Err(not_built("-bS")),
        Action::TestRetry => Err(not_built("-brt")),
        Action::About | Action::InfoHelp => Ok(1),
    }
}
