//! Queue runs: every message that is due, one after the other (spec section on `-q`, and chapter "How Exim
//! receives and delivers mail").

use crate::deliver::{self, Env, How, OwnMail};
use crate::log::{Selector, Which};
use crate::mail::MessageId;
use crate::spool::{message, scan};
use crate::wire_struct;
use bstr::{BStr, BString, ByteSlice};
use pcre2::bytes::Regex;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

wire_struct! {
    /// Which messages, and how.
    pub struct Run {
        /// `-qq`: route all, then deliver.
        pub two_stage: bool,
        /// `i`: messages not yet tried only.
        pub first_only: bool,
        /// `f`: whatever the retry time.
        pub force: bool,
        /// `ff`: frozen messages too.
        pub force_frozen: bool,
        /// `l`: local deliveries only.
        pub local_only: bool,
        /// `-R`
        pub recipient: Option<Selection>,
        /// `-S`
        pub sender: Option<Selection>,
        /// First and last message id.
        pub from: Option<BString>,
        /// See above.
        pub to: Option<BString>,
    }
}

wire_struct! {
    /// What an address must contain.
    pub struct Selection {
        /// The text, whatever its case.
        pub text: BString,
        /// It is a regular expression.
        pub regex: bool,
    }
}

/// Runs the queue once. The order is random unless `queue_run_in_order`, so that one bad message
/// does not always come before the same others.
pub fn run(env: &Env, run: &Run) {
    let log = env.log();
    let what = format!("pid={}{}", std::process::id(), options(run));
    let tell = |word: &str| {
        let line = format!("{word} queue run: {what}");
        log.optional(Selector::QueueRun, Which::Main, line.as_bytes().as_bstr());
    };
    tell("Start");
    let rounds = if run.two_stage { 2 } else { 1 };
    for _ in 0..rounds {
        one_round(env, run);
    }
    let expire = env.globals.main.time("retry_data_expire").as_secs();
    if expire > 0 {
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        env.hints.tidy_retry(i64::try_from(now.saturating_sub(expire)).unwrap_or(0));
    }
    deliver::damaged::tidy(env);
    tell("End");
}

/// Messages that were never tried, the oldest first: some may not have been told to the delivery worker.
pub fn untried(env: &Env) -> Vec<MessageId> {
    let mut found = entries(env);
    found.retain(|entry| {
        let header = message::read_header(&entry.directory, &entry.id);
        header.is_ok_and(|(envelope, _)| envelope.first_time && envelope.frozen.is_none())
    });
    found.into_iter().map(|entry| entry.id).collect()
}

fn one_round(env: &Env, run: &Run) {
    let (recipient, sender) = (Needle::new(run.recipient.as_ref()), Needle::new(run.sender.as_ref()));
    let selective = recipient.is_some() || sender.is_some();
    let mut entries = entries(env);
    if !env.globals.main.bool("queue_run_in_order") {
        shuffle(&mut entries);
    }
    let mut first = true;
    for entry in entries {
        ::log::debug!(target: "queue_run", "message {}", entry.id);
        if !in_range(&entry.id, run) || (selective && !is_selected(&entry, &recipient, &sender)) {
            continue;
        }
        let how = How {
            // The first message of a selection is tried whatever its retry times.
            force: run.force || run.force_frozen || (selective && first),
            thaw: run.force_frozen,
            queue_run: true,
            local_only: run.local_only,
            first_only: run.first_only,
            give_up: false,
            own_mail: OwnMail::After,
        };
        first = false;
        deliver::deliver(env, &entry.id, how);
    }
}

fn entries(env: &Env) -> Vec<scan::Entry> {
    match scan::scan(&env.layout) {
        Ok(entries) => entries,
        Err(error) => {
            let text = format!("failed to read the spool: {error}");
            env.log().panic(text.as_bytes().as_bstr());
            Vec::new()
        }
    }
}

fn shuffle(entries: &mut [scan::Entry]) {
    let random = RandomState::new();
    entries.sort_by_cached_key(|entry| {
        let mut hasher = random.build_hasher();
        hasher.write(entry.id.as_bstr());
        hasher.finish()
    });
}

fn in_range(id: &MessageId, run: &Run) -> bool {
    let id = id.as_bstr();
    run.from.as_ref().is_none_or(|from| id >= from.as_bstr())
        && run.to.as_ref().is_none_or(|to| id <= to.as_bstr())
}

/// A text or pattern to look for in addresses.
enum Needle {
    Text(BString),
    Pattern(Box<Regex>),
    /// A pattern that cannot be read finds nothing.
    Nothing,
}

impl Needle {
    fn new(selection: Option<&Selection>) -> Option<Self> {
        let selection = selection?;
        if !selection.regex {
            return Some(Self::Text(selection.text.to_ascii_lowercase().into()));
        }
        let pattern = selection.text.to_str_lossy();
        let found = pcre2::bytes::RegexBuilder::new().caseless(true).build(&pattern);
        Some(found.map_or(Self::Nothing, |regex| Self::Pattern(Box::new(regex))))
    }
    fn is_in(&self, address: &BStr) -> bool {
        match self {
            Self::Text(text) => address.to_ascii_lowercase().contains_str(text),
            Self::Pattern(regex) => regex.is_match(address).unwrap_or(false),
            Self::Nothing => false,
        }
    }
}

fn is_selected(entry: &scan::Entry, recipient: &Option<Needle>, sender: &Option<Needle>) -> bool {
    let Ok((envelope, _)) = message::read_header(&entry.directory, &entry.id) else { return false };
    let sender_fits = sender.as_ref().is_none_or(|needle| needle.is_in(envelope.sender.to_bytes().as_bstr()));
    let recipient_fits = recipient.as_ref().is_none_or(|needle| {
        envelope.recipients.iter().any(|recipient| {
            let address = recipient.address.to_bytes();
            !envelope.done.contains(&address) && needle.is_in(address.as_bstr())
        })
    });
    sender_fits && recipient_fits
}

/// ` -qff -R text`, as the log shows a run.
fn options(run: &Run) -> String {
    let mut letters = String::new();
    for (set, letter) in [
        (run.two_stage, "q"),
        (run.first_only, "i"),
        (run.force && !run.force_frozen, "f"),
        (run.force_frozen, "ff"),
        (run.local_only, "l"),
    ] {
        if set {
            letters.push_str(letter);
        }
    }
    let mut text = if letters.is_empty() { String::new() } else { format!(" -q{letters}") };
    for (option, selection) in [("-R", &run.recipient), ("-S", &run.sender)] {
        if let Some(selection) = selection {
            let regex = if selection.regex { "r" } else { "" };
            text.push_str(&format!(" {option}{regex} {}", selection.text));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_in_the_log_as_it_was_asked_for() {
        let text = |text: &str| Some(Selection { text: text.into(), regex: false });
        assert_eq!(options(&Run::default()), "");
        assert_eq!(options(&Run { force: true, force_frozen: true, ..Run::default() }), " -qff");
        assert_eq!(options(&Run { two_stage: true, ..Run::default() }), " -qq");
        assert_eq!(options(&Run { force: true, recipient: text("zz"), ..Run::default() }), " -qf -R zz");
        assert_eq!(options(&Run { sender: text("x"), ..Run::default() }), " -S x");
    }
}
