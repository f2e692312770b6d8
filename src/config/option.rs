//! One option: its definition (a row of a table) and its value once written.

use super::value;
use crate::syntax::{Position, Template};
use bstr::BString;
use std::collections::HashMap;
use std::time::Duration;

/// What may be written for an option, and how it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `x`, `no_x`, `not_x`, `= true|false|yes|no`
    Bool,
    /// Decimal, octal (0...), hexadecimal (0x...), with K, M or G
    Int,
    /// Printed with K or M by `-bP` where it divides
    Size,
    /// As [`Kind::Size`], but written and kept in kilobytes: `100` and `100K` are both kept as 100
    KiloSize,
    /// Octal, for file modes
    Octal,
    /// `1w2d3h4m5s`
    Time,
    /// Colon-separated list of times
    TimeList,
    /// Decimal with up to three places, kept in thousandths
    Fixed,
    /// A string that is never expanded
    Text,
    /// A string that is expanded when it is used
    Expanded,
    /// A boolean, or (written with a string) an expanded condition
    ExpandedBool,
    /// An integer that may be written as an expansion
    ExpandedInt,
    /// A time that may be written as an expansion: a value that begins with `$`
    ExpandedTime,
    /// A domain list
    DomainList,
    /// A host list
    HostList,
    /// An address list
    AddressList,
    /// A local part list
    LocalPartList,
    /// A user name or number, or an expansion that gives one
    User,
    /// A group name or number, or an expansion that gives one
    Group,
    /// A list of user names and numbers
    UserList,
    /// A list of group names and numbers
    GroupList,
    /// Rewriting rules (`headers_rewrite`)
    RewriteRules,
    /// `log_selector`'s form
    Selectors,
    /// `set` in routers: each use adds one
    Multiple,
}

/// What happens when the option is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It acts.
    Acts,
    /// It is known but not supported yet: the configuration is refused where it is used (a value
    /// equal to the default is never refused).
    Refuses,
    /// Only this value is supported yet (as `-bP` prints it); what it turns off is not built.
    OnlyAs(&'static str),
    /// It cannot matter here, for this reason.
    NoEffect(&'static str),
}

/// One row of an option table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionDef {
    /// The name.
    pub name: &'static str,
    /// What may be written.
    pub kind: Kind,
    /// The default as `-bP` prints it after `name = ` (`true`/`false` for booleans); empty is unset.
    pub default: &'static str,
    /// What happens when it is set.
    pub effect: Effect,
}

/// A row for an option that acts.
pub const fn acts(name: &'static str, kind: Kind, default: &'static str) -> OptionDef {
    OptionDef { name, kind, default, effect: Effect::Acts }
}

/// A row for an option that is known but not supported yet.
pub const fn refuses(name: &'static str, kind: Kind, default: &'static str) -> OptionDef {
    OptionDef { name, kind, default, effect: Effect::Refuses }
}

/// A row for an option that only supports `value` yet.
pub const fn only_as(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    value: &'static str,
) -> OptionDef {
    OptionDef { name, kind, default, effect: Effect::OnlyAs(value) }
}

/// A row for an option that cannot matter here.
pub const fn no_effect(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    reason: &'static str,
) -> OptionDef {
    OptionDef { name, kind, default, effect: Effect::NoEffect(reason) }
}

/// A value, read.
#[derive(Clone, Debug)]
pub enum SettingValue {
    /// Bool
    Bool(bool),
    /// Int, Size, KiloSize (in kilobytes), Octal, Fixed (in thousandths)
    Int(i64),
    /// Time
    Time(Duration),
    /// TimeList
    Times(Vec<Duration>),
    /// Everything else: text, parsed where the kind is expanded. An ExpandedBool, ExpandedInt or ExpandedTime
    /// that was written as a plain word, number or time is a Bool, Int or Time.
    Text(Template),
    /// `set` and others that may be given several times
    Texts(Vec<Template>),
}

/// The value of an [`Kind::ExpandedBool`].
#[derive(Clone, Copy, Debug)]
pub enum Flag<'a> {
    /// Fixed when it was written.
    Fixed(bool),
    /// To be expanded as a condition when it is used.
    Expanded(&'a Template),
}

/// The value of an [`Kind::ExpandedInt`].
#[derive(Clone, Copy, Debug)]
pub enum Number<'a> {
    /// Fixed when it was written.
    Fixed(i64),
    /// To be expanded when it is used.
    Expanded(&'a Template),
}

/// One option as it was written.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its value.
    pub value: SettingValue,
    /// Where.
    pub at: Position,
    /// `hide` was written.
    pub hidden: bool,
}

/// The options of the main section or of one driver instance: what was written, over the defaults.
#[derive(Clone, Debug, Default)]
pub struct Options {
    tables: Vec<&'static [OptionDef]>,
    set: HashMap<&'static str, Setting>,
    defaults: HashMap<&'static str, SettingValue>,
}

