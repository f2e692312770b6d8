//! Macros: plain text replacement in physical lines.
//!
//! Specification: sections "Macros in the configuration file" to "Builtin macros". Macros are replaced in
//! the order of their definition; the text put in is not searched again for the same macro, but for later
//! ones. That is why no name may contain the name of an earlier macro.

use super::option::OptionDef;
use super::source::MAX_LINE_LENGTH;
use super::written::{DriverDef, Tables};
use bstr::{BString, ByteSlice};

/// Macros of the command line (`-D`), which override the file: name and value.
#[derive(Clone, Debug, Default)]
pub struct MacroOverrides(pub Vec<(BString, BString)>);

/// Longest name of a macro, as in Exim.
const MAX_NAME: usize = 63;

/// What the names of builtin macros begin with.
const BUILTIN_STARTS: [&str; 7] = ["_OPT_", "_HAVE_", "_LOG_", "_DRIVER_", "_EXP_", "_ACL_", "_RESUME_"];

/// What the numbers of `$tls_in_resumption` and `$tls_out_resumption` mean, for `listextract`: the text of each place.
const RESUME_DECODE: (&str, &str) = (
    "_RESUME_DECODE",
    "not requested or offered : 0x02 :client requested, no server ticket: 0x04 : 0x05 : 0x06 :client offered session, no \
     server action: 0x08 :no client request: 0x0A :client requested new ticket, server provided: 0x0C :client offered \
     session, not used: 0x0E :client offered session, server only provided new ticket: 0x10 :session resumed unasked: 0x12 \
     :session resumed unasked: 0x14 : 0x15 : 0x16 :session resumed: 0x18 :session resumed unasked: 0x1A :session resumed \
     unasked: 0x1C :session resumed: 0x1E :session resumed, also new ticket",
);

#[derive(Clone, Debug)]
struct Macro {
    name: BString,
    value: BString,
    /// From `-D`: definitions in the file are ignored.
    fixed: bool,
}

/// All macros, in order of definition.
#[derive(Clone, Debug, Default)]
pub struct Macros {
    builtin: Vec<(BString, BString)>,
    defined: Vec<Macro>,
}

/// A line after replacement.
pub struct Replaced {
    /// The text.
    pub text: BString,
    /// True if any macro was replaced.
    pub any: bool,
    /// True if the line would grow beyond [`MAX_LINE_LENGTH`]; the text is then unfinished.
    pub too_long: bool,
}

impl Macros {
    /// With these builtin macros.
    pub fn new(builtin: Vec<(BString, BString)>) -> Self {
        Self { builtin, defined: Vec::new() }
    }

    /// Adds the macros of the command line.
    pub fn with_overrides(mut self, overrides: &MacroOverrides) -> Self {
        for (name, value) in &overrides.0 {
            self.defined.push(Macro { name: name.clone(), value: value.clone(), fixed: true });
        }
        self
    }

    /// Adds what a file defined. Builtin macros that stand among them, as in what `-bP macros` shows,
    /// begin with an underscore, which no other can.
    pub fn with_defined(mut self, known: &[(BString, BString)]) -> Self {
        for (name, value) in known {
            if !name.starts_with(b"_") {
                self.defined.push(Macro { name: name.clone(), value: value.clone(), fixed: false });
            }
        }
        self
    }

    /// Replaces macros. At the start of a logical line that looks like a definition, the name that is
    /// being defined stays.
    pub fn replace(&self, line: &[u8], at_start: bool) -> Replaced {
        let kept = if at_start { defined_name(line).map_or(0, |name| name.len()) } else { 0 };
        let mut replaced = Replaced { text: line[kept..].into(), any: false, too_long: false };
        // There are hundreds of builtin macros, and hardly any line has one.
        if BUILTIN_STARTS.iter().any(|start| replaced.text.find(start).is_some()) {
            for (name, value) in &self.builtin {
                replaced.replace_all(name, value);
            }
        }
        for one in &self.defined {
            replaced.replace_all(&one.name, &one.value);
        }
        replaced.text.splice(0..0, line[..kept].iter().copied());
        replaced
    }

    /// Reads a definition (`NAME = text` or `NAME == text`), after replacement.
    pub fn define(&mut self, line: &[u8]) -> Result<(), String> {
        let malformed = || "malformed macro definition".to_owned();
        let length = line.iter().take_while(|byte| is_name_byte(**byte)).count();
        let (name, rest) = line.split_at(length);
        let rest = rest.trim_start().strip_prefix(b"=").ok_or_else(malformed)?;
        let (redefine, value) = match rest.strip_prefix(b"=") {
            Some(value) => (true, value.trim()),
            None => (false, rest.trim()),
        };
        if name.len() > MAX_NAME {
            return Err(format!("macro name too long (maximum is {MAX_NAME} characters)"));
        }
        let name = name.as_bstr();
        if let Some(known) = self.defined.iter_mut().find(|one| one.name == name) {
            if known.fixed {
                return Ok(());
            }
            if !redefine {
                return Err(format!(
                    "macro \"{name}\" is already defined (use \"==\" if you want to redefine it)"
                ));
            }
            known.value = value.into();
            return Ok(());
        }
        if redefine {
            return Err(format!("can't redefine an undefined macro \"{name}\""));
        }
        let earlier =
            self.all().find(|(earlier, _)| name.contains_str(earlier)).map(|(name, _)| name.clone());
        if let Some(earlier) = earlier {
            return Err(format!(
                "\"{name}\" cannot be defined as a macro because previously defined macro \"{earlier}\" is a substring"
            ));
        }
        self.defined.push(Macro { name: name.into(), value: value.into(), fixed: false });
        Ok(())
    }

