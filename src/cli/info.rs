//! What the program says about itself and its configuration: `-bP` and `-bV`.
//!
//! Specification: these options in chapter "The Exim command line". The texts are Exim's, recorded; `-bV` has
//! the form of Exim 4.97 and later, and a line of its own for oxim and GnuTLS.

use crate::config::build_settings::{self, EXIM_VERSION, OXIM_VERSION};
use crate::config::written::ListKind;
use crate::config::{ConfigError, Instance, Kind, OptionDef, Options, Tables, Written, is_short_form, print};
use crate::load::warnings::Warning;
use bstr::{BStr, BString, ByteSlice};
use nix::unistd::{Gid, Group, Uid, User};
use std::collections::HashSet;
use std::io::{self, Write};

/// Who asks with `-bP`, and how.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// Admin users see hidden values and macros.
    pub admin: bool,
    /// False with `-n`: values without names.
    pub names: bool,
}

/// Everything that `-bP` answers from.
pub struct Listing<'a> {
    /// The configuration.
    pub written: &'a Written,
    /// The option tables.
    pub tables: &'a Tables,
    /// Who asks.
    pub asker: Asker,
}

impl Listing<'_> {
    /// Answers `-bP` with these arguments. True if the last thing asked for is known: that decides
    /// about the exit code.
    pub fn print(&self, arguments: &[BString], out: &mut dyn Write) -> io::Result<bool> {
        if arguments.is_empty() {
            return self.print_main(out).map(|()| true);
        }
        let mut known = true;
        let mut rest = arguments.iter();
        while let Some(word) = rest.next() {
            let kind = word.to_str_lossy();
            known = match kind.as_ref() {
                "router" | "transport" | "authenticator" | "macro" => match rest.next() {
                    Some(name) => self.print_one(&kind, name.as_bstr(), out)?,
                    None => self.print_word(&kind, out)?,
                },
                _ => self.print_word(&kind, out)?,
            };
        }
        Ok(known)
    }

    fn print_word(&self, word: &str, out: &mut dyn Write) -> io::Result<bool> {
        match word {
            "all" => self.print_main(out)?,
            "config" => self.print_config(out)?,
            "config_file" | "configure_file" => writeln!(out, "{}", self.written.file.display())?,
            "environment" => self.print_environment(out)?,
            "routers" | "transports" | "authenticators" => {
                self.print_drivers(word.trim_end_matches('s'), out)?
            }
            "router_list" | "transport_list" | "authenticator_list" => {
                for instance in self.instances(word.trim_end_matches("_list")) {
                    writeln!(out, "{}", instance.name)?;
                }
            }
            "macros" | "macro_list" => return self.print_macros(word == "macros", out),
            "local_scan" => {
                writeln!(out, "local_scan() options are not supported")?;
                return Ok(false);
            }
            _ => match word.strip_prefix('+') {
                Some(name) => return self.print_lists(name.into(), out),
                None => return self.print_main_option(word, out),
            },
        }
        Ok(true)
    }

    fn print_main(&self, out: &mut dyn Write) -> io::Result<()> {
        self.print_table(self.tables.main, &self.written.main, &HashSet::new(), out)
    }

    fn print_main_option(&self, name: &str, out: &mut dyn Write) -> io::Result<bool> {
        let def = self.tables.main.iter().find(|def| def.name == name && self.tables.has(def));
        let Some(def) = def else {
            writeln!(out, "{name} is not a known option")?;
            return Ok(false);
        };
        self.print_option(def, &self.written.main, false, out)?;
        Ok(true)
    }

    /// Options of one table; `hidden` are the names hidden for another instance of the driver.
    fn print_table(
        &self,
        table: &'static [OptionDef],
        options: &Options,
        hidden: &HashSet<&str>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        for def in table.iter().filter(|def| self.tables.has(def) && !is_short_form(def.name)) {
            self.print_option(def, options, hidden.contains(def.name), out)?;
        }
        Ok(())
    }

    fn print_option(
        &self,
        def: &OptionDef,
        options: &Options,
        hidden: bool,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let hidden = hidden || options.written(def.name).is_some_and(|setting| setting.hidden);
        let hidden = hidden && !self.asker.admin;
        let mut line = print::option(options, def, self.asker.names, hidden);
        if !hidden && let Some(shown) = name_ids(def, options) {
            line = if self.asker.names { format!("{} = {shown}", def.name).into() } else { shown };
        }
        write_line(out, &line)
    }

    fn instances(&self, class: &str) -> &[Instance] {
        match class {
            "router" => &self.written.routers,
            "transport" => &self.written.transports,
            _ => &self.written.authenticators,
        }
    }

    fn generic(&self, class: &str) -> &'static [OptionDef] {
        match class {
            "router" => self.tables.router_generic,
            "transport" => self.tables.transport_generic,
            _ => self.tables.authenticator_generic,
        }
    }

    fn print_drivers(&self, class: &str, out: &mut dyn Write) -> io::Result<()> {
        for instance in self.instances(class) {
            writeln!(out, "\n{} {class}:", instance.name)?;
            self.print_driver(class, instance, out)?;
        }
        Ok(())
    }

    fn print_driver(&self, class: &str, instance: &Instance, out: &mut dyn Write) -> io::Result<()> {
        let instances = self.instances(class);
        let generic = hidden_names(instances.iter());
        let same = |other: &&Instance| other.driver.name == instance.driver.name;
        let private = hidden_names(instances.iter().filter(same));
        self.print_table(self.generic(class), &instance.options, &generic, out)?;
        self.print_table(instance.driver.options, &instance.options, &private, out)
    }

    /// One router, transport, authenticator or macro by its name.
    fn print_one(&self, class: &str, name: &BStr, out: &mut dyn Write) -> io::Result<bool> {
        if class == "macro" {
            return self.print_macro(name, out);
        }
        match self.instances(class).iter().find(|instance| instance.name == name) {
            Some(instance) => self.print_driver(class, instance, out).map(|()| true),
            None => {
                writeln!(out, "{class} {name} not found")?;
                Ok(false)
            }
        }
    }

    fn print_macro(&self, name: &BStr, out: &mut dyn Write) -> io::Result<bool> {
        if !self.may_see_macros() {
            return Ok(false);
        }
        let Some((name, value)) = self.written.macros.iter().find(|(known, _)| known == name) else {
            writeln!(out, "macro {name} not found")?;
            return Ok(false);
        };
        if self.asker.names {
            write!(out, "{name}=")?;
        }
        write_line(out, value)?;
        Ok(true)
    }

    fn print_macros(&self, values: bool, out: &mut dyn Write) -> io::Result<bool> {
        if !self.may_see_macros() {
            return Ok(false);
        }
        for (name, value) in &self.written.macros {
            out.write_all(name)?;
            if values {
                out.write_all(b"=")?;
                out.write_all(value)?;
            }
            out.write_all(b"\n")?;
        }
        Ok(true)
    }

    /// Macros are only shown to admin users: they may hold passwords.
    fn may_see_macros(&self) -> bool {
        if !self.asker.admin {
            eprintln!("exim: permission denied");
        }
        self.asker.admin
    }

    fn print_lists(&self, name: &BStr, out: &mut dyn Write) -> io::Result<bool> {
        let kinds = [
            (ListKind::Address, "address"),
            (ListKind::Domain, "domain"),
            (ListKind::Host, "host"),
            (ListKind::LocalPart, "localpart"),
        ];
        let mut found = false;
        for (kind, shown) in kinds {
            let Some(list) = self.written.lists.get(&(kind, name.to_owned())) else { continue };
            found = true;
            if self.asker.names {
                write!(out, "{shown}list {name} = ")?;
            }
            // Hidden lists are hidden from everybody, as recorded.
            let items = if list.hidden { print::HIDDEN.into() } else { list.items.text() };
            write_line(out, items)?;
        }
        if !found {
            writeln!(out, "no address, domain, host, or local part list called \"{name}\" exists")?;
        }
        Ok(found)
    }

    fn print_environment(&self, out: &mut dyn Write) -> io::Result<()> {
        for (name, value) in std::env::vars_os() {
            out.write_all(name.as_encoded_bytes())?;
            if self.asker.names {
                out.write_all(b"=")?;
                out.write_all(value.as_encoded_bytes())?;
            }
            out.write_all(b"\n")?;
        }
        Ok(())
    }

    /// The whole configuration as it was understood, indented by its structure unless `-n` was given.
    fn print_config(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "# Exim Configuration ({EXIM_VERSION})")?;
        writeln!(out, "# 1 \"{}\"", self.written.file.display())?;
        let mut indent = "";
        let mut drivers = false;
        for line in &self.written.lines {
            let text = squeeze(&line.value);
            if !self.asker.names {
                write_line(out, &self.without_secret(text))?;
                continue;
            }
            if let Some(section) = text.strip_prefix(b"begin ") {
                drivers = !matches!(section, b"retry" | b"rewrite" | b"local_scan");
                indent = "  ";
                writeln!(out)?;
                write_line(out, &text)?;
            } else if text.first() == Some(&b'#') {
                write_line(out, &text)?;
            } else if drivers && is_header(&text) {
                write!(out, "\n  ")?;
                write_line(out, &text)?;
                indent = "    ";
            } else {
                out.write_all(indent.as_bytes())?;
                write_line(out, &self.without_secret(text))?;
            }
        }
        Ok(())
    }

    /// The value of a `hide` line is not for everybody.
    fn without_secret(&self, text: BString) -> BString {
        if self.asker.admin || !text.starts_with(b"hide ") {
            return text;
        }
        match text.find_byte(b'=') {
            Some(equals) => {
                let mut shown = BString::from(text[..equals].trim_end());
                shown.extend_from_slice(b" = ");
                shown.extend_from_slice(print::HIDDEN.as_bytes());
                shown
            }
            None => print::HIDDEN.into(),
        }
    }
}

