//! The sections of the configuration file, in one pass over its logical lines.
//!
//! Specification: sections "Configuration file format" and "Format of driver configurations". Everything
//! that is wrong is collected; messages are Exim's where Exim has one, and a hint is added where it helps.

use super::macros::{self, MacroOverrides, Macros};
use super::nearest::hint;
use super::option::{OptionDef, Options, SettingValue};
use super::setting::{self, Outcome};
use super::source::{Opener, Source};
use super::value;
use super::written::{
    AclText, ConfigError, DriverDef, Instance, ListKind, NamedList, NamedLists, Tables, Written,
};
use crate::log::{SelectorError, Selectors, selector};
use crate::syntax::{Located, Position, Template};
use bstr::{BString, ByteSlice};
use std::path::Path;

/// Reads a configuration whose main file the caller has opened.
///
/// Errors say everything that is wrong at once. There is no [`Written`] if any of them is more than
/// "not supported yet".
pub fn read(
    path: &Path,
    bytes: &[u8],
    overrides: &MacroOverrides,
    tables: &Tables,
    opener: &mut dyn Opener,
) -> (Option<Written>, Vec<ConfigError>) {
    let (written, errors) = read_all(path, bytes, overrides, tables, opener);
    let usable = errors.iter().all(|error| error.unsupported);
    (usable.then_some(written), errors)
}

/// The same, with what could be read of a configuration that cannot be used, so that the rest of it can be
/// checked, too.
pub fn read_all(
    path: &Path,
    bytes: &[u8],
    overrides: &MacroOverrides,
    tables: &Tables,
    opener: &mut dyn Opener,
) -> (Written, Vec<ConfigError>) {
    let macros = Macros::new(macros::builtin(tables)).with_overrides(overrides);
    let mut reader = Reader {
        source: Source::new(path, bytes, macros, opener),
        tables,
        seen: Vec::new(),
        written: Written {
            main: Options::new(vec![tables.main]),
            lists: NamedLists::new(),
            acls: Vec::new(),
            routers: Vec::new(),
            transports: Vec::new(),
            authenticators: Vec::new(),
            retry: Vec::new(),
            rewrite: Vec::new(),
            macros: Vec::new(),
            lines: Vec::new(),
            file: path.to_owned(),
        },
    };
    reader.read_sections();
    reader.check_log_selector();
    let Reader { source, mut written, .. } = reader;
    written.macros = source.macros.all().map(|(name, value)| (name.clone(), value.clone())).collect();
    let mut errors = source.errors;
    errors.extend(unsupported_expansions(&written));
    (written, errors)
}

/// What options and named lists use of the string language that is not built yet.
fn unsupported_expansions(written: &Written) -> Vec<ConfigError> {
    let instances = [&written.routers, &written.transports, &written.authenticators].into_iter().flatten();
    let options = instances.map(|instance| &instance.options).chain([&written.main]);
    let settings = options.flat_map(Options::settings).flat_map(|(_, setting)| match &setting.value {
        SettingValue::Text(text) => std::slice::from_ref(text),
        SettingValue::Texts(texts) => texts,
        _ => &[],
    });
    let lists = written.lists.values().map(|list| &list.items);
    let mut errors: Vec<ConfigError> = settings.chain(lists).flat_map(unsupported_in).collect();
    errors.sort_by(|one, other| (&one.at.file, one.at.line).cmp(&(&other.at.file, other.at.line)));
    errors
}

fn unsupported_in(template: &Template) -> impl Iterator<Item = ConfigError> + '_ {
    template.unsupported().iter().map(|what| ConfigError {
        at: template.at().clone(),
        message: format!("\"{}\" in an expansion is known but not supported yet", what.name),
        line: None,
        unsupported: true,
    })
}

/// The three kinds of drivers.
#[derive(Clone, Copy)]
struct DriverClass {
    /// `router`
    name: &'static str,
    generic: &'static [OptionDef],
    drivers: &'static [DriverDef],
}

struct Reader<'a> {
    source: Source<'a>,
    tables: &'a Tables,
    seen: Vec<&'static str>,
    written: Written,
}

/// Exim's buffer for the name of an ACL or a driver, with the byte that ends it.
const MAX_NAME: usize = 64;

const SECTIONS: [&str; 7] =
    ["acl", "authenticators", "routers", "transports", "retry", "rewrite", "local_scan"];

