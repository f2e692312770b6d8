//! Who hands a message in: login, full name, and the sender that the message gets.

use super::Asked;
use super::args::MessageSettings;
use crate::config::Options;
use crate::expand::context::{Context, NoHooks};
use crate::expand::expand;
use crate::mail::{Address, MessageId, Origin, Syntax, parse_address};
use crate::matching;
use crate::receive::Caller;
use crate::smtp_in::LocalCall;
use crate::text::Value;
use anyhow::{anyhow, bail};
use bstr::{BString, ByteSlice};
use std::net::SocketAddr;

/// The sender that a message gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The reverse path, qualified.
    pub address: Address,
    /// A caller who is not trusted chose it (`untrusted_set_sender`).
    pub set_untrusted: bool,
}

/// The caller's login and full name.
pub fn caller(asked: &Asked) -> anyhow::Result<Caller> {
    let (uid, gid) = (asked.standing.uid, asked.standing.gid);
    let entry = asked.globals.users.by_uid(uid)?;
    let main = &asked.globals.main;
    let (login, gecos) = match entry {
        Some(entry) => (entry.name, entry.gecos),
        None => match asked.expand_option("unknown_login")?.filter(|login| !login.is_empty()) {
            Some(login) => (login, main.plain("unknown_username").unwrap_or_default()),
            None => bail!("exim: failed to get user name for uid {uid}"),
        },
    };
    let full_name = match &asked.invocation.message.full_name {
        Some(name) => name.clone(),
        // The name in the password file does not belong to the address that is given.
        None if asked.standing.trusted && asked.invocation.message.sender.is_some() => BString::default(),
        None => name_from_gecos(asked, &gecos, &login)?,
    };
    Ok(Caller { login, uid, gid, full_name, trusted: asked.standing.trusted })
}

/// `gecos_pattern` and `gecos_name`; `&` in the field stands for the login name with a capital.
fn name_from_gecos(asked: &Asked, gecos: &BString, login: &BString) -> anyhow::Result<BString> {
    let mut capital = login.clone();
    if let Some(first) = capital.first_mut() {
        first.make_ascii_uppercase();
    }
    let field = BString::from(gecos.replace("&", capital.as_slice()));
    let main = &asked.globals.main;
    let (Some(pattern), Some(name)) = (main.plain("gecos_pattern"), main.text("gecos_name")) else {
        return Ok(field);
    };
    let regex = pattern.to_str().ok().and_then(|pattern| pcre2::bytes::Regex::new(pattern).ok());
    let regex = regex.ok_or_else(|| anyhow!("gecos_pattern is not a regular expression"))?;
    let Ok(Some(found)) = regex.captures(&field) else { return Ok(field) };
    let context = Context::new(asked.globals.clone(), &NoHooks);
    context.dynamic.borrow_mut().captures =
        (0..found.len()).map(|number| found.get(number).map(|part| Value::clean(part.as_bytes()))).collect();
    Ok(expand(name, &context).map(Value::into_bytes).unwrap_or(field))
}

/// What an address may look like here.
pub fn syntax(main: &Options) -> Syntax {
    Syntax {
        domain_literals: main.bool("allow_domain_literals"),
        utf8_domains: main.bool("allow_utf8_domains"),
        strip_trailing_dot: main.bool("strip_trailing_dot"),
        ..Syntax::default()
    }
}

/// `-f` where it is allowed; else the login name at `qualify_domain`.
pub fn sender(asked: &Asked, login: &BString) -> anyhow::Result<Sender> {
    let qualify = &asked.globals.qualify_domain;
    let own = Address::new(login.clone(), qualify.clone());
    let Some(given) = given_sender(asked)? else {
        return Ok(Sender { address: own, set_untrusted: false });
    };
    if asked.standing.trusted || given.is_null() {
        return Ok(Sender { set_untrusted: !asked.standing.trusted, address: given });
    }
    let allowed = match asked.globals.main.text("untrusted_set_sender") {
        Some(list) if !list.text().is_empty() => {
            let context = Context::new(asked.globals.clone(), &NoHooks);
            matching::address(&context, &Value::tainted(given.to_bytes()), list)
                .is_ok_and(|answer| answer.is_yes())
        }
        _ => false,
    };
    Ok(match allowed {
        true => Sender { set_untrusted: given != own, address: given },
        false => Sender { address: own, set_untrusted: false },
    })
}