fn write_line(out: &mut dyn Write, line: &[u8]) -> io::Result<()> {
    out.write_all(line)?;
    out.write_all(b"\n")
}

/// `name:` alone on its line.
fn is_header(line: &[u8]) -> bool {
    line.strip_suffix(b":").is_some_and(|name| {
        let name = name.trim_end();
        !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    })
}

/// Runs of white space outside double quotes become one space.
fn squeeze(line: &[u8]) -> BString {
    let mut out = BString::default();
    let mut quoted = false;
    for byte in line.iter().copied() {
        quoted ^= byte == b'"';
        if quoted || !byte.is_ascii_whitespace() {
            out.push(byte);
        } else if out.last() != Some(&b' ') {
            out.push(b' ');
        }
    }
    out
}

/// Options that some instance hides.
fn hidden_names<'a>(instances: impl Iterator<Item = &'a Instance>) -> HashSet<&'static str> {
    let settings = instances.flat_map(|instance| instance.options.settings());
    settings.filter(|(_, setting)| setting.hidden).map(|(name, _)| name).collect()
}

/// Users and groups as they are shown where that is not as they were written: by name even if they were written as
/// numbers; and a fixed user brings its group along.
fn name_ids(def: &OptionDef, options: &Options) -> Option<BString> {
    let to_name: fn(&BStr) -> Option<String> = match def.kind {
        Kind::User | Kind::UserList => user_name,
        Kind::Group | Kind::GroupList => group_name,
        _ => return None,
    };
    let text = print::value(def.kind, options.value(def.name));
    if let ("group" | "command_group", true) = (def.name, text.is_empty()) {
        return group_of_user(options, def.name).map(BString::from);
    }
    let is_list = matches!(def.kind, Kind::UserList | Kind::GroupList);
    let separator = if is_list { ":" } else { "\n" };
    let items = text.split_str(separator).map(|item| {
        let number = !item.is_empty() && item.iter().all(u8::is_ascii_digit);
        number.then(|| to_name(item.as_bstr())).flatten().map_or(BString::from(item), BString::from)
    });
    let shown: BString = bstr::join(separator, items).into();
    (shown != text).then_some(shown)
}

