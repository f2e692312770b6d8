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
}

/// The option tables of all sections: given to the reader, so that `config` knows no driver.
#[derive(Clone, Copy, Debug)]
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
    /// All logical lines after macros and conditionals, for `-bP config`.
    pub lines: Vec<Located<BString>>,
    /// The file that was read.
    pub file: std::path::PathBuf,
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
