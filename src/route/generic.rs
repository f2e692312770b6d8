//! The options that every router has, compiled.

use crate::config::{ConfigError, Instance, SettingValue};
use crate::syntax::Template;
use crate::transport::dnssec::Dnssec;
pub use crate::transport::registry::not_built;
use bstr::{BString, ByteSlice};

/// Generic options of one router. Where nothing else is said, a field is the option of its name.
#[derive(Clone, Debug)]
pub struct Generic {
    /// Name of the router.
    pub name: BString,

    pub address_data: Option<Template>,
    pub address_test: bool,
    pub cannot_route_message: Option<Template>,
    pub caseful_local_part: bool,
    pub check_local_user: bool,
    /// All of them must succeed.
    pub conditions: Vec<Template>,
    pub debug_print: Option<Template>,
    pub disable_logging: bool,
    pub domains: Option<Template>,
    pub errors_to: Option<Template>,
    pub expn: bool,
    pub fail_verify_recipient: bool,
    pub fail_verify_sender: bool,
    pub user: Option<Template>,
    pub group: Option<Template>,
    pub headers_add: Vec<Template>,
    pub headers_remove: Vec<Template>,
    /// `dnssec_request_domains`, `dnssec_require_domains`
    pub dnssec: Dnssec,
    pub ignore_target_hosts: Option<Template>,
    pub initgroups: bool,
    pub local_part_prefix: Option<Template>,
    pub local_part_prefix_optional: bool,
    pub local_part_suffix: Option<Template>,
    pub local_part_suffix_optional: bool,
    pub local_parts: Option<Template>,
    pub log_as_local: Option<bool>,
    pub more: Flag,
    pub pass_on_timeout: bool,
    /// Index of the router.
    pub pass_router: Option<usize>,
    /// Index of the router.
    pub redirect_router: Option<usize>,
    pub require_files: Option<Template>,
    pub retry_use_local_part: bool,
    pub router_home_directory: Option<Template>,
    /// `self`
    pub self_action: SelfAction,
    pub senders: Option<Template>,
    /// `set`
    pub variables: Vec<Template>,
    pub transport: Option<Template>,
    pub transport_home_directory: Option<Template>,
    pub transport_current_directory: Option<Template>,
    pub unseen: Flag,
    pub verify_only: bool,
    pub verify_recipient: bool,
    pub verify_sender: bool,
}

/// A boolean that may be written as an expansion.
#[derive(Clone, Debug)]
pub enum Flag {
    /// Written plainly.
    Fixed(bool),
    /// To be expanded; a forced failure gives the second.
    Expanded(Template, bool),
}

/// What to do when the first host of a list is this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelfAction {
    /// Log it and freeze the message.
    Freeze,
    /// Try again later.
    Defer,
    /// Route again with this domain.
    Reroute(BString),
    /// Go to `pass_router` or the next one.
    Pass,
    /// Bounce.
    Fail,
    /// Deliver all the same.
    Send,
}

/// Options of routers that are known and in the tables but not built: set, they refuse.
const NOT_BUILT: &[&str] = &["dsn_lasthop", "fallback_hosts", "translate_ip_address"];