/// The primary group of the user that stands beside a group, if a fixed one is set.
fn group_of_user(options: &Options, group: &str) -> Option<String> {
    let user = options.plain(&group.replace("group", "user"))?;
    let user = User::from_name(user.to_str().ok()?).ok()??;
    Group::from_gid(user.gid).ok()?.map(|group| group.name)
}

fn user_name(number: &BStr) -> Option<String> {
    let number = number.to_str().ok()?.parse().ok()?;
    User::from_uid(Uid::from_raw(number)).ok()?.map(|user| user.name)
}

fn group_name(number: &BStr) -> Option<String> {
    let number = number.to_str().ok()?.parse().ok()?;
    Group::from_gid(Gid::from_raw(number)).ok()?.map(|group| group.name)
}

/// What `-bV` tells beside the configuration; only what works is claimed.
pub struct Build<'a> {
    /// When it was built, as `$compile_date` says it.
    pub date: &'a str,
    /// How often it was built (`$compile_number`).
    pub number: u32,
    /// Version of GnuTLS that it was built with.
    pub gnutls_built: &'a str,
    /// Version of GnuTLS that it runs with.
    pub gnutls_running: &'a str,
    /// `Support for:`
    pub support: &'a [&'a str],
    /// `Lookups (built-in):`
    pub lookups: &'a [&'a str],
    /// The option tables: which drivers work.
    pub tables: &'a Tables,
}

