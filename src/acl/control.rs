//! The `control` modifier.
//!
//! Specification: section "Use of the control modifier".

use super::effects::{Freeze, MessageEffects, SessionEffects, Submission};
use super::place::{Place, places_of_control};
use super::unsupported;
use crate::config::ConfigError;
use crate::syntax::Template;
use bstr::{BStr, ByteSlice};

/// One control, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Control {
    CasefulLocalPart(bool),
    /// Signatures are not verified by this version, so there is nothing to disable.
    DkimDisableVerify,
    EnforceSync(bool),
    Freeze(Freeze),
    NoDelayFlush,
    NoMultilineResponses,
    NoPipelining,
    Queue,
    Submission(Submission),
    SuppressLocalFixups,
}

/// Why a control cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ControlError {
    Syntax,
    NotBuilt,
}

const NOT_BUILT: &[&str] = &[
    "allow_auth_unadvertised",
    "cutthrough_delivery",
    "debug",
    "dmarc_disable_verify",
    "dmarc_enable_forensic",
    "dscp",
    "fakedefer",
    "fakereject",
    "no_callout_flush",
    "no_mbox_unspool",
    "utf8_downconvert",
    "wellknown",
];

impl Control {
    /// Reads `name/option/option`; gives the name, without options, as messages show it.
    pub(super) fn parse(text: &BStr) -> (&'static str, Result<Control, ControlError>) {
        let mut parts = text.splitn_str(2, "/");
        let name = parts.next().unwrap_or_default().trim().as_bstr();
        let options = parts.next().map(BStr::new);
        if let Some(known) = NOT_BUILT.iter().find(|known| **known == name) {
            return (known, Err(ControlError::NotBuilt));
        }
        let plain =
            |control: Control| if options.is_none() { Ok(control) } else { Err(ControlError::Syntax) };
        match name.to_str().unwrap_or_default() {
            "caseful_local_part" => ("caseful_local_part", plain(Self::CasefulLocalPart(true))),
            "caselower_local_part" => ("caselower_local_part", plain(Self::CasefulLocalPart(false))),
            "dkim_disable_verify" => ("dkim_disable_verify", plain(Self::DkimDisableVerify)),
            "enforce_sync" => ("enforce_sync", plain(Self::EnforceSync(true))),
            "no_enforce_sync" => ("no_enforce_sync", plain(Self::EnforceSync(false))),
            "no_delay_flush" => ("no_delay_flush", plain(Self::NoDelayFlush)),
            "no_multiline_responses" => ("no_multiline_responses", plain(Self::NoMultilineResponses)),
            "no_pipelining" => ("no_pipelining", plain(Self::NoPipelining)),
            "suppress_local_fixups" => ("suppress_local_fixups", plain(Self::SuppressLocalFixups)),
            "freeze" => ("freeze", parse_freeze(options)),
            "queue" => ("queue", parse_queue(options)),
            "queue_only" => ("queue", plain(Self::Queue)),
            "submission" => ("submission", parse_submission(options)),
            _ => ("", Err(ControlError::Syntax)),
        }
    }

    /// Puts it into effect. `caseful` is the case of `$local_part` in the rest of the ACL.
    pub(super) fn apply(
        self,
        session: &mut SessionEffects,
        message: &mut MessageEffects,
        caseful: &mut bool,
    ) {
        match self {
            Self::CasefulLocalPart(yes) => *caseful = yes,
            Self::DkimDisableVerify => {}
            Self::EnforceSync(yes) => session.enforce_sync = Some(yes),
            Self::Freeze(new) => {
                let no_tell = new.no_tell && message.freeze.is_none_or(|old| old.no_tell);
                message.freeze = Some(Freeze { no_tell });
            }
            Self::NoDelayFlush => session.no_delay_flush = true,
            Self::NoMultilineResponses => session.no_multiline_responses = true,
            Self::NoPipelining => session.no_pipelining = true,
            Self::Queue => message.queue_only = true,
            Self::Submission(submission) => message.submission = Some(submission),
            Self::SuppressLocalFixups => message.suppress_local_fixups = true,
        }
    }
}

fn parse_freeze(options: Option<&BStr>) -> Result<Control, ControlError> {
    match options.map(|text| text.trim()) {
        None => Ok(Control::Freeze(Freeze { no_tell: false })),
        Some(b"no_tell") => Ok(Control::Freeze(Freeze { no_tell: true })),
        Some(_) => Err(ControlError::Syntax),
    }
}

fn parse_queue(options: Option<&BStr>) -> Result<Control, ControlError> {
    match options.map(|text| text.trim()) {
        None => Ok(Control::Queue),
        Some(b"first_pass_route" | b"only") => Err(ControlError::NotBuilt),
        Some(_) => Err(ControlError::Syntax),
    }
}

/// `sender_retain`, `domain=x`, `name=y` in any order; `name` takes the rest, slashes and all.
fn parse_submission(options: Option<&BStr>) -> Result<Control, ControlError> {
    let mut submission = Submission::default();
    let mut rest = options.unwrap_or_default();
    while !rest.is_empty() {
        if let Some(name) = rest.strip_prefix(b"name=") {
            submission.name = Some(name.into());
            break;
        }
        let (option, after) = rest.split_once_str("/").unwrap_or((rest, b""));
        rest = after.as_bstr();
        match option.strip_prefix(b"domain=") {
            Some(domain) => submission.domain = Some(domain.into()),
            None if option == b"sender_retain" => submission.sender_retain = true,
            None => return Err(ControlError::Syntax),
        }
    }
    Ok(Control::Submission(submission))
}

/// Checks a control that needs no expansion.
pub(super) fn check(argument: &Template) -> Option<ConfigError> {
    let text = argument.text();
    let dollar = text.find_byte(b'$');
    match (Control::parse(&text[..dollar.unwrap_or(text.len())]).1, dollar) {
        (Err(ControlError::NotBuilt), _) => {
            Some(unsupported(argument.at(), format!("ACL \"control = {text}\"")))
        }
        (Err(ControlError::Syntax), None) => Some(ConfigError {
            at: argument.at().clone(),
            message: format!("error in ACL: syntax error in \"control={text}\""),
            line: None,
            unsupported: false,
        }),
        _ => None,
    }
}

/// May the control be used in this place?
pub(super) fn is_allowed(name: &str, place: Place) -> bool {
    places_of_control(name).contains(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn submission_takes_its_options_in_any_order_and_the_name_to_the_end() {
        let (name, control) = Control::parse("submission/domain=/sender_retain/name=A/B".into());
        assert_eq!(name, "submission");
        assert_eq!(
            control,
            Ok(Control::Submission(Submission {
                sender_retain: true,
                domain: Some("".into()),
                name: Some("A/B".into())
            }))
        );
        assert_eq!(Control::parse("submission/foo".into()).1, Err(ControlError::Syntax));
    }

    #[test]
    fn a_freeze_is_told_unless_every_freeze_says_no_tell() {
        let mut message = MessageEffects::default();
        for (text, no_tell) in [("freeze/no_tell", true), ("freeze", false), ("freeze/no_tell", false)] {
            let control = Control::parse(text.into()).1.unwrap();
            control.apply(&mut SessionEffects::default(), &mut message, &mut false);
            assert_eq!(message.freeze, Some(Freeze { no_tell }));
        }
    }
}
