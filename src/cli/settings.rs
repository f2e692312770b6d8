//! What of the command line holds for everything a process does, beside what the configuration says: handed to the
//! roles with the snapshot of the configuration, and used by a process that does the work itself.

use super::args::{DeliveryMode, Invocation};
use bstr::BString;

/// Names and values, as [`crate::process::snapshot::Snapshot::setting`] finds them.
pub fn of(invocation: &Invocation) -> Vec<(BString, BString)> {
    let run = &invocation.daemon.queue_run;
    let message = &invocation.message;
    let flags = [
        ("verbose", invocation.verbose),
        ("tls_on_connect", message.tls_on_connect),
        ("suppress_fixups", message.suppress_fixups),
        ("queue_only", message.delivery == DeliveryMode::Queue),
        ("no_submission", invocation.daemon.no_notifier),
        ("two_stage", run.two_stage),
        ("first_only", run.first_only),
        ("force", run.force),
        ("force_frozen", run.force_frozen),
        ("local_only", run.local_only),
    ];
    let mut settings: Vec<(BString, BString)> =
        flags.iter().filter(|(_, set)| *set).map(|(name, _)| ((*name).into(), "yes".into())).collect();
    if let Some(time) = message.smtp_timeout {
        settings.push(("smtp_timeout".into(), format!("{}s", time.as_secs()).into()));
    }
    if let Some(interval) = invocation.daemon.queue_interval {
        settings.push(("queue_interval".into(), interval.as_secs().to_string().into()));
    }
    if let Some(debug) = invocation.debug.as_ref().filter(|_| !invocation.debug_not_passed_on) {
        settings.push(("debug".into(), debug.clone()));
    }
    for (name, selection) in [("recipient", &run.recipient), ("sender", &run.sender)] {
        if let Some(selection) = selection {
            let kind = if selection.regex { format!("{name}_regex") } else { name.to_owned() };
            settings.push((kind.into(), selection.text.clone()));
        }
    }
    settings
}
