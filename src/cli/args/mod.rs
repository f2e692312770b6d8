//! The command line as a typed [`Invocation`]: pure, nothing is opened or asked.
//!
//! Every option of Exim 4.99 is known. What is not built yet is refused as such, what Exim ignores for
//! Sendmail's sake is ignored here too. Texts and exit codes are Exim's, recorded.
//!
//! Specification: chapter "The Exim command line".
mod option_b;
mod option_m;
mod option_o;
mod option_q;
mod parser;
mod time;

use crate::queue::{Act, Listing, Run};
use bstr::BString;
use std::time::Duration;

pub use parser::parse;

/// How the program was called and what for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invocation {
    /// What to do.
    pub action: Action,
    /// `-C`: the list of configuration files as given.
    pub config: Option<BString>,
    /// `-D`: macros in order, name and value.
    pub macros: Vec<(BString, BString)>,
    /// Arguments that are not options: recipients, strings to expand, names to print ...
    pub arguments: Vec<BString>,
    /// About the message that is handed in.
    pub message: MessageSettings,
    /// About the daemon.
    pub daemon: DaemonSettings,
    /// `-d`: debugging with these selectors as given (`+filter-dns`).
    pub debug: Option<BString>,
    /// `-dd`: the roles of a daemon do not debug.
    pub debug_not_passed_on: bool,
    /// `-v`, `-ov`, and with `-d` and `-N`.
    pub verbose: bool,
    /// `-n`: `-bP` prints no names.
    pub terse: bool,
    /// `-N`: nothing is really delivered.
    pub dry_run: bool,
    /// `-L`: the tag of syslog lines.
    pub syslog_tag: Option<BString>,
    /// `-oB`: messages on one connection.
    pub connection_max: Option<u32>,
    /// `-Mset`: the message whose variables `-be` sees.
    pub loaded_message: Option<BString>,
    /// Some `-D` value came from a trusted re-execution; never set by an option.
    pub called_as: CalledAs,
}

/// The name in `argv[0]`, where it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CalledAs {
    /// `oxim`, `exim`, `sendmail` or anything else.
    #[default]
    Sendmail,
    /// `mailq`: `-bp`.
    Mailq,
    /// `rsmtp`: `-bS`.
    Rsmtp,
    /// `rmail`: `-i -oee`.
    Rmail,
    /// `runq`: `-q`.
    Runq,
    /// `newaliases`: `-bi`.
    Newaliases,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Nothing was asked for: say what this is.
    #[default]
    About,
    /// Take a message from standard input: `-bm`, `-t`, or just recipients.
    Receive,
    /// SMTP on standard input and output: `-bs`.
    Smtp,
    /// Batched SMTP: `-bS`.
    BatchSmtp,
    /// `-bd`, `-bdf`, and `-q<time>` without either.
    Daemon,
    /// `-q`, `-R`, `-S`, once.
    QueueRun(Run),
    /// `-bp` and its family.
    ListQueue(Listing),
    /// `-M...`
    Messages(MessageCommand),
    /// `--certificates` (oxim's own)
    Certificates {
        /// `--json`
        json: bool,
    },
    /// `-bV`, `--version`
    Version,
    /// `-bP`
    Print,
    /// `-be`
    Expand,
    /// `-bt`
    TestAddresses,
    /// `-bv`, `-bvs`
    VerifyAddresses {
        /// `-bvs`
        as_sender: bool,
    },
    /// `-bi`
    RebuildAliases,
    /// `-brt`
    TestRetry,
    /// `-z`: write a line to the log.
    LogLine(BString),
    /// `-oPX`: remove the pid file.
    RemovePidFile,
    /// `-bI:...`: `-bI:help` and what is not known.
    InfoHelp,
}

/// What is done to messages of the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageCommand {
    /// What.
    pub what: Act,
    /// The option as given, for texts.
    pub option: String,
    /// Message ids; at least one, each well-formed.
    pub ids: Vec<crate::mail::MessageId>,
    /// Addresses of `-Mar`, `-Mmd`, `-Mes`.
    pub addresses: Vec<BString>,
}

/// When a message that is handed in gets delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeliveryMode {
    /// None of the options: as `-odb`.
    #[default]
    Default,
    /// `-odb`
    Background,
    /// `-odf`, `-odi`
    Foreground,
    /// `-odq`
    Queue,
    /// `-odqs`: local deliveries only now.
    QueueSmtp,
}

/// What happens with an error in a message that is handed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorMode {
    /// `-oem`, `-oew`: mail to the sender, exit code not 0.
    #[default]
    Mail,
    /// `-oee`: mail to the sender, exit code 0.
    MailQuietly,
    /// `-oep`, `-oeq`: text on standard error.
    Print,
}

/// About the message that is handed in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageSettings {
    /// `-t`: recipients from its headers.
    pub extract: bool,
    /// `-i`, `-oi`: a single dot does not end it.
    pub dot_is_text: bool,
    /// `-f`, `-r`
    pub sender: Option<BString>,
    /// `-F`
    pub full_name: Option<BString>,
    /// `-od...`
    pub delivery: DeliveryMode,
    /// `-odi` and `-odqs` together.
    pub foreground: bool,
    /// `-oe...`
    pub errors: ErrorMode,
    /// `-or`: time for a message.
    pub receive_timeout: Option<Duration>,
    /// `-os`: time for an SMTP command.
    pub smtp_timeout: Option<Duration>,
    /// `-bnq`: addresses are not qualified.
    pub no_qualify: bool,
    /// `-G`: no fix-ups.
    pub suppress_fixups: bool,
    /// `-tls-on-connect`
    pub tls_on_connect: bool,
    /// `-E`: it is a bounce of ours (about this message).
    pub bounce_about: Option<BString>,
    /// `-oMa`: host address and port.
    pub host: Option<(std::net::IpAddr, u16)>,
    /// `-oMi`
    pub interface: Option<(std::net::IpAddr, u16)>,
    /// `-oMaa`
    pub authenticator: Option<BString>,
    /// `-oMai`
    pub authenticated_id: Option<BString>,
    /// `-oMas`
    pub authenticated_sender: Option<BString>,
    /// `-oMm`
    pub reference: Option<BString>,
    /// `-oMr`, `-p`
    pub protocol: Option<BString>,
    /// `-oMs`, `-p`
    pub host_name: Option<BString>,
    /// `-oMt`
    pub ident: Option<BString>,
}

/// About the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaemonSettings {
    /// `-bd` or `-bdf`: listen.
    pub listen: bool,
    /// `-bdf`: stay in the foreground.
    pub foreground: bool,
    /// `-q<time>`: how often and how the queue is run.
    pub queue_interval: Option<Duration>,
    /// How.
    pub queue_run: Run,
    /// `-oX`: ports and interfaces.
    pub interfaces: Option<BString>,
    /// `-oP`
    pub pid_file: Option<BString>,
    /// `-oY`: no socket for other processes.
    pub no_notifier: bool,
}

/// The command line cannot be acted on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct UsageError {
    /// For standard error.
    pub text: String,
}

impl UsageError {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }
    fn bad_option(option: &BString) -> Self {
        Self::new(format!("exim abandoned: unknown, malformed, or incomplete option {option}"))
    }
    fn not_built(option: &BString) -> Self {
        Self::new(format!("exim: option {option} is known but not supported yet"))
    }
    fn incompatible() -> Self {
        Self::new("exim: incompatible command-line options or arguments")
    }
}

#[cfg(test)]
mod tests;
