//! The walk over the arguments: one function for each letter, and what may stand together.

use super::{Action, CalledAs, ErrorMode, Invocation, UsageError, option_b, option_m, option_o, option_q};
use crate::log::debug::Selection;
use bstr::{BString, ByteSlice};

/// A text longer than this in `-F`, `-L` and their kin is no text that a caller means.
const LONGEST_TEXT: usize = 32_764;
/// Macros that `-D` may set (spec: "may be repeated up to 10 times").
const MOST_MACROS: usize = 10;

/// Arguments not yet looked at, and what was found so far.
pub(super) struct Parser<'a> {
    rest: std::slice::Iter<'a, BString>,
    /// The option that is being read, whole.
    pub(super) option: &'a BString,
    pub(super) found: Invocation,
    /// Actions in the order they were asked for, to see which contradict each other.
    actions: Vec<Action>,
    /// `-bm` or `-t` was given: with recipients, a message is read.
    message_wanted: bool,
    /// `-q...` flags given, with or without a time.
    pub(super) queue_run: bool,
    /// `--json` was given.
    json: bool,
}

/// Reads the arguments after `argv[0]`; `program` is `argv[0]`.
pub fn parse(program: &[u8], arguments: &[BString]) -> Result<Invocation, UsageError> {
    let empty = BString::default();
    let mut parser = Parser {
        rest: arguments.iter(),
        option: &empty,
        found: Invocation::default(),
        actions: Vec::new(),
        message_wanted: false,
        queue_run: false,
        json: false,
    };
    parser.program_name(program);
    while let Some(argument) = parser.rest.next() {
        if argument == "--" {
            break;
        }
        if !argument.starts_with(b"-") {
            parser.found.arguments.push(argument.clone());
            break;
        }
        parser.option = argument;
        parser.one_option()?;
    }
    parser.found.arguments.extend(parser.rest.by_ref().cloned());
    parser.finish()
}

impl<'a> Parser<'a> {
    /// Section "Setting options by program name".
    fn program_name(&mut self, program: &[u8]) {
        let name = program.rfind_byte(b'/').map_or(program, |slash| &program[slash + 1..]);
        self.found.called_as = match name {
            b"mailq" => CalledAs::Mailq,
            b"rsmtp" => CalledAs::Rsmtp,
            b"rmail" => CalledAs::Rmail,
            b"runq" => CalledAs::Runq,
            b"newaliases" => CalledAs::Newaliases,
            _ => CalledAs::Sendmail,
        };
        match self.found.called_as {
            CalledAs::Sendmail => {}
            CalledAs::Mailq => self.act(Action::ListQueue(Default::default())),
            CalledAs::Rsmtp => self.act(Action::BatchSmtp),
            CalledAs::Rmail => {
                self.found.message.dot_is_text = true;
                self.found.message.errors = ErrorMode::MailQuietly;
            }
            CalledAs::Runq => self.queue_run = true,
            CalledAs::Newaliases => self.act(Action::RebuildAliases),
        }
    }

    fn one_option(&mut self) -> Result<(), UsageError> {
        let option = self.option;
        let Some((letter, rest)) = option[1..].split_first() else {
            return Err(UsageError::bad_option(option));
        };
        match letter {
            b'-' => self.long_option(rest),
            b'b' => option_b::read(self, rest),
            b'M' => option_m::read(self, rest),
            b'o' => option_o::read(self, rest),
            b'q' => option_q::read(self, rest),
            b'R' => option_q::select(self, rest, true),
            b'S' => option_q::select(self, rest, false),
            b'e' => option_o::errors(self, rest),
            b'p' => option_o::protocol_and_host(self, rest),
            b'C' => self.text_or_next(rest).map(|list| self.found.config = Some(list)),
            b'D' => self.macro_definition(rest),
            b'd' => self.debug(rest),
            b'F' => self.text_or_next(rest).map(|name| self.found.message.full_name = Some(name)),
            b'f' | b'r' => self.text_or_next(rest).map(|from| self.found.message.sender = Some(from)),
            b'L' => self.text_or_next(rest).map(|tag| self.found.syslog_tag = Some(tag)),
            b'E' => self.bounce(rest),
            b't' => self.t_options(rest),
            b'T' => Err(UsageError::bad_option(option)),
            b'X' | b'O' if rest.is_empty() => {
                self.next_or(format!("exim: string expected after {option}")).map(drop)
            }
            b'z' if rest.is_empty() => {
                let line = self.next_or("exim: file name expected after -z".into())?;
                self.act(Action::LogLine(line));
                Ok(())
            }
            b'A' if matches!(rest, b"c" | b"m") => Ok(()),
            b'a' if rest == b"trn" => Err(UsageError::not_built(option)),
            b'B' => self.sendmail_number(rest),
            b'h' => self.hop_count(rest),
            b'O' | b'X' => Ok(()),
            b'G' if rest.is_empty() => self.flag(|found| found.message.suppress_fixups = true),
            b'i' if rest.is_empty() => self.flag(|found| found.message.dot_is_text = true),
            b'm' | b'U' | b'x' if rest.is_empty() => Ok(()),
            b'N' if rest.is_empty() => self.flag(|found| (found.dry_run, found.verbose) = (true, true)),
            b'n' if rest.is_empty() => self.flag(|found| found.terse = true),
            b'v' if rest.is_empty() => self.flag(|found| found.verbose = true),
            _ => Err(UsageError::bad_option(option)),
        }
    }

