//! Variables of the SMTP session or local submission a message comes through.

use super::variable::{Row, number, outside, own};
use crate::expand::Context;
use crate::log::Selector;
use crate::mail::host_text;
use crate::matching::host_name::{self, HostName};
use crate::text::Value;

/// Name to value.
pub const TABLE: &[Row] = &[
    ("authenticated_id", |c| c.session.origin.authenticated_id.as_deref().and_then(|text| outside(text))),
    ("authenticated_sender", |c| {
        c.session.origin.authenticated_sender.as_deref().and_then(|text| outside(text))
    }),
    ("authentication_failed", |c| number(u8::from(c.session.authentication_failed))),
    ("caller_gid", |c| number(c.session.caller_gid)),
    ("caller_uid", |c| number(c.session.caller_uid)),
    ("connection_id", |_| None),
    ("host_lookup_deferred", |c| {
        let now = matches!(c.dynamic.borrow().sender_host, Some(HostName::TryLater(_)));
        number(u8::from(c.session.origin.host_lookup_deferred || now))
    }),
    ("host_lookup_failed", |c| {
        let found = &c.dynamic.borrow().sender_host;
        let now = matches!(found, Some(HostName::NotFound(_) | HostName::Mismatch(_)));
        number(u8::from(c.session.origin.host_lookup_failed || now))
    }),
    ("interface_address", interface_address),
    ("interface_port", interface_port),
    ("rcpt_count", |c| number(c.session.rcpt_count)),
    ("rcpt_defer_count", |c| number(c.session.rcpt_defer_count)),
    ("rcpt_fail_count", |c| number(c.session.rcpt_fail_count)),
    ("received_ip_address", interface_address),
    ("received_port", interface_port),
    ("received_protocol", |c| own(&c.session.origin.protocol)),
    ("sender_fullhost", |c| outside(&host_text::full_host(&c.session.origin, shows_port(c)))),
    ("sender_helo_dnssec", |_| Some(Value::clean("no"))),
    ("sender_helo_name", |c| c.session.origin.helo.as_deref().and_then(|text| outside(text))),
    ("sender_helo_verified", |c| {
        Some(Value::clean(if c.session.origin.helo_verified { "yes" } else { "no" }))
    }),
    ("sender_host_address", |c| c.session.origin.host.and_then(|host| number(host.ip()))),
    ("sender_host_authenticated", |c| c.session.origin.authenticator.as_deref().and_then(|text| own(text))),
    ("sender_host_dnssec", |_| Some(Value::clean("no"))),
    ("sender_host_name", host_name),
    ("sender_host_port", |c| number(c.session.origin.host.map_or(0, |host| host.port()))),
    ("sender_ident", |c| c.session.origin.ident.as_deref().and_then(|text| outside(text))),
    ("sender_rcvhost", |c| outside(&host_text::received_host(&c.session.origin, shows_port(c)))),
    ("smtp_active_hostname", active_host_name),
    ("smtp_command", |c| outside(&c.session.smtp_command)),
    ("smtp_command_argument", |c| outside(&c.session.smtp_command_argument)),
    ("smtp_command_history", |c| own(&c.session.smtp_command_history)),
    ("smtp_count_at_connection_start", |c| number(c.session.count_at_start)),
    ("smtp_notquit_reason", |c| own(&c.session.notquit_reason)),
];

fn active_host_name(context: &Context) -> Option<Value> {
    own(&context.session.smtp_active_hostname).or_else(|| own(&context.globals.primary_hostname))
}

fn interface_address(context: &Context) -> Option<Value> {
    context.session.origin.interface.and_then(|(ip, _)| number(ip))
}

fn interface_port(context: &Context) -> Option<Value> {
    number(context.session.origin.interface.map_or(-1, |(_, port)| i32::from(port)))
}

/// `$sender_host_name`: looked up when it is first asked for, if nobody did before.
fn host_name(context: &Context) -> Option<Value> {
    let origin = &context.session.origin;
    if let Some(name) = &origin.host_name {
        return outside(name);
    }
    if context.session.host_name_looked_up || origin.host_lookup_failed {
        return None;
    }
    let known = context.dynamic.borrow().sender_host.clone();
    let found = match known {
        Some(found) => found,
        None => {
            let found = host_name::look_up_and_log(context, origin.host?.ip());
            context.dynamic.borrow_mut().sender_host = Some(found.clone());
            found
        }
    };
    match found {
        HostName::Found(names) => names.first().and_then(|name| outside(name)),
        _ => None,
    }
}

/// Selector `incoming_port`: the port stands after the peer's address.
fn shows_port(context: &Context) -> bool {
    context.globals.log.selectors().has(Selector::IncomingPort)
}
