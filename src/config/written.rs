//! The configuration as it was written: sections, instances, lists; nothing is acted on.

use super::option::{OptionDef, Options};
use crate::syntax::{Located, Position, Template};
use bstr::BString;
use std::collections::HashMap;

/// A driver of a router, transport or authenticator: its name and its private options.
#[derive(Clone, Copy, Debug)]
pub struct DriverDef {
    /// The name after `driver = `.
    pub name: &'static str,
    /// Its private options (the generic ones are in [`Tables`]).
    pub options: &'static [OptionDef],
    /// False: known, but refused where a configuration uses it.
    pub supported: bool,
    /// Defaults that depend on other options of the instance, set once all of them are read.
    pub derive: fn(&mut Options),
}

impl DriverDef {
    /// A driver that is built, without derived defaults.
    pub const fn built(name: &'static str, options: &'static [OptionDef]) -> Self {
        Self { name, options, supported: true, derive: |_| {} }
    }
    /// A driver that is known and refused where it is used.
    pub const fn refused(name: &'static str, options: &'static [OptionDef]) -> Self {
        Self { name, options, supported: false, derive: |_| {} }
    }
    /// With derived defaults.
    pub const fn with_defaults(self, derive: fn(&mut Options)) -> Self {
        Self { derive, ..self }
    }
}

/// The option tables of all sections: given to the reader, so that `config` knows no driver.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tables {
    /// Main options.
    pub main: &'static [OptionDef],
    /// Options of every router.
    pub router_generic: &'static [OptionDef],
    /// Router drivers.
    pub routers: &'static [DriverDef],
    /// Options of every transport.
    pub transport_generic: &'static [OptionDef],
    /// Transport drivers.
    pub transports: &'static [DriverDef],
    /// Options of every authenticator.
    pub authenticator_generic: &'static [OptionDef],
    /// Authenticator drivers.
    pub authenticators: &'static [DriverDef],
    /// False: certificate status is compiled out, and its options are unknown.
    pub ocsp: bool,
    /// Names of log selectors.
    pub log_selectors: &'static [&'static str],
    /// Names of expansion items, as far as they work.
    pub expansion_items: &'static [&'static str],
    /// Names of expansion operators, as far as they work.
    pub expansion_operators: &'static [&'static str],
    /// Names of expansion conditions, as far as they work.
    pub expansion_conditions: &'static [&'static str],
    /// Names of expansion variables, as far as they work.
    pub expansion_variables: &'static [&'static str],
    /// Names of ACL conditions, as far as they work.
    pub acl_conditions: &'static [&'static str],
    /// Names of ACL modifiers, as far as they work.
    pub acl_modifiers: &'static [&'static str],
    /// Names of lookups, as far as they work.
    pub lookups: &'static [&'static str],
    /// What else is built: the names of the `_HAVE_*` macros without that prefix.
    pub features: &'static [&'static str],
}

/// Options that are only there with certificate status.
const OCSP_OPTIONS: [&str; 5] =
    ["tls_ocsp_fetch", "tls_ocsp_file", "tls_ocsp_responder", "hosts_request_ocsp", "hosts_require_ocsp"];

impl Tables {
    /// Is this option there in this build?
    pub fn has(&self, def: &OptionDef) -> bool {
        self.ocsp || !OCSP_OPTIONS.contains(&def.name)
    }
}

/// One router, transport or authenticator.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its name.
    pub name: BString,
    /// Its driver.
    pub driver: &'static DriverDef,
    /// Generic and private options together.
    pub options: Options,
    /// Where its name stands.
    pub at: Position,
}

/// Which of the four kinds of named lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListKind {
    /// `domainlist`
    Domain,
    /// `hostlist`
    Host,
    /// `addresslist`
    Address,
    /// `localpartlist`
    LocalPart,
}

/// One named list.
#[derive(Clone, Debug)]
pub struct NamedList {
    /// The list as written.
    pub items: Template,
    /// `_cache`: results are cached even if the list is expanded.
    pub cache: bool,
    /// `hide` was written.
    pub hidden: bool,
}

/// All named lists, by kind and name.
pub type NamedLists = HashMap<(ListKind, BString), NamedList>;

/// One ACL as text: its logical lines, macro-expanded, comments and blank lines left out.
#[derive(Clone, Debug)]
pub struct AclText {
    /// Its name.
    pub name: BString,
    /// Its logical lines.
    pub lines: Vec<Located<BString>>,
    /// Where its name stands.
    pub at: Position,
}

/// The whole configuration as written.
#[derive(Clone, Debug)]
pub struct Written {
    /// Main options.
    pub main: Options,
    /// Named lists of the main section.
    pub lists: NamedLists,
    /// Access control lists, in order.
    pub acls: Vec<AclText>,
    /// Routers, in order.
    pub routers: Vec<Instance>,
    /// Transports, in order.
    pub transports: Vec<Instance>,
    /// Authenticators, in order.
    pub authenticators: Vec<Instance>,
    /// Retry rules as logical lines.
    pub retry: Vec<Located<BString>>,
    /// Rewriting rules as logical lines.
    pub rewrite: Vec<Located<BString>>,
    /// All macros of the file, in order of definition, for `-bP macros`.
    pub macros: Vec<(BString, BString)>,
    /// All logical lines after macros and conditionals, for `-bP config`. Those that begin with `#` say which
    /// line of which file comes next.
    pub lines: Vec<Located<BString>>,
    /// The file that was read.
    pub file: std::path::PathBuf,
}

impl Written {
    /// Fills in the name of this host where the configuration does not say otherwise: `primary_hostname`, and from
    /// that `qualify_domain` and `qualify_recipient`.
    pub fn fill_names(&mut self, host_name: &str) {
        let mut name = host_name.to_owned();
        for option in ["primary_hostname", "qualify_domain", "qualify_recipient"] {
            self.main.put_default(option, &name);
            name = self.main.plain(option).map_or(name, |written| written.to_string());
        }
    }
}

/// One thing wrong in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where.
    pub at: Position,
    /// What, in Exim's words where Exim has words for it, with the nearest known name where one helps.
    pub message: String,
    /// The line at fault after macro replacement, if it helps.
    pub line: Option<BString>,
    /// True for what is known to Exim but not supported yet: `-bP` and `-be` still work.
    pub unsupported: bool,
}

impl ConfigError {
    /// The same place and the same words.
    pub fn tells_the_same(&self, other: &Self) -> bool {
        self.at == other.at && self.message == other.message
    }
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.at, self.message)?;
        match &self.line {
            Some(line) => write!(f, "\n  in: {line}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}
