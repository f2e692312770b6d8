//! `-M...`: messages of the queue, by id. All arguments that follow belong to it.

use super::parser::Parser;
use super::{Action, MessageCommand, UsageError};
use crate::mail::MessageId;
use crate::queue::Act;
use bstr::{BString, ByteSlice};

pub(super) fn read(parser: &mut Parser, rest: &[u8]) -> Result<(), UsageError> {
    let what = match rest {
        b"" => Act::Deliver,
        b"c" => Act::DeliverIfDue,
        b"rm" => Act::Remove,
        b"f" => Act::Freeze,
        b"t" => Act::Thaw,
        b"g" => Act::GiveUp,
        b"ar" => Act::AddRecipients,
        b"es" => Act::EditSender,
        b"md" => Act::MarkDelivered,
        b"mad" => Act::MarkAllDelivered,
        b"vh" => Act::ViewHeader,
        b"vb" => Act::ViewBody,
        b"vl" => Act::ViewLog,
        b"vc" => Act::ViewCopy,
        b"set" => return loaded_message(parser),
        b"G" => return Err(UsageError::not_built(parser.option)),
        other if is_internal(other) => return internal(parser, other),
        _ => return Err(UsageError::bad_option(parser.option)),
    };
    let option = parser.option.to_str_lossy().into_owned();
    let mut items = parser.take_all();
    if items.is_empty() {
        return Err(UsageError::new(format!("exim: no message ids given after {option} option")));
    }
    let takes_addresses = matches!(what, Act::AddRecipients | Act::EditSender | Act::MarkDelivered);
    let addresses = if takes_addresses { items.split_off(1) } else { Vec::new() };
    let ids = items.iter().map(|item| message_id(item, &option)).collect::<Result<Vec<_>, _>>()?;
    parser.act(Action::Messages(MessageCommand { what, option, ids, addresses }));
    Ok(())
}

fn message_id(item: &BString, option: &str) -> Result<MessageId, UsageError> {
    MessageId::parse(item)
        .ok_or_else(|| UsageError::new(format!("exim: malformed message id {item} after {option} option")))
}

/// `-Mset` and one message id, for `-be`.
fn loaded_message(parser: &mut Parser) -> Result<(), UsageError> {
    let item = parser.next_or("exim: no message ids given after -Mset option".into())?;
    message_id(&item, "-Mset")?;
    parser.found.loaded_message = Some(item);
    Ok(())
}

/// `-MC...`: how Exim's processes call each other; oxim's do not, so a caller who uses them means Exim.
fn is_internal(rest: &[u8]) -> bool {
    const LETTERS: &[&[u8]] = &[
        b"C", b"CA", b"CD", b"Cd", b"CG", b"CK", b"CL", b"CP", b"Cp", b"CQ", b"Cq", b"CS", b"CT", b"Cr",
        b"Cs", b"Ct",
    ];
    LETTERS.contains(&rest)
}

fn internal(parser: &mut Parser, rest: &[u8]) -> Result<(), UsageError> {
    /// Transport, host name, address, port, sequence number, message id.
    const ARGUMENTS: usize = 6;
    let option = parser.option;
    if rest == b"C" && parser.take_all().len() != ARGUMENTS {
        return Err(UsageError::new("exim: too many or too few arguments after -MC"));
    }
    Err(UsageError::not_built(option))
}
