//! `-b...`: what the program is to be.

use super::parser::Parser;
use super::{Action, UsageError};
use crate::queue::Listing;

pub(super) fn read(parser: &mut Parser, rest: &[u8]) -> Result<(), UsageError> {
    let action = match rest {
        b"d" | b"df" => {
            parser.found.daemon.listen = true;
            parser.found.daemon.foreground |= rest == b"df";
            Action::Daemon
        }
        b"e" => Action::Expand,
        b"i" => Action::RebuildAliases,
        b"m" => {
            parser.want_message();
            return Ok(());
        }
        b"nq" => {
            parser.found.message.no_qualify = true;
            return Ok(());
        }
        b"P" => Action::Print,
        b"s" => Action::Smtp,
        b"S" => Action::BatchSmtp,
        b"t" => Action::TestAddresses,
        b"v" | b"vs" => Action::VerifyAddresses { as_sender: rest == b"vs" },
        b"V" => Action::Version,
        b"rt" => Action::TestRetry,
        b"f" | b"F" => return refuse_after(parser, "file name"),
        b"fd" | b"fl" | b"fp" | b"fs" => return refuse_after(parser, "string"),
        b"h" | b"hc" => return fake_session(parser),
        b"em" | b"malware" => {
            let option = parser.option;
            parser.next_or(UsageError::bad_option(option).text)?;
            return Err(UsageError::not_built(option));
        }
        b"rw" => return Err(UsageError::not_built(parser.option)),
        other if other.starts_with(b"p") => queue_listing(parser, &other[1..])?,
        other if other.starts_with(b"I:") => information(parser, &other[2..])?,
        other if other.starts_with(b"w") => return Err(UsageError::not_built(parser.option)),
        _ => return Err(UsageError::bad_option(parser.option)),
    };
    parser.act(action);
    Ok(())
}

/// Options of filter tests, which are not built: a missing argument is Exim's complaint first.
fn refuse_after(parser: &mut Parser, expected: &str) -> Result<(), UsageError> {
    let option = parser.option;
    parser.next_or(format!("exim: {expected} expected after {option}"))?;
    Err(UsageError::not_built(option))
}

/// `-bh`, `-bhc`: the address is checked, the session is not built.
fn fake_session(parser: &mut Parser) -> Result<(), UsageError> {
    let option = parser.option;
    let address = parser.next_or(UsageError::bad_option(option).text)?;
    super::time::host_and_port(&address)?;
    Err(UsageError::not_built(option))
}

/// `-bp`, `-bpa`, `-bpc`, `-bpi`, `-bpr`, `-bpra`, `-bpri`, `-bpru`, `-bpu`.
fn queue_listing(parser: &Parser, letters: &[u8]) -> Result<Action, UsageError> {
    let mut listing = Listing::default();
    match letters {
        b"" => {}
        b"a" => listing.all = true,
        b"c" => listing.count = true,
        b"i" => listing.ids = true,
        b"r" => listing.unsorted = true,
        b"ra" => (listing.unsorted, listing.all) = (true, true),
        b"ri" => (listing.unsorted, listing.ids) = (true, true),
        b"ru" => (listing.unsorted, listing.undelivered) = (true, true),
        b"u" => listing.undelivered = true,
        _ => return Err(UsageError::bad_option(parser.option)),
    }
    Ok(Action::ListQueue(listing))
}

/// `-bI:...`: help is what Exim gives for any word it does not know.
fn information(parser: &Parser, word: &[u8]) -> Result<Action, UsageError> {
    match word {
        b"dscp" | b"modules" | b"sieve" => Err(UsageError::not_built(parser.option)),
        _ => Ok(Action::InfoHelp),
    }
}