    /// `-h3`, `-h 3`: Sendmail's hop count, which Exim takes and does not use.
    fn hop_count(&mut self, rest: &[u8]) -> Result<(), UsageError> {
        let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        if is_number(rest) || (rest.is_empty() && self.next_if(|next| is_number(next)).is_some()) {
            return Ok(());
        }
        Err(UsageError::bad_option(self.option))
    }

    fn long_option(&mut self, name: &[u8]) -> Result<(), UsageError> {
        match name {
            b"help" => self.actions.push(Action::About),
            b"version" => self.act(Action::Version),
            b"certificates" => self.act(Action::Certificates { json: false }),
            b"json" => self.json = true,
            _ => return Err(UsageError::bad_option(self.option)),
        }
        Ok(())
    }

    fn flag(&mut self, set: impl FnOnce(&mut Invocation)) -> Result<(), UsageError> {
        set(&mut self.found);
        Ok(())
    }

    /// `-t`, `-ti`, `-tls-on-connect`.
    fn t_options(&mut self, rest: &[u8]) -> Result<(), UsageError> {
        match rest {
            b"" => self.found.message.extract = true,
            b"i" => {
                self.found.message.extract = true;
                self.found.message.dot_is_text = true;
            }
            b"ls-on-connect" => self.found.message.tls_on_connect = true,
            _ => return Err(UsageError::bad_option(self.option)),
        }
        Ok(())
    }

    /// `-B` and its type, which may stand apart: Sendmail's, ignored.
    fn sendmail_number(&mut self, rest: &[u8]) -> Result<(), UsageError> {
        if rest.is_empty() {
            self.rest.next();
        }
        Ok(())
    }

    /// `-DNAME=value`: the name starts with an upper case letter; blanks around the name and `=` are left out.
    fn macro_definition(&mut self, rest: &[u8]) -> Result<(), UsageError> {
        let rest = rest.trim_start();
        if !rest.first().is_some_and(u8::is_ascii_uppercase) {
            return Err(UsageError::new("exim: macro name set by -D must start with an upper case letter"));
        }
        let length = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
        let (name, rest) = rest.split_at(length);
        let rest = rest.trim_start();
        let value = match rest.split_first() {
            None => &[][..],
            Some((b'=', value)) => value.trim_start(),
            Some(_) => return Err(UsageError::bad_option(self.option)),
        };
        if self.found.macros.iter().any(|(known, _)| known == name) {
            return Err(UsageError::new("exim: duplicated -D in command line"));
        }
        if self.found.macros.len() == MOST_MACROS {
            return Err(UsageError::new("exim: too many -D options on command line"));
        }
        self.found.macros.push((name.into(), value.into()));
        Ok(())
    }

    /// `-d`, `-dd`, with selectors; `-dS`, `-dp`, `-dt` are not built.
    fn debug(&mut self, rest: &[u8]) -> Result<(), UsageError> {
        if matches!(rest.first(), Some(b'S' | b'p' | b't')) {
            return Err(UsageError::not_built(self.option));
        }
        let selectors = rest.strip_prefix(b"d").unwrap_or(rest);
        Selection::parse(&selectors.to_str_lossy()).map_err(UsageError::new)?;
        // -dd: what a daemon starts does not debug.
        self.found.debug_not_passed_on = rest.len() > selectors.len();
        self.found.debug = Some(selectors.into());
        self.found.verbose = true;
        Ok(())
    }

