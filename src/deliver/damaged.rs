//! Messages that cannot be read: -H is corrupt, or -D is not there. Such a message stays as it is and counts as frozen:
//! it is named once in the panic log (and to `freeze_tell`), queue runs pass over it, and `-M` and `-qff` try it again. When its -H is another
//! file, or -D is back, it is a message like any other.
//!
//! It cannot bear the mark itself, so the hints keep it (`hints::damaged`), bound to the -H that was seen. Nothing here
//! ever changes or removes a file of the message: only `-Mrm` does.

use super::bounce::from_header;
use super::env::{Delivery, Env, How};
use super::freeze::told;
use super::message::line;
use crate::expand::Context;
use crate::expand::context::NoHooks;
use crate::hints::damaged::Damage;
use crate::log::{Selector, Which};
use crate::mail::{Address, MessageId};
use crate::spool::layout::file_name;
use crate::spool::message::OpenError;
use crate::upward::NewMessage;
use bstr::ByteSlice;
use std::fs::{self, Metadata};
use std::sync::Arc;

/// Exim's words for the log, and what they do not tell.
struct Words {
    line: String,
    detail: String,
}

/// Says what is wrong with the message, unless that is known.
pub fn pass_over(env: &Env, id: &MessageId, how: How, error: &OpenError) -> Delivery {
    let words = words_of(id, error);
    let damage = Damage::new(header_file(env, id).as_ref(), words.line.as_str());
    let known = env.hints.damage(id).is_some_and(|known| known == damage);
    let log = env.log();
    if known && !how.thaw {
        if log.selectors().has(Selector::SkipDelivery) {
            log.write(Which::Main, line(id, "Message is frozen").as_bstr());
        }
        return Delivery::Frozen;
    }
    log.write(Which::Main, line(id, &words.line).as_bstr());
    if !known {
        log.write(Which::Panic, line(id, &words.line).as_bstr());
        log.write(Which::Main, line(id, &format!("Frozen ({})", words.detail)).as_bstr());
        env.hints.put_damage(id, &damage);
        tell(env, id, &words);
    }
    Delivery::Frozen
}

/// The message to `freeze_tell`.
fn tell(env: &Env, id: &MessageId, words: &Words) {
    let recipients = told(env);
    if recipients.is_empty() {
        return;
    }
    let from = from_header(&Context::new(Arc::clone(&env.globals), &NoHooks));
    let to = bstr::join(", ", recipients.iter().map(Address::to_bytes));
    let text = format!(
        "Auto-Submitted: auto-replied\nFrom: {from}\nTo: {}\nSubject: Message frozen\n\n\
         Message {id} has been frozen: it cannot be read.\n\n  {}\n  {}\n\n\
         Its files are left as they are. Once they are mended, the next queue run\n\
         delivers the message; -Mrm removes it.\n",
        to.as_bstr(),
        words.line,
        words.detail
    );
    let new = NewMessage {
        recipients,
        text: text.into_bytes(),
        about: Some(id.clone()),
        local_error: true,
        ..NewMessage::default()
    };
    if let Err(error) = env.submit.submit(new) {
        let text = format!("failed to send a message about freezing: {error}");
        env.log().panic(line(id, &text).as_bstr());
    }
}

/// The files of a message that is in the queue as far as -H tells: is -D missing?
pub fn lacks_data(env: &Env, id: &MessageId) -> bool {
    let places = env.layout.places_of(id);
    let has = |letter| places.iter().any(|place| place.join(file_name(id, letter)).exists());
    // -H is asked last: whoever removes a message removes it first.
    !has('D') && has('H')
}

/// Forgets what is gone or was mended.
pub fn tidy(env: &Env) {
    for (id, damage) in env.hints.all_damaged() {
        let now = Damage::new(header_file(env, &id).as_ref(), damage.what.clone());
        if now != damage {
            env.hints.remove_damage(&id);
        }
    }
}

fn header_file(env: &Env, id: &MessageId) -> Option<Metadata> {
    env.layout.places_of(id).iter().find_map(|place| fs::metadata(place.join(file_name(id, 'H'))).ok())
}

fn words_of(id: &MessageId, error: &OpenError) -> Words {
    let (line, detail) = match error {
        OpenError::Gone => (
            format!("Spool file {id}-D not found"),
            format!("{id}-H is there without it: the body of this message is lost, or elsewhere"),
        ),
        OpenError::Format { name, source, .. } => {
            (error.to_string(), format!("{name} line {}: expected {}", source.line, source.what))
        }
        other => (other.to_string(), "its files cannot be read".into()),
    };
    Words { line, detail }
}