    /// All macros with their values, builtin ones first.
    pub fn all(&self) -> impl Iterator<Item = (&BString, &BString)> {
        let builtin = self.builtin.iter().map(|(name, value)| (name, value));
        builtin.chain(self.defined.iter().map(|one| (&one.name, &one.value)))
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// True for a line that is taken as a macro definition where those may stand.
pub fn looks_like_definition(line: &[u8]) -> bool {
    line.first().is_some_and(u8::is_ascii_uppercase)
}

/// True for a line that cannot be but a macro definition.
pub fn is_definition(line: &[u8]) -> bool {
    defined_name(line).is_some()
}

/// The name of a macro that this line defines, if it does.
fn defined_name(line: &[u8]) -> Option<&[u8]> {
    if !looks_like_definition(line) {
        return None;
    }
    let length = line.iter().take_while(|byte| is_name_byte(**byte)).count();
    let (name, rest) = line.split_at(length);
    rest.trim_start().starts_with(b"=").then_some(name)
}

impl Replaced {
    /// Replaces one macro, unless the line gets too long: a few macros that double each other could fill the
    /// memory.
    fn replace_all(&mut self, name: &[u8], value: &[u8]) {
        if name.is_empty() || self.too_long {
            return;
        }
        let count = self.text.find_iter(name).count();
        if count == 0 {
            return;
        }
        self.any = true;
        self.too_long = self.text.len().saturating_add(count.saturating_mul(value.len())) > MAX_LINE_LENGTH;
        if !self.too_long {
            self.text = self.text.replace(name, value).into();
        }
    }
}

/// The builtin macros of these tables.
pub fn builtin(tables: &Tables) -> Vec<(BString, BString)> {
    let mut names = Builtin(Vec::new());
    names.list("_LOG_", tables.log_selectors);
    let authenticators = (tables.authenticator_generic, tables.authenticators);
    names.drivers("AUTHENTICATOR", tables, authenticators);
    names.drivers("TRANSPORT", tables, (tables.transport_generic, tables.transports));
    names.drivers("ROUTER", tables, (tables.router_generic, tables.routers));
    names.options("_OPT_MAIN_", tables, tables.main);
    names.list("_EXP_ITEM_", tables.expansion_items);
    names.list("_EXP_OP_", tables.expansion_operators);
    names.list("_EXP_COND_", tables.expansion_conditions);
    names.list("_EXP_VAR_", tables.expansion_variables);
    names.list("_ACL_COND_", tables.acl_conditions);
    names.list("_ACL_MOD_", tables.acl_modifiers);
    names.list("_HAVE_LOOKUP_", tables.lookups);
    names.list("_HAVE_", tables.features);
    let (name, text) = RESUME_DECODE;
    let yes = names.0.into_iter().map(|name| (BString::from(name), BString::from("y")));
    yes.chain([(name.into(), text.into())]).collect()
}

struct Builtin(Vec<String>);

impl Builtin {
    /// Backwards by name, so that a name never comes before a longer one that begins with it.
    fn list(&mut self, start: &str, names: &[&str]) {
        // Conditions such as `<=` cannot be part of a name.
        let words = names.iter().filter(|name| name.bytes().all(is_name_byte));
        let mut names: Vec<String> =
            words.map(|name| format!("{start}{}", name.to_ascii_uppercase())).collect();
        names.sort_unstable_by(|one, other| other.cmp(one));
        self.0.extend(names);
    }

    fn options(&mut self, start: &str, tables: &Tables, options: &[OptionDef]) {
        let names: Vec<&str> = options.iter().filter(|def| tables.has(def)).map(|def| def.name).collect();
        self.list(start, &names);
    }

    fn drivers(&mut self, what: &str, tables: &Tables, (generic, drivers): (&[OptionDef], &[DriverDef])) {
        for driver in drivers {
            let name = driver.name.to_ascii_uppercase();
            self.options(&format!("_OPT_{what}_{name}_"), tables, driver.options);
            if driver.supported {
                self.0.push(format!("_DRIVER_{what}_{name}"));
            }
        }
        self.options(&format!("_OPT_{what}S_"), tables, generic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn macros(lines: &[&str]) -> Macros {
        let mut macros = Macros::default();
        for line in lines {
            let replaced = macros.replace(line.as_bytes(), true);
            macros.define(&replaced.text).unwrap();
        }
        macros
    }

    fn replaced(macros: &Macros, line: &str) -> String {
        macros.replace(line.as_bytes(), true).text.to_string()
    }

    #[test]
    fn a_redefinition_may_use_the_old_value_and_keeps_the_order() {
        let macros = macros(&["AA = 1", "BB = AA 2", "AA == AA more"]);
        assert_eq!(replaced(&macros, "x AA BB"), "x 1 more 1 2");
    }

    #[test]
    fn text_put_in_is_searched_for_later_macros_only() {
        let macros = macros(&["AA = BB AA", "BB = x"]);
        assert_eq!(replaced(&macros, "y = AA"), "y = x AA");
    }

    #[test]
    fn definitions_that_cannot_work_are_refused_in_words_of_exim() {
        let mut macros = macros(&["ABC = 1"]);
        assert!(macros.define(b"ABC = 2").unwrap_err().contains("already defined"));
        assert!(macros.define(b"ABCD = 2").unwrap_err().contains("is a substring"));
        assert!(macros.define(b"XY == 2").unwrap_err().contains("undefined macro"));
        assert!(macros.define(b"XY 2").unwrap_err().contains("malformed"));
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let overrides = MacroOverrides(vec![("AA".into(), "cl".into())]);
        let mut macros = Macros::default().with_overrides(&overrides);
        macros.define(b"AA = file").unwrap();
        macros.define(b"AA == again").unwrap();
        assert_eq!(replaced(&macros, "x AA"), "x cl");
    }
}
