//! What `-v` shows: each log line as it is written, also those that are not selected, and remarks on what is being
//! done. Goes to whoever asked, which is the terminal or a caller of the submission socket.
//!
//! Specification: option `-v` in chapter "The Exim command line"; the form is Exim's, recorded.

use super::{Selector, Which};
use crate::mail::MessageId;
use bstr::{BStr, BString, ByteSlice};
use std::io::{self, Write};
use std::sync::Arc;

/// Where it goes.
#[derive(Clone)]
pub struct Echo(Arc<Show>);

type Show = dyn Fn(&[u8]) + Send + Sync;

impl std::fmt::Debug for Echo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Echo")
    }
}

impl Echo {
    /// Hands each text to this function.
    pub fn new(show: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        Self(Arc::new(show))
    }

    /// To standard error; one that is closed hears nothing.
    pub fn to_standard_error() -> Self {
        Self::new(|text| drop(io::stderr().lock().write_all(text)))
    }

    /// A log line for these logs; `text` is printable already.
    pub(super) fn line(&self, selector: Option<Selector>, logs: &[Which], text: &[u8]) {
        let mut shown = BString::from("LOG:");
        if let Some(selector) = selector {
            shown.extend_from_slice(format!(" {}", selector.name()).as_bytes());
        }
        for which in logs {
            shown.push(b' ');
            shown.extend_from_slice(which.name().to_ascii_uppercase().as_bytes());
        }
        shown.extend_from_slice(b"\n  ");
        shown.extend_from_slice(without_id(text.as_bstr()));
        shown.push(b'\n');
        (self.0)(&shown);
    }

    /// A remark that is no log line.
    pub(super) fn remark(&self, text: &[u8]) {
        let mut shown = Vec::from(text);
        shown.push(b'\n');
        (self.0)(&shown);
    }
}

/// The id of the message stands in the log only: on the terminal it is said once, when its delivery begins.
fn without_id(text: &BStr) -> &[u8] {
    match text.split_once_str(" ") {
        Some((first, rest)) if MessageId::parse(first).is_some() => rest,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Log, Selectors};
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn lines_that_are_not_selected_are_shown_and_not_written() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let there = heard.clone();
        let selectors = Selectors::parse(b"-queue_run").unwrap();
        let log = Log::memory_with(selectors);
        let log = log.shown_by(Echo::new(move |text| there.lock().unwrap().extend_from_slice(text)));
        log.optional(Selector::QueueRun, Which::Main, "Start queue run".into());
        log.write(Which::Main, "1xVUuV-0003NN-2S => x".into());
        log.panic("1xVUuV-0003NN-2S trouble".into());
        log.rejected("refused".into());
        log.remark("delivering");
        let shown = String::from_utf8(heard.lock().unwrap().clone()).unwrap();
        assert_eq!(
            shown,
            "LOG: queue_run MAIN\n  Start queue run\nLOG: MAIN\n  => x\nLOG: MAIN PANIC\n  trouble\n\
             LOG: MAIN REJECT\n  refused\ndelivering\n"
        );
        let written: Vec<Which> = log.lines().into_iter().map(|(which, _)| which).collect();
        assert_eq!(written, [Which::Main, Which::Main, Which::Panic, Which::Main, Which::Reject]);
    }
}