/// Prints `-bV` up to where the configuration is read: this is shown even if that fails.
pub fn print_version(build: &Build, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "Exim version {EXIM_VERSION} #{} built {}", build.number, build.date)?;
    writeln!(
        out,
        "oxim version {OXIM_VERSION}, GnuTLS {} at build time, {} at run time",
        build.gnutls_built, build.gnutls_running
    )?;
    let mut print_names = |title: &str, names: &[&str]| {
        write!(out, "{title}:")?;
        names.iter().try_for_each(|name| write!(out, " {name}"))?;
        writeln!(out)
    };
    let drivers = |drivers: &'static [crate::config::DriverDef]| -> Vec<&'static str> {
        drivers.iter().filter(|driver| driver.supported).map(|driver| driver.name).collect()
    };
    print_names("Support for", build.support)?;
    print_names("Lookups (built-in)", build.lookups)?;
    print_names("Authenticators (built-in)", &drivers(build.tables.authenticators))?;
    print_names("Routers (built-in)", &drivers(build.tables.routers))?;
    let mut transports = drivers(build.tables.transports);
    // Exim names the formats of mailboxes with the driver.
    for name in transports.iter_mut().filter(|name| **name == "appendfile") {
        *name = "appendfile/maildir";
    }
    print_names("Transports (built-in)", &transports)?;
    writeln!(out, "Fixed never_users: {}", fixed_never_users())?;
    writeln!(out, "Configure owner: {}:{}", owner_number(), group_number())?;
    writeln!(out, "Size of off_t: {}", size_of::<libc::off_t>())
}

/// Prints the end of `-bV`: the configuration file, and every place in it that is not supported yet.
pub fn print_configuration(
    written: &Written,
    unsupported: &[ConfigError],
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out, "Configuration file search path is {}", build_settings::CONFIGURE_FILE)?;
    writeln!(out, "Configuration file is {}", written.file.display())?;
    if let Some(shown) =
        written.main.text("openmetrics_listen").filter(|value| !value.text().trim().is_empty())
    {
        let who = "openmetrics_listen: a daemon (-bd, -q<time>) shows its numbers there; what runs without one \
                   (-bs under inetd, -q, -M) is counted by nobody";
        writeln!(out, "{}: {who}", shown.at())?;
    }
    unsupported.iter().try_for_each(|place| writeln!(out, "{}: {}", place.at, place.message))
}

/// Prints what is legal, but surely not meant: places of the configuration, and files that it names.
pub fn print_warnings(places: &[Warning], files: &[BString], out: &mut dyn Write) -> io::Result<()> {
    places.iter().try_for_each(|place| writeln!(out, "{}: Warning: {}", place.at, place.text))?;
    files.iter().try_for_each(|text| writeln!(out, "Warning: {text}"))
}