impl Reader<'_> {
    fn read_sections(&mut self) {
        let mut section = self.read_main();
        while let Some(begin) = section {
            section = match self.check_section(&begin) {
                Some("acl") => self.read_acls(),
                Some("routers") => self.read_drivers(self.router_class(), |written| &mut written.routers),
                Some("transports") => {
                    self.read_drivers(self.transport_class(), |written| &mut written.transports)
                }
                Some("authenticators") => {
                    self.read_drivers(self.authenticator_class(), |written| &mut written.authenticators)
                }
                Some("retry") => self.read_rules(|written| &mut written.retry),
                Some("rewrite") => self.read_rules(|written| &mut written.rewrite),
                _ => self.skip_section(),
            };
        }
    }

    /// The next logical line, or none at the end and where a section begins (which is then `begin`).
    fn next_line(&mut self, begin: &mut Option<Located<BString>>) -> Option<Located<BString>> {
        let line = self.source.next_line();
        self.written.lines.append(&mut self.source.markers);
        let line = line?;
        self.written.lines.push(line.clone());
        match line.value.strip_prefix(b"begin") {
            Some(name) if name.first().is_some_and(u8::is_ascii_whitespace) => {
                *begin = Some(Located { value: name.trim().into(), at: line.at });
                None
            }
            _ => Some(line),
        }
    }

    fn wrong(&mut self, line: &Located<BString>, message: impl Into<String>) {
        self.source.error(&line.at, message.into(), Some(line.value.as_bstr()));
    }

    fn take_outcome(&mut self, line: &Located<BString>, outcome: Outcome) {
        match outcome {
            Outcome::Set => {}
            Outcome::Wrong(message) => self.wrong(line, message),
            Outcome::Unsupported(message) => self.unsupported(line, message),
        }
    }

    fn unsupported(&mut self, line: &Located<BString>, message: String) {
        self.source.unsupported(&line.at, message, line.value.as_bstr());
    }

    /// Defines a macro if the line does that; false if it is something else. Options of the main section begin
    /// with a small letter; in other sections a capital alone says nothing.
    fn read_macro(&mut self, line: &Located<BString>) -> bool {
        let definition = match self.seen.is_empty() {
            true => macros::looks_like_definition(&line.value),
            false => macros::is_definition(&line.value),
        };
        if !definition {
            return false;
        }
        if let Err(message) = self.source.macros.define(&line.value) {
            self.wrong(line, message);
        }
        true
    }

    fn check_section(&mut self, begin: &Located<BString>) -> Option<&'static str> {
        let name = begin.value.to_str_lossy();
        let known = SECTIONS.into_iter().find(|known| known.eq_ignore_ascii_case(&name));
        match known {
            None => {
                let hint = hint(&name, SECTIONS.into_iter());
                self.wrong(begin, format!("\"{name}\" is not a known configuration section name{hint}"));
            }
            Some(known) if self.seen.contains(&known) => {
                self.wrong(begin, format!("\"{known}\" section is repeated in the configuration file"));
                return None;
            }
            Some("local_scan") => self.wrong(begin, "local_scan() options not supported"),
            Some(known) => self.seen.push(known),
        }
        known
    }

    /// Passes over the lines of a section that cannot be read.
    fn skip_section(&mut self) -> Option<Located<BString>> {
        let mut begin = None;
        while self.next_line(&mut begin).is_some() {}
        begin
    }

    fn read_main(&mut self) -> Option<Located<BString>> {
        let mut begin = None;
        while let Some(line) = self.next_line(&mut begin) {
            if self.read_macro(&line) || self.read_named_list(&line) {
                continue;
            }
            let words = ("main option", "");
            let outcome = setting::read(&mut self.written.main, self.tables, &line.value, &line.at, words);
            self.take_outcome(&line, outcome);
        }
        begin
    }

    /// Reads `domainlist name = items` and its kin; false if the line is something else.
    fn read_named_list(&mut self, line: &Located<BString>) -> bool {
        let (hidden, text) = setting::take_hide(&line.value);
        let (word, rest) = setting::take_name(text);
        let (word, cache) = word.strip_suffix(b"_cache").map_or((word, false), |word| (word, true));
        let (kind, shown) = match word {
            b"domainlist" => (ListKind::Domain, "domain"),
            b"hostlist" => (ListKind::Host, "host"),
            b"addresslist" => (ListKind::Address, "address"),
            b"localpartlist" => (ListKind::LocalPart, "local part"),
            _ => return false,
        };
        let (name, rest) = setting::take_name(rest);
        let name = name.as_bstr();
        if self.written.lists.contains_key(&(kind, name.into())) {
            self.wrong(line, format!("duplicate name \"{name}\" for a named {shown} list"));
            return true;
        }
        let Some(items) = rest.strip_prefix(b"=") else {
            self.wrong(line, format!("missing '=' after \"{name}\""));
            return true;
        };
        if name.is_empty() {
            self.wrong(line, format!("a named {shown} list needs a name"));
            return true;
        }
        match read_list(items.trim(), &name.to_string(), &line.at) {
            Ok(items) => {
                self.written.lists.insert((kind, name.into()), NamedList { items, cache, hidden });
            }
            Err(message) => self.wrong(line, message),
        }
        true
    }

    fn read_acls(&mut self) -> Option<Located<BString>> {
        let mut begin = None;
        // Lines after something wrong belong to nothing until the next name.
        let mut lost = false;
        while let Some(line) = self.next_line(&mut begin) {
            if self.read_macro(&line) {
                continue;
            }
            if let Some((name, rest)) = take_header(&line.value) {
                lost = !self.begin_acl(&line, name);
                if !rest.is_empty() && !lost {
                    self.push_acl_line(Located { value: rest.into(), at: line.at.clone() });
                }
            } else if self.written.acls.is_empty() && !lost {
                self.wrong(&line, "missing or malformed ACL name");
                lost = true;
            } else if !lost {
                self.push_acl_line(line);
            }
        }
        begin
    }

    /// A name that Exim could not keep is refused.
    fn check_name_length(&mut self, line: &Located<BString>, name: &[u8]) {
        if name.len() >= MAX_NAME {
            let start = name[..MAX_NAME - 1].as_bstr();
            let message =
                format!("exim item name too long (>{MAX_NAME}), unable to use \"{start}\" (truncated)");
            self.wrong(line, message);
        }
    }

    fn begin_acl(&mut self, line: &Located<BString>, name: &[u8]) -> bool {
        self.check_name_length(line, name);
        if self.written.acls.iter().any(|acl| acl.name == name) {
            self.wrong(line, format!("there are two ACLs called \"{}\"", name.as_bstr()));
            return false;
        }
        self.written.acls.push(AclText { name: name.into(), lines: Vec::new(), at: line.at.clone() });
        true
    }

    fn push_acl_line(&mut self, line: Located<BString>) {
        if let Some(acl) = self.written.acls.last_mut() {
            acl.lines.push(line);
        }
    }

    fn read_rules(
        &mut self,
        rules: fn(&mut Written) -> &mut Vec<Located<BString>>,
    ) -> Option<Located<BString>> {
        let mut begin = None;
        while let Some(line) = self.next_line(&mut begin) {
            rules(&mut self.written).push(line);
        }
        begin
    }

    fn router_class(&self) -> DriverClass {
        DriverClass { name: "router", generic: self.tables.router_generic, drivers: self.tables.routers }
    }

    fn transport_class(&self) -> DriverClass {
        let generic = self.tables.transport_generic;
        DriverClass { name: "transport", generic, drivers: self.tables.transports }
    }

    fn authenticator_class(&self) -> DriverClass {
        let generic = self.tables.authenticator_generic;
        DriverClass { name: "authenticator", generic, drivers: self.tables.authenticators }
    }

    fn read_drivers(
        &mut self,
        class: DriverClass,
        instances: fn(&mut Written) -> &mut Vec<Instance>,
    ) -> Option<Located<BString>> {
        let mut begin = None;
        let mut present: Option<Draft> = None;
        let mut lost = false;
        while let Some(line) = self.next_line(&mut begin) {
            if let Some((name, rest)) = take_header(&line.value) {
                self.finish_driver(class, present.take(), instances);
                lost = false;
                if !rest.is_empty() {
                    self.wrong(&line, format!("extra characters follow driver name {}", name.as_bstr()));
                }
                self.check_name_length(&line, name);
                present = Some(Draft::new(name, &line, class));
            } else if self.read_macro(&line) {
                self.finish_driver(class, present.take(), instances);
            } else if let Some(draft) = &mut present {
                self.read_driver_option(class, draft, &line);
            } else if !lost {
                self.wrong(&line, format!("{} name missing", class.name));
                lost = true;
            }
        }
        self.finish_driver(class, present, instances);
        begin
    }

    fn read_driver_option(&mut self, class: DriverClass, draft: &mut Draft, line: &Located<BString>) {
        let after = if draft.driver.is_none() && !draft.unknown_driver {
            " (\"driver\" must be specified before any private options)"
        } else {
            ""
        };
        let (_, text) = setting::take_hide(&line.value);
        let (name, _) = setting::take_name(text);
        if draft.unknown_driver && draft.options.def(&name.to_str_lossy()).is_none() {
            return; // One error for the driver is enough; its options are anybody's guess.
        }
        let is_new = draft.options.written("driver").is_none();
        let outcome =
            setting::read(&mut draft.options, self.tables, &line.value, &line.at, ("option", after));
        match outcome {
            // The driver was refused already; there is no use in telling the same of its options.
            Outcome::Unsupported(_) if draft.driver.is_some_and(|driver| !driver.supported) => {}
            outcome => self.take_outcome(line, outcome),
        }
        if name == b"driver" && is_new {
            self.choose_driver(class, draft, line);
        }
    }

    fn choose_driver(&mut self, class: DriverClass, draft: &mut Draft, line: &Located<BString>) {
        let wanted = draft.options.plain("driver").unwrap_or_default();
        match class.drivers.iter().find(|driver| driver.name.as_bytes() == wanted.as_slice()) {
            Some(driver) => {
                draft.driver = Some(driver);
                draft.options.add_table(driver.options);
                if !driver.supported {
                    let message =
                        format!("{} driver \"{wanted}\" is known but not supported yet", class.name);
                    self.unsupported(line, message);
                }
            }
            None => {
                draft.unknown_driver = true;
                let known = class.drivers.iter().map(|driver| driver.name);
                let hint = hint(&wanted.to_str_lossy(), known);
                let (class, name) = (class.name, &draft.name);
                self.wrong(line, format!("{class} {name}: cannot find {class} driver \"{wanted}\"{hint}"));
            }
        }
    }

    fn finish_driver(
        &mut self,
        class: DriverClass,
        draft: Option<Draft>,
        instances: fn(&mut Written) -> &mut Vec<Instance>,
    ) {
        let Some(draft) = draft else { return };
        let Draft { name, mut options, at, driver, unknown_driver } = draft;
        let line = Located { value: name.clone(), at: at.clone() };
        if instances(&mut self.written).iter().any(|known| known.name == name) {
            self.wrong(&line, format!("there are two {}s called \"{name}\"", class.name));
        }
        match driver {
            Some(driver) => {
                (driver.derive)(&mut options);
                instances(&mut self.written).push(Instance { name, driver, options, at });
            }
            None if unknown_driver => {}
            None => self.wrong(&line, format!("no driver defined for {} \"{name}\"", class.name)),
        }
    }

    /// `log_selector` names only known selectors.
    fn check_log_selector(&mut self) {
        let Some(setting) = self.written.main.written("log_selector") else { return };
        let at = setting.at.clone();
        let text = self.written.main.plain("log_selector").unwrap_or_default();
        for name in selector::not_built(&text) {
            let message = format!("log selector \"{name}\" is known but not supported yet");
            self.source.unsupported(&at, message, text.as_bstr());
        }
        let Err(error) = Selectors::parse(&text) else { return };
        let hint = match &error {
            SelectorError::Unknown { name, .. } => {
                hint(&name.to_str_lossy(), self.tables.log_selectors.iter().copied())
            }
            SelectorError::NoSign(_) => String::new(),
        };
        self.source.error(&at, format!("{error}{hint}"), None);
    }
}

/// A driver instance that is being read.
struct Draft {
    name: BString,
    options: Options,
    at: Position,
    driver: Option<&'static DriverDef>,
    unknown_driver: bool,
}

impl Draft {
    fn new(name: &[u8], line: &Located<BString>, class: DriverClass) -> Self {
        Self {
            name: name.into(),
            options: Options::new(vec![class.generic]),
            at: line.at.clone(),
            driver: None,
            unknown_driver: false,
        }
    }
}

/// `name:` at the start of a line, and what follows the colon.
fn take_header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = setting::take_name(line);
    let rest = rest.strip_prefix(b":")?;
    name.first().is_some_and(u8::is_ascii_alphabetic).then(|| (name, rest.trim()))
}

fn read_list(items: &[u8], name: &str, at: &Position) -> Result<Template, String> {
    let items = value::unquote(name, items)?;
    Template::parse(&items, at).map_err(|error| error.to_string())
}
