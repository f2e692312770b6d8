//! `-o...`, and Sendmail's short cuts to some of them (`-e...`, `-p...`).

use super::parser::Parser;
use super::time::{host_and_port, interval};
use super::{Action, DeliveryMode, ErrorMode, UsageError};
use bstr::{BString, ByteSlice};

pub(super) fn read(parser: &mut Parser, rest: &[u8]) -> Result<(), UsageError> {
    match rest {
        b"i" | b"itrue" => parser.found.message.dot_is_text = true,
        b"m" | b"o" => {}
        b"v" => parser.found.verbose = true,
        b"A" => drop(parser.next_or("exim: string expected after -oA".into())?),
        b"X" => {
            parser.found.daemon.interfaces = Some(parser.next_or("exim: string expected after -oX".into())?)
        }
        b"P" => {
            parser.found.daemon.pid_file = Some(parser.next_or("exim: file name expected after -oP".into())?)
        }
        b"PX" => parser.act(Action::RemovePidFile),
        b"Y" => parser.found.daemon.no_notifier = true,
        _ => return more(parser, rest),
    }
    Ok(())
}

fn more(parser: &mut Parser, rest: &[u8]) -> Result<(), UsageError> {
    let Some((letter, tail)) = rest.split_first() else {
        return Err(UsageError::bad_option(parser.option));
    };
    match letter {
        b'B' => return connection_max(parser, tail),
        b'd' => return delivery(parser, tail),
        b'e' => return errors(parser, tail),
        b'M' => return message_origin(parser, tail),
        b'r' => parser.found.message.receive_timeout = Some(time(parser, tail)?),
        b's' => parser.found.message.smtp_timeout = Some(time(parser, tail)?),
        _ => return Err(UsageError::bad_option(parser.option)),
    }
    Ok(())
}

/// `-oB`, `-oB5`, `-oB 5`
fn connection_max(parser: &mut Parser, tail: &[u8]) -> Result<(), UsageError> {
    let number = match tail {
        b"" => parser.next_if(|next| next.first().is_some_and(u8::is_ascii_digit)),
        tail => Some(tail.into()),
    };
    let most = match number {
        None => 1,
        Some(number) => number
            .to_str()
            .ok()
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| UsageError::new("exim: number expected after -oB"))?,
    };
    parser.found.connection_max = Some(most);
    Ok(())
}

fn delivery(parser: &mut Parser, tail: &[u8]) -> Result<(), UsageError> {
    let message = &mut parser.found.message;
    message.delivery = match tail {
        b"b" => DeliveryMode::Background,
        b"f" | b"i" if message.delivery == DeliveryMode::QueueSmtp => {
            message.foreground = true;
            DeliveryMode::QueueSmtp
        }
        b"f" | b"i" => DeliveryMode::Foreground,
        b"q" => DeliveryMode::Queue,
        b"qs" => {
            message.foreground |= message.delivery == DeliveryMode::Foreground;
            DeliveryMode::QueueSmtp
        }
        _ => return Err(UsageError::bad_option(parser.option)),
    };
    Ok(())
}

/// `-oe...` and `-e...`
pub(super) fn errors(parser: &mut Parser, tail: &[u8]) -> Result<(), UsageError> {
    parser.found.message.errors = match tail {
        b"e" => ErrorMode::MailQuietly,
        b"m" | b"w" => ErrorMode::Mail,
        b"p" | b"q" => ErrorMode::Print,
        _ => return Err(UsageError::bad_option(parser.option)),
    };
    Ok(())
}

/// `-or5m`, `-or 5m`
fn time(parser: &mut Parser, tail: &[u8]) -> Result<std::time::Duration, UsageError> {
    let option = parser.option;
    // the complaint names a value that stands by itself
    let (text, shown) = match tail {
        b"" => {
            let next = parser.next_if(|_| true);
            (next.clone().unwrap_or_default(), next.unwrap_or_else(|| option.clone()))
        }
        tail => (tail.into(), option.clone()),
    };
    interval(&text).ok_or_else(|| UsageError::new(format!("exim: bad time value {shown}: abandoned")))
}

/// `-oM...`: where the message came from, for trusted callers.
fn message_origin(parser: &mut Parser, letters: &[u8]) -> Result<(), UsageError> {
    let option = parser.option;
    let data = parser.next_or(format!("exim: data expected after {option}"))?;
    let message = &mut parser.found.message;
    match letters {
        b"a" => message.host = Some(host_and_port(&data)?),
        b"i" => message.interface = Some(host_and_port(&data)?),
        b"aa" => message.authenticator = Some(data),
        b"ai" => message.authenticated_id = Some(data),
        b"as" => message.authenticated_sender = Some(data),
        b"m" => {
            if crate::mail::MessageId::parse(&data).is_none() {
                return Err(UsageError::new("-oMm must be a valid message ID"));
            }
            message.reference = Some(data);
        }
        b"r" => return set_protocol(parser, data),
        b"s" => message.host_name = Some(data),
        b"t" => message.ident = Some(data),
        _ => return Err(UsageError::bad_option(option)),
    }
    Ok(())
}

fn set_protocol(parser: &mut Parser, protocol: BString) -> Result<(), UsageError> {
    if parser.found.message.protocol.replace(protocol).is_some() {
        return Err(UsageError::new("received_protocol is set already"));
    }
    Ok(())
}

/// `-p<protocol>:<host>`, or its value in the next argument; `-pd` and `-ps` are about Perl, which is not built.
pub(super) fn protocol_and_host(parser: &mut Parser, rest: &[u8]) -> Result<(), UsageError> {
    match rest {
        b"" => match parser.next_if(|_| true) {
            Some(value) => protocol_then_host(parser, &value),
            None => Err(UsageError::bad_option(parser.option)),
        },
        b"d" | b"s" => Err(UsageError::not_built(parser.option)),
        value => protocol_then_host(parser, value),
    }
}

fn protocol_then_host(parser: &mut Parser, value: &[u8]) -> Result<(), UsageError> {
    let (protocol, host) = match value.split_once_str(":") {
        Some((protocol, host)) => (protocol, Some(host)),
        None => (value, None),
    };
    if let Some(host) = host {
        parser.found.message.host_name = Some(host.into());
    }
    set_protocol(parser, protocol.into())
}