impl Options {
    /// Nothing written yet; all defaults of these tables (`nowhere("default")` is their position).
    pub fn new(tables: Vec<&'static [OptionDef]>) -> Self {
        let mut options = Self { tables, set: HashMap::new(), defaults: HashMap::new() };
        options.fill_defaults();
        options
    }

    fn fill_defaults(&mut self) {
        for def in self.tables.clone().into_iter().flatten() {
            self.put_default(def.name, def.default);
        }
    }

    /// Replaces the default of one option, as `-bP` would print it; empty: unset (except for booleans and numbers).
    /// For what is only known at run time, and for defaults that depend on other options of a driver.
    pub fn put_default(&mut self, name: &str, default: &str) {
        let Some(def) = self.def(name) else {
            debug_assert!(false, "no option {name} in this table");
            return;
        };
        match value::read_default(def.kind, default) {
            Some(value) => self.defaults.insert(def.name, value),
            None => self.defaults.remove(def.name),
        };
    }

    /// Puts another value in place of what was written: for options of the command line that stand above the
    /// configuration. The value is in the form that `-bP` would print.
    pub fn overrule(&mut self, name: &str, value: &str) {
        self.set.remove(name);
        self.put_default(name, value);
    }

    /// The rows of these options, table by table.
    pub fn defs(&self) -> impl Iterator<Item = &'static OptionDef> + '_ {
        self.tables.iter().flat_map(|table| table.iter())
    }

    /// The options that were written, with their rows, in no order.
    pub fn settings(&self) -> impl Iterator<Item = (&'static str, &Setting)> {
        self.set.iter().map(|(name, setting)| (*name, setting))
    }

    /// Adds private options once the driver is known.
    pub fn add_table(&mut self, table: &'static [OptionDef]) {
        self.tables.push(table);
        for def in table {
            self.put_default(def.name, def.default);
        }
    }

    /// The row of this name.
    pub fn def(&self, name: &str) -> Option<&'static OptionDef> {
        self.tables.iter().flat_map(|table| table.iter()).find(|def| def.name == name)
    }

    /// Puts a value that was read.
    pub fn put(&mut self, def: &'static OptionDef, setting: Setting) {
        self.set.insert(def.name, setting);
    }

    /// As it was written, if it was.
    pub fn written(&self, name: &str) -> Option<&Setting> {
        debug_assert!(self.def(name).is_some(), "no option {name} in this table");
        self.set.get(name)
    }

    /// The value that holds: as written, else the default; none if unset.
    pub fn value(&self, name: &str) -> Option<&SettingValue> {
        debug_assert!(self.def(name).is_some(), "no option {name} in this table");
        self.set.get(name).map(|setting| &setting.value).or_else(|| self.defaults.get(name))
    }

    /// A boolean option.
    pub fn bool(&self, name: &str) -> bool {
        matches!(self.value(name), Some(SettingValue::Bool(true)))
    }

    /// An integer, size, octal or (in thousandths) fixed-point option; 0 if it has no default.
    pub fn int(&self, name: &str) -> i64 {
        match self.value(name) {
            Some(SettingValue::Int(number)) => *number,
            _ => 0,
        }
    }

    /// A fixed-point option in thousandths; none if it is unset.
    pub fn fixed(&self, name: &str) -> Option<i64> {
        match self.value(name) {
            Some(SettingValue::Int(number)) => Some(*number),
            _ => None,
        }
    }

    /// A boolean that may be written as an expansion.
    pub fn flag(&self, name: &str) -> Flag<'_> {
        match self.value(name) {
            Some(SettingValue::Bool(on)) => Flag::Fixed(*on),
            Some(SettingValue::Text(text)) => Flag::Expanded(text),
            _ => Flag::Fixed(false),
        }
    }

    /// An integer that may be written as an expansion; none if unset.
    pub fn number(&self, name: &str) -> Option<Number<'_>> {
        match self.value(name) {
            Some(SettingValue::Int(number)) => Some(Number::Fixed(*number)),
            Some(SettingValue::Text(text)) => Some(Number::Expanded(text)),
            _ => None,
        }
    }

    /// A time option; zero if it has no default.
    pub fn time(&self, name: &str) -> Duration {
        match self.value(name) {
            Some(SettingValue::Time(time)) => *time,
            _ => Duration::ZERO,
        }
    }

    /// A list of times.
    pub fn times(&self, name: &str) -> &[Duration] {
        match self.value(name) {
            Some(SettingValue::Times(times)) => times,
            _ => &[],
        }
    }

    /// A text, expandable text or list; none if unset and without default.
    pub fn text(&self, name: &str) -> Option<&Template> {
        match self.value(name) {
            Some(SettingValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// All values of an option that may be given several times.
    pub fn texts(&self, name: &str) -> &[Template] {
        match self.value(name) {
            Some(SettingValue::Texts(texts)) => texts,
            _ => &[],
        }
    }

    /// Plain text of an option that is not expanded.
    pub fn plain(&self, name: &str) -> Option<BString> {
        self.text(name).map(|template| template.text().to_owned())
    }
}
