//! All transports by name, compiled, and the options that every transport has
//! (spec chapter "Generic options for transports").

use super::appendfile::Appendfile;
use super::{Host, Job, Problem, Report};
use crate::config::{ConfigError, Instance, SettingValue};
use crate::expand::Context;
use crate::ocsp::standing::Standings;
use crate::syntax::Template;
use bstr::{BStr, BString};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

/// A transport that speaks to other hosts.
pub trait Remote: Send + Sync {
    /// Delivers the job; one outcome for each of its addresses, in their order, and one report for each
    /// host that was tried.
    fn deliver(&self, job: Job) -> Report;
    /// Most addresses of one job (`max_rcpt`); 0: no limit.
    fn max_rcpt(&self) -> usize {
        0
    }
    /// The process ends: connections that are kept are closed.
    fn close(&self) {}
    /// How it stands with what is held against certificates of peers.
    fn standings(&self, _now: SystemTime) -> Standings {
        Standings::default()
    }
    /// May a job hold addresses of several domains (`multi_domain`)?
    fn multi_domain(&self, _context: &Context) -> Result<bool, Problem> {
        Ok(true)
    }
    /// The hosts for addresses that were routed to these: the transport's own where it has none or replaces them
    /// (`hosts`, `hosts_override`).
    fn hosts(&self, routed: Vec<Host>, _context: &Context) -> Result<Vec<Host>, Problem> {
        Ok(routed)
    }
    /// What is required of the TLS session with this host beyond what others may require, as a word that changes with it:
    /// a host that fails it may still serve others, so retry records are kept for each.
    fn requirement(&self, _host: &Host, _context: &Context) -> Option<BString> {
        None
    }
}

/// The drivers.
#[derive(Clone)]
pub enum Driver {
    /// A mailbox.
    Appendfile(Arc<Appendfile>),
    /// smtp, lmtp.
    Remote(Arc<dyn Remote>),
}

/// One transport.
#[derive(Clone)]
pub struct Transport {
    /// Its name.
    pub name: BString,
    /// Options that every transport has.
    pub generic: Generic,
    /// Its driver.
    pub driver: Driver,
}

/// Generic options of one transport. Where nothing else is said, a field is the option of its name.
#[derive(Clone, Debug)]
pub struct Generic {
    pub body_only: bool,
    pub current_directory: Option<Template>,
    pub debug_print: Option<Template>,
    pub delivery_date_add: bool,
    pub disable_logging: bool,
    pub envelope_to_add: bool,
    pub group: Option<Template>,
    pub headers_add: Vec<Template>,
    pub headers_only: bool,
    pub headers_remove: Vec<Template>,
    pub home_directory: Option<Template>,
    pub initgroups: bool,
    pub message_size_limit: Option<Template>,
    pub rcpt_include_affixes: bool,
    pub retry_use_local_part: bool,
    pub return_path: Option<Template>,
    pub return_path_add: bool,
    pub user: Option<Template>,
}

/// Generic options that are known but not built.
const NOT_BUILT: &[&str] = &[
    "event_action",
    "headers_rewrite",
    "max_parallel",
    "shadow_condition",
    "shadow_transport",
    "transport_filter",
];

/// All transports.
#[derive(Default)]
pub struct Registry {
    by_name: HashMap<BString, Arc<Transport>>,
}

/// Compiles the smtp driver: given by `load`, so that this folder's drivers stay apart.
pub type CompileRemote<'a> = &'a dyn Fn(&Instance) -> Result<Arc<dyn Remote>, Vec<ConfigError>>;

impl Registry {
    /// Compiles all transports.
    pub fn compile(instances: &[Instance], remote: CompileRemote) -> Result<Self, Vec<ConfigError>> {
        let mut by_name = HashMap::new();
        let mut errors = Vec::new();
        for instance in instances {
            match compile_one(instance, remote) {
                Ok(transport) => {
                    by_name.insert(instance.name.clone(), Arc::new(transport));
                }
                Err(wrong) => errors.extend(wrong),
            }
        }
        if errors.is_empty() { Ok(Self { by_name }) } else { Err(errors) }
    }

    /// The transport of this name.
    pub fn get(&self, name: &BStr) -> Option<&Arc<Transport>> {
        self.by_name.get(name)
    }

