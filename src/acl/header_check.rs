//! Checks of a message's headers: syntax of addresses, blind recipients, names.
//!
//! Specification: `verify = header_syntax`, `not_blind`, `header_names_ascii`.

use crate::expand::context::{Context, MessageVars};
use crate::mail::address_parse::{Syntax, parse_list};
use crate::mail::{Header, HeaderKind};
use bstr::{BString, ByteSlice};

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeaderFault {
    /// For the peer (with `smtp_return_error_details`, or as `$acl_verify_message`).
    pub message: Option<BString>,
    /// For the log.
    pub log_message: BString,
}

impl HeaderFault {
    fn logged(log_message: String) -> Self {
        Self { message: None, log_message: log_message.into() }
    }
}

fn has_addresses(header: &Header) -> bool {
    matches!(
        header.kind,
        HeaderKind::From
            | HeaderKind::Sender
            | HeaderKind::ReplyTo
            | HeaderKind::To
            | HeaderKind::Cc
            | HeaderKind::Bcc
    )
}

/// Every address of From:, Sender:, Reply-To:, To:, Cc: and Bcc: must parse, and be qualified.
pub(super) fn check_syntax(context: &Context) -> Result<(), HeaderFault> {
    let main = &context.globals.main;
    let syntax = Syntax {
        domain_literals: main.bool("allow_domain_literals"),
        utf8_domains: main.bool("allow_utf8_domains"),
        strip_trailing_dot: main.bool("strip_trailing_dot"),
        null: false,
    };
    for header in context.message.headers.iter().filter(|header| has_addresses(header)) {
        for item in parse_list(header.body(), syntax) {
            let text = header.body()[item.span].as_bstr();
            let name = header.name();
            let why = match item.parsed {
                Ok(parsed) if parsed.address.domain().is_empty() && context.session.origin.host.is_some() => {
                    "unqualified address not permitted".into()
                }
                Ok(_) => continue,
                Err(error) => error.message.to_string(),
            };
            return Err(HeaderFault::logged(format!(
                "{why}: failing address in \"{name}:\" header is: {text}"
            )));
        }
    }
    Ok(())
}

/// Every envelope recipient must stand in To: or Cc:.
pub(super) fn check_not_blind(message: &MessageVars, case_insensitive: bool) -> Result<(), HeaderFault> {
    let syntax = Syntax { domain_literals: true, utf8_domains: true, ..Syntax::default() };
    let shown: Vec<_> = message
        .headers
        .iter()
        .filter(|header| matches!(header.kind, HeaderKind::To | HeaderKind::Cc))
        .flat_map(|header| parse_list(header.body(), syntax))
        .filter_map(|item| item.parsed.ok())
        .collect();
    let is_shown = |recipient: &crate::mail::Address| {
        shown.iter().any(|parsed| {
            let same_local = if case_insensitive {
                parsed.address.local_part().eq_ignore_ascii_case(recipient.local_part())
            } else {
                parsed.address.local_part() == recipient.local_part()
            };
            same_local && parsed.address.domain().eq_ignore_ascii_case(recipient.domain())
        })
    };
    if message.recipients.iter().all(is_shown) {
        return Ok(());
    }
    Err(HeaderFault::logged("bcc recipient detected".into()))
}

/// Header names are printable ASCII.
pub(super) fn check_names(headers: &[Header]) -> Result<(), HeaderFault> {
    match headers.iter().find(|header| !header.name().iter().all(u8::is_ascii_graphic)) {
        None => Ok(()),
        Some(header) => {
            Err(HeaderFault::logged(format!("Invalid character in header \"{}\" found", header.name())))
        }
    }
}