/// `-f`, read and qualified; whether it counts is another matter.
pub fn given_sender(asked: &Asked) -> anyhow::Result<Option<Address>> {
    let Some(text) = &asked.invocation.message.sender else { return Ok(None) };
    if text.is_empty() || text == "<>" {
        return Ok(Some(Address::null()));
    }
    let parsed = parse_address(text, syntax(&asked.globals.main))
        .map_err(|error| anyhow!("exim: bad -f address \"{text}\": {error}"))?;
    Ok(Some(qualified(parsed.address, &asked.globals.qualify_domain)))
}

/// With a domain, if it has none.
pub fn qualified(address: Address, domain: &BString) -> Address {
    match address.domain().is_empty() && !address.is_null() {
        true => Address::new(address.local_part(), domain.clone()),
        false => address,
    }
}

/// How `-bs` was called.
pub fn local_call(asked: &Asked, caller: Caller, queue_only: bool) -> LocalCall {
    let given = &asked.invocation.message;
    let origin = origin(asked, &caller.login);
    let names_something = given.host.is_some()
        || given.interface.is_some()
        || given.authenticator.is_some()
        || given.authenticated_id.is_some()
        || given.host_name.is_some();
    // The protocol is that of SMTP whatever -oMr says; only a caller who names one is authenticated as anybody.
    let named = Origin {
        protocol: "local-smtp".into(),
        authenticated_id: given.authenticated_id.clone(),
        authenticated_sender: given.authenticated_sender.clone(),
        ..origin.clone()
    };
    LocalCall {
        ident: origin.ident.unwrap_or_else(|| caller.login.clone()),
        caller,
        origin: (asked.standing.trusted && names_something).then_some(named),
        queue_only,
        no_qualify: given.no_qualify,
        suppress_fixups: given.suppress_fixups,
    }
}

/// Where the message comes from: this process, or what a trusted caller says with `-oM...`.
pub fn origin(asked: &Asked, login: &BString) -> Origin {
    let given = &asked.invocation.message;
    let mut origin = Origin {
        local: true,
        ident: Some(login.clone()),
        protocol: "local".into(),
        authenticated_id: Some(login.clone()),
        authenticated_sender: Some(
            Address::new(login.clone(), asked.globals.qualify_domain.clone()).to_bytes(),
        ),
        ..Origin::default()
    };
    if asked.standing.trusted {
        apply_given(&mut origin, given);
    }
    origin
}

/// What `-be`, `-bt` and `-bv` see: there any caller may say where the message comes from.
pub fn origin_of_test(asked: &Asked, login: &BString) -> Origin {
    let mut origin = origin(asked, login);
    origin.protocol = BString::default();
    apply_given(&mut origin, &asked.invocation.message);
    origin
}

fn apply_given(origin: &mut Origin, given: &MessageSettings) {
    origin.host = given.host.map(|(address, port)| SocketAddr::new(address, port));
    origin.local = origin.host.is_none();
    origin.interface = given.interface;
    origin.authenticator = given.authenticator.clone();
    origin.host_name = given.host_name.clone();
    replace(&mut origin.ident, &given.ident);
    replace(&mut origin.authenticated_id, &given.authenticated_id);
    replace(&mut origin.authenticated_sender, &given.authenticated_sender);
    if let Some(protocol) = &given.protocol {
        origin.protocol = protocol.clone();
    }
}

fn replace(value: &mut Option<BString>, given: &Option<BString>) {
    if given.is_some() {
        value.clone_from(given);
    }
}

/// `-E` and `-oMm`: the message that this one is about.
pub fn about(asked: &Asked) -> Option<MessageId> {
    let given = &asked.invocation.message;
    // -oMm of who is not trusted was refused.
    let id = given.bounce_about.as_ref().filter(|id| !id.is_empty()).or(given.reference.as_ref())?;
    MessageId::parse(id)
}
