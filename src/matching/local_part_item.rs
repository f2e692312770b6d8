//! Items of local part lists: those of domain lists without `@`.

use super::walk::{Answer, Item, State};
use super::{MatchError, pattern};
use crate::expand::Context;
use crate::text::Value;

/// Local part lists, for one local part.
pub struct LocalPartItem<'w, 'h> {
    /// Where patterns leave their captures.
    pub context: &'w Context<'h>,
    /// The local part, in its own case.
    pub local_part: &'w Value,
}

impl Item for LocalPartItem<'_, '_> {
    fn matches(&self, item: &Value, state: &State) -> Result<Answer, MatchError> {
        let lower;
        let subject = if state.caseful {
            self.local_part
        } else {
            lower = self.local_part.derive(self.local_part.bytes().to_ascii_lowercase());
            &lower
        };
        let text = item.bytes();
        let caseless = !state.caseful;
        let matched = |yes: bool| if yes { Answer::Yes(Some(item.clone())) } else { Answer::No };
        match text.as_ref() as &[u8] {
            b"" => Ok(matched(subject.is_empty())),
            [b'*', end @ ..] => Ok(matched(pattern::ends_with(self.context, subject, end, caseless))),
            [b'^', ..] => pattern::regex(self.context, subject, item, caseless).map(matched),
            _ => match pattern::as_lookup(item)? {
                Some((kind, data)) => pattern::lookup(self.context, &kind, &data, subject),
                None => Ok(matched(pattern::equals(subject.bytes(), text, caseless))),
            },
        }
    }
}