/// The users of `FIXED_NEVER_USERS` by number, as Exim shows them.
fn fixed_never_users() -> String {
    let names = build_settings::FIXED_NEVER_USERS.split(':').map(str::trim).filter(|name| !name.is_empty());
    let numbers: Vec<String> = names.map(|name| user_number(name).unwrap_or(name.to_owned())).collect();
    numbers.join(" ")
}

fn user_number(name: &str) -> Option<String> {
    User::from_name(name).ok()?.map(|user| user.uid.to_string())
}

/// `CONFIGURE_OWNER` and `CONFIGURE_GROUP` by number, 0 where none is set or known.
fn owner_number() -> String {
    let owner = build_settings::CONFIGURE_OWNER;
    let number = owner.parse::<u32>().ok().map(|uid| uid.to_string());
    number.or_else(|| user_number(owner)).unwrap_or("0".to_owned())
}

fn group_number() -> String {
    let group = build_settings::CONFIGURE_GROUP;
    let number = group.parse::<u32>().ok();
    let look_up = || Group::from_name(group).ok().flatten().map(|group| group.gid.as_raw());
    number.or_else(look_up).unwrap_or(0).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, MacroOverrides};
    use std::path::Path;

    #[test]
    fn the_version_has_the_lines_of_exim_4_97_and_claims_only_what_works() {
        let tables = crate::config::Tables { ocsp: false, ..EMPTY };
        let build = Build {
            date: "1-Jan-2026 00:00:00",
            number: 1,
            gnutls_built: "3.7.9",
            gnutls_running: "3.8.0",
            support: &["IPv6", "GnuTLS"],
            lookups: &["lsearch"],
            tables: &tables,
        };
        let mut out = Vec::new();
        print_version(&build, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("Exim version ") && lines[0].ends_with("#1 built 1-Jan-2026 00:00:00"));
        assert!(lines[1].starts_with("oxim version ") && lines[1].contains("3.8.0 at run time"));
        assert_eq!(lines[2], "Support for: IPv6 GnuTLS");
        assert_eq!(lines[3], "Lookups (built-in): lsearch");
        assert_eq!(lines[4], "Authenticators (built-in):");
        assert_eq!(lines[5], "Routers (built-in): accept");
        assert_eq!(lines[6], "Transports (built-in): appendfile/maildir");
        assert_eq!(lines[9], "Size of off_t: 8");
    }

    #[test]
    fn options_of_certificate_status_are_unknown_where_it_is_compiled_out() {
        let tables = crate::config::Tables { ocsp: false, main: config::main_options::MAIN, ..EMPTY };
        let read = |text: &[u8]| {
            let mut opener = |_: &Path| Ok(None);
            config::read(Path::new("c"), text, &MacroOverrides::default(), &tables, &mut opener)
        };
        let (_, errors) = read(b"tls_ocsp_file = x\n.ifdef _OPT_MAIN_TLS_OCSP_FILE\nbad\n.endif\n");
        assert_eq!(errors.len(), 1);
        assert!(errors[0].message.starts_with("main option \"tls_ocsp_file\" unknown"));
        let (written, _) = read(b"");
        let (written, asker) = (&written.unwrap(), Asker { admin: true, names: true });
        let mut out = Vec::new();
        Listing { written, tables: &tables, asker }.print(&[], &mut out).unwrap();
        assert!(out.find(b"tls_certificate").is_some() && out.find(b"ocsp").is_none());
    }

    const EMPTY: Tables = Tables {
        main: &[],
        router_generic: &[],
        routers: &[config::DriverDef::built("accept", &[]), config::DriverDef::refused("dnslookup", &[])],
        transport_generic: &[],
        transports: &[config::DriverDef::built("appendfile", &[])],
        authenticator_generic: &[],
        authenticators: &[config::DriverDef::refused("plaintext", &[])],
        ocsp: true,
        log_selectors: &[],
        expansion_items: &[],
        expansion_operators: &[],
        expansion_conditions: &[],
        expansion_variables: &[],
        acl_conditions: &[],
        acl_modifiers: &[],
        lookups: &[],
        features: &[],
    };
}