impl Generic {
    /// Reads the generic options; `names` are all routers in order.
    pub fn compile(instance: &Instance, names: &[BString]) -> Result<Self, Vec<ConfigError>> {
        let mut errors = not_built(instance, NOT_BUILT);
        let options = &instance.options;
        let index = instance_index(instance, names);
        let pass_router = named_router(instance, "pass_router", names, Some(index), &mut errors);
        let redirect_router = named_router(instance, "redirect_router", names, None, &mut errors);
        let self_action = read_self(instance, &mut errors);
        let verify = |name: &str| match options.written(name) {
            None if options.written("verify").is_some() => options.bool("verify"),
            _ => options.bool(name),
        };
        let fail_verify = |name: &str| match options.written(name) {
            None if options.written("fail_verify").is_some() => options.bool("fail_verify"),
            _ => options.bool(name),
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        let text = |name: &str| options.text(name).cloned();
        Ok(Self {
            name: instance.name.clone(),
            address_data: text("address_data"),
            address_test: options.bool("address_test"),
            cannot_route_message: text("cannot_route_message"),
            caseful_local_part: options.bool("caseful_local_part"),
            check_local_user: options.bool("check_local_user"),
            conditions: all_texts(instance, "condition"),
            debug_print: text("debug_print"),
            disable_logging: options.bool("disable_logging"),
            domains: text("domains"),
            errors_to: text("errors_to"),
            expn: options.bool("expn"),
            fail_verify_recipient: fail_verify("fail_verify_recipient"),
            fail_verify_sender: fail_verify("fail_verify_sender"),
            user: text("user"),
            group: text("group"),
            headers_add: all_texts(instance, "headers_add"),
            headers_remove: all_texts(instance, "headers_remove"),
            dnssec: Dnssec::of(options),
            ignore_target_hosts: text("ignore_target_hosts"),
            initgroups: options.bool("initgroups"),
            local_part_prefix: text("local_part_prefix"),
            local_part_prefix_optional: options.bool("local_part_prefix_optional"),
            local_part_suffix: text("local_part_suffix"),
            local_part_suffix_optional: options.bool("local_part_suffix_optional"),
            local_parts: text("local_parts"),
            log_as_local: options.written("log_as_local").map(|_| options.bool("log_as_local")),
            more: flag(instance, "more", true),
            pass_on_timeout: options.bool("pass_on_timeout"),
            pass_router,
            redirect_router,
            require_files: text("require_files"),
            retry_use_local_part: retry_use_local_part(instance),
            router_home_directory: text("router_home_directory"),
            self_action,
            senders: text("senders"),
            variables: options.texts("set").to_vec(),
            transport: text("transport"),
            transport_home_directory: text("transport_home_directory"),
            transport_current_directory: text("transport_current_directory"),
            unseen: flag(instance, "unseen", false),
            verify_only: options.bool("verify_only"),
            verify_recipient: verify("verify_recipient"),
            verify_sender: verify("verify_sender"),
        })
    }
}

fn instance_index(instance: &Instance, names: &[BString]) -> usize {
    names.iter().position(|name| *name == instance.name).unwrap_or(0)
}

/// An error at an option of this instance.
pub fn wrong(instance: &Instance, name: &str, message: impl Into<String>) -> ConfigError {
    let at = instance.options.written(name).map_or(&instance.at, |setting| &setting.at).clone();
    ConfigError { at, message: message.into(), line: None, unsupported: false }
}

/// All values of an option that may be given once or several times.
pub fn all_texts(instance: &Instance, name: &str) -> Vec<Template> {
    let several = instance.options.texts(name);
    if several.is_empty() {
        instance.options.text(name).into_iter().cloned().collect()
    } else {
        several.to_vec()
    }
}

/// A boolean that may be written as an expansion; `default` if unset or its expansion is forced to fail.
pub fn flag(instance: &Instance, name: &str, default: bool) -> Flag {
    match instance.options.written(name).map(|setting| &setting.value) {
        None => Flag::Fixed(default),
        Some(SettingValue::Text(template)) => match template.text().as_bytes() {
            b"true" | b"yes" => Flag::Fixed(true),
            b"false" | b"no" => Flag::Fixed(false),
            _ => Flag::Expanded(template.clone(), default),
        },
        Some(_) => Flag::Fixed(instance.options.bool(name)),
    }
}

fn retry_use_local_part(instance: &Instance) -> bool {
    const IMPLIES: &[&str] =
        &["local_parts", "condition", "local_part_prefix", "local_part_suffix", "senders", "require_files"];
    let options = &instance.options;
    if options.written("retry_use_local_part").is_some() {
        return options.bool("retry_use_local_part");
    }
    options.bool("check_local_user") || IMPLIES.iter().any(|name| options.written(name).is_some())
}

/// The index of the router that an option names; `below`: it must come after this one.
fn named_router(
    instance: &Instance,
    option: &str,
    names: &[BString],
    below: Option<usize>,
    errors: &mut Vec<ConfigError>,
) -> Option<usize> {
    let wanted = instance.options.plain(option)?;
    match names.iter().position(|name| *name == wanted) {
        Some(index) if below.is_none_or(|own| index > own) => Some(index),
        Some(_) => {
            let text = format!("{option} \"{wanted}\" must be below the {} router", instance.name);
            errors.push(wrong(instance, option, text));
            None
        }
        None => {
            let text = format!("{option} \"{wanted}\" not found for {} router", instance.name);
            errors.push(wrong(instance, option, text));
            None
        }
    }
}

fn read_self(instance: &Instance, errors: &mut Vec<ConfigError>) -> SelfAction {
    let Some(text) = instance.options.plain("self") else { return SelfAction::Freeze };
    match text.as_bytes() {
        b"freeze" => SelfAction::Freeze,
        b"defer" => SelfAction::Defer,
        b"send" => SelfAction::Send,
        b"pass" => SelfAction::Pass,
        b"fail" => SelfAction::Fail,
        other => match other.strip_prefix(b"reroute:").map(ByteSlice::trim) {
            Some(domain) if domain.starts_with(b"rewrite:") => {
                let mut error = wrong(instance, "self", "self = \"reroute: rewrite:\" is not supported yet");
                error.unsupported = true;
                errors.push(error);
                SelfAction::Freeze
            }
            Some(domain) => SelfAction::Reroute(domain.into()),
            None => {
                let text = format!("{text} is not valid for the self option");
                errors.push(wrong(instance, "self", text));
                SelfAction::Freeze
            }
        },
    }
}