    /// How it stands with what drivers hold against certificates of peers.
    pub fn standings(&self, now: SystemTime) -> Standings {
        let mut all = Standings::default();
        for transport in self.by_name.values() {
            if let Driver::Remote(driver) = &transport.driver {
                all.join(driver.standings(now));
            }
        }
        all
    }

    /// The process ends: what drivers keep open is closed.
    pub fn close(&self) {
        for transport in self.by_name.values() {
            if let Driver::Remote(driver) = &transport.driver {
                driver.close();
            }
        }
    }

    /// Adds a transport; for tests.
    pub fn insert(&mut self, transport: Transport) {
        self.by_name.insert(transport.name.clone(), Arc::new(transport));
    }

    /// Names, and whether each is a remote transport: what the routers ask about.
    pub fn names(&self) -> HashMap<BString, bool> {
        self.by_name
            .iter()
            .map(|(name, transport)| (name.clone(), matches!(transport.driver, Driver::Remote(_))))
            .collect()
    }
}

fn compile_one(instance: &Instance, remote: CompileRemote) -> Result<Transport, Vec<ConfigError>> {
    let mut errors = not_built(instance, NOT_BUILT);
    let driver = match instance.driver.name {
        "appendfile" => Appendfile::compile(instance).map(|driver| Driver::Appendfile(Arc::new(driver))),
        "smtp" => remote(instance).map(Driver::Remote),
        other => Err(vec![ConfigError {
            at: instance.at.clone(),
            message: format!("transport driver \"{other}\" is known but not supported yet"),
            line: None,
            unsupported: true,
        }]),
    };
    match driver {
        Ok(driver) if errors.is_empty() => {
            let local = matches!(driver, Driver::Appendfile(_));
            Ok(Transport { name: instance.name.clone(), generic: Generic::read(instance, local), driver })
        }
        Ok(_) => Err(errors),
        Err(wrong) => {
            errors.extend(wrong);
            Err(errors)
        }
    }
}

impl Generic {
    fn read(instance: &Instance, local: bool) -> Self {
        let options = &instance.options;
        let text = |name: &str| options.text(name).cloned();
        Self {
            body_only: options.bool("body_only"),
            current_directory: text("current_directory"),
            debug_print: text("debug_print"),
            delivery_date_add: options.bool("delivery_date_add"),
            disable_logging: options.bool("disable_logging"),
            envelope_to_add: options.bool("envelope_to_add"),
            group: text("group"),
            headers_add: all_texts(instance, "headers_add"),
            headers_only: options.bool("headers_only"),
            headers_remove: all_texts(instance, "headers_remove"),
            home_directory: text("home_directory"),
            initgroups: options.bool("initgroups"),
            message_size_limit: text("message_size_limit").filter(|limit| limit.text() != "0"),
            rcpt_include_affixes: options.bool("rcpt_include_affixes"),
            retry_use_local_part: match options.written("retry_use_local_part") {
                Some(_) => options.bool("retry_use_local_part"),
                None => local,
            },
            return_path: text("return_path"),
            return_path_add: options.bool("return_path_add"),
            user: text("user"),
        }
    }
}

fn all_texts(instance: &Instance, name: &str) -> Vec<Template> {
    let several = instance.options.texts(name);
    if several.is_empty() {
        instance.options.text(name).into_iter().cloned().collect()
    } else {
        several.to_vec()
    }
}

/// Errors for those options of `names` that are set to something other than their default.
pub fn not_built(instance: &Instance, names: &[&str]) -> Vec<ConfigError> {
    let is_changed = |name: &str| match (instance.options.def(name), instance.options.written(name)) {
        (Some(def), Some(setting)) => match &setting.value {
            SettingValue::Bool(on) => *on != (def.default == "true"),
            SettingValue::Text(text) => text.text() != def.default,
            SettingValue::Int(number) => *number != 0,
            _ => true,
        },
        _ => false,
    };
    names
        .iter()
        .filter(|name| is_changed(name))
        .map(|name| ConfigError {
            at: instance.options.written(name).map_or(&instance.at, |setting| &setting.at).clone(),
            message: format!("option \"{name}\" is known but not supported yet"),
            line: None,
            unsupported: true,
        })
        .collect()
}