    /// `-E` with or without a message id.
    fn bounce(&mut self, rest: &[u8]) -> Result<(), UsageError> {
        let about = if crate::mail::MessageId::parse(rest).is_some() { rest } else { b"" };
        self.found.message.bounce_about = Some(about.into());
        Ok(())
    }

    /// The rest of this item, or the next one.
    pub(super) fn text_or_next(&mut self, rest: &[u8]) -> Result<BString, UsageError> {
        let text = match rest {
            b"" => self.rest.next().cloned().ok_or_else(|| UsageError::bad_option(self.option))?,
            rest => rest.into(),
        };
        if text.len() > LONGEST_TEXT {
            return Err(UsageError::new(format!(
                "exim: {} argument is too long",
                &self.option[..2].as_bstr()
            )));
        }
        Ok(text)
    }

    /// The next item, or this complaint.
    pub(super) fn next_or(&mut self, complaint: String) -> Result<BString, UsageError> {
        self.rest.next().cloned().ok_or_else(|| UsageError::new(complaint))
    }

    /// The next item if it is one that `wanted` takes.
    pub(super) fn next_if(&mut self, wanted: impl FnOnce(&BString) -> bool) -> Option<BString> {
        let next = self.rest.as_slice().first()?;
        if wanted(next) { self.rest.next().cloned() } else { None }
    }

    /// All items that are left.
    pub(super) fn take_all(&mut self) -> Vec<BString> {
        self.rest.by_ref().cloned().collect()
    }

    /// This is to be done.
    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// `-bm`
    pub(super) fn want_message(&mut self) {
        self.message_wanted = true;
    }

    /// What may stand together, and what follows from it.
    fn finish(mut self) -> Result<Invocation, UsageError> {
        if self.found.daemon.queue_interval.is_some() || self.queue_run {
            self.queue_action()?;
        }
        let extract = self.found.message.extract;
        let mut actions = std::mem::take(&mut self.actions);
        actions.dedup();
        let chosen = match actions.as_slice() {
            [] if extract || !self.found.arguments.is_empty() => Action::Receive,
            [] => Action::About,
            [only] => only.clone(),
            several => pick(several).ok_or_else(UsageError::incompatible)?,
        };
        let chosen = match chosen {
            Action::Certificates { .. } => Action::Certificates { json: self.json },
            _ if self.json => return Err(UsageError::new("exim: --json needs --certificates")),
            other => other,
        };
        let takes_arguments = !matches!(
            chosen,
            Action::Daemon | Action::RebuildAliases | Action::QueueRun(_) | Action::Certificates { .. }
        );
        if !takes_arguments && !self.found.arguments.is_empty() {
            return Err(UsageError::incompatible());
        }
        let other_input = matches!(
            chosen,
            Action::Daemon
                | Action::Smtp
                | Action::BatchSmtp
                | Action::ListQueue(_)
                | Action::Certificates { .. }
                | Action::TestAddresses
                | Action::VerifyAddresses { .. }
                | Action::QueueRun(_)
                | Action::RebuildAliases
        );
        if other_input && (extract || self.message_wanted) {
            return Err(UsageError::incompatible());
        }
        self.found.action = chosen;
        Ok(self.found)
    }

    /// `-q` with a time makes a daemon, without one a single run.
    fn queue_action(&mut self) -> Result<(), UsageError> {
        if self.found.daemon.queue_interval.is_some() {
            if !self.actions.contains(&Action::Daemon) {
                self.actions.push(Action::Daemon);
            }
            return Ok(());
        }
        if self.actions.contains(&Action::Daemon) {
            return Err(UsageError::incompatible());
        }
        self.actions.push(Action::QueueRun(self.found.daemon.queue_run.clone()));
        Ok(())
    }
}

/// The one of several actions that Exim does when they are given together; none if they contradict.
fn pick(actions: &[Action]) -> Option<Action> {
    let first = |wanted: fn(&Action) -> bool| actions.iter().find(|action| wanted(action)).cloned();
    first(|action| matches!(action, Action::Expand))
        .or_else(|| first(|action| matches!(action, Action::About)))
        .or_else(|| first(|action| matches!(action, Action::Version)))
        .or_else(|| first(|action| matches!(action, Action::LogLine(_))))
        .or_else(|| match actions {
            [Action::VerifyAddresses { .. }, run @ Action::QueueRun(_)] => Some(run.clone()),
            _ => None,
        })
}
