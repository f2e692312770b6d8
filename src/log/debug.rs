//! What `-d` shows: its selectors are targets of the `log` crate. The texts are no interface.
//!
//! `-dd` is `-d` that a daemon does not pass on to its roles. A selector whose part of Exim is not built has nothing to
//! say: asking for it by name is refused, `+all` leaves it out.
//!
//! Specification: option `-d` in chapter "The Exim command line".

use log::LevelFilter;
use std::io::Write;
use std::time::SystemTime;

/// What stands behind a selector.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A target that something is said for.
    Target,
    /// Changes the form of all lines.
    Modifier,
    /// Known, but what it is about is not built.
    Silent,
}
use Kind::{Modifier, Silent, Target};

/// Name, kind, whether it is on with `-d` alone.
const SELECTORS: &[(&str, Kind, bool)] = &[
    ("acl", Target, true),
    ("auth", Silent, true),
    ("deliver", Target, true),
    ("dns", Target, true),
    ("dnsbl", Silent, true),
    ("exec", Silent, true),
    ("expand", Target, false),
    ("filter", Silent, false),
    ("hints_lookup", Target, true),
    ("host_lookup", Silent, true),
    ("ident", Silent, true),
    ("interface", Silent, false),
    ("lists", Target, true),
    ("load", Silent, false),
    ("local_scan", Silent, true),
    ("lookup", Target, true),
    ("memory", Silent, false),
    ("noutf8", Modifier, false),
    ("pid", Modifier, false),
    ("process_info", Silent, true),
    ("queue_run", Target, true),
    ("receive", Target, true),
    ("resolver", Silent, false),
    ("retry", Target, true),
    ("rewrite", Silent, true),
    ("route", Target, true),
    ("timestamp", Modifier, false),
    ("tls", Target, true),
    ("transport", Target, true),
    ("uid", Target, true),
    ("verify", Target, true),
];

/// The selectors that are on, one bit for each row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection(u32);

impl Default for Selection {
    fn default() -> Self {
        Self(rows(|(_, _, on)| *on))
    }
}

fn rows(wanted: impl Fn(&(&'static str, Kind, bool)) -> bool) -> u32 {
    SELECTORS.iter().enumerate().filter(|(_, row)| wanted(row)).map(|(at, _)| 1 << at).sum()
}

impl Selection {
    /// `+acl-dns`, applied to the default in order; the error is Exim's text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut selection = Self::default();
        let mut rest = text;
        while let Some(sign) = rest.chars().next() {
            if !matches!(sign, '+' | '-') {
                return Err(format!(
                    "exim: malformed debug_selector setting: + or - expected but found \"{rest}\""
                ));
            }
            let after = &rest[1..];
            let end = after.find(['+', '-']).unwrap_or(after.len());
            selection.apply(sign == '+', &after[..end])?;
            rest = &after[end..];
        }
        Ok(selection)
    }

    fn apply(&mut self, on: bool, name: &str) -> Result<(), String> {
        if name == "all" {
            // Modifiers and what costs most are asked for by name.
            self.0 = if on { rows(|(name, kind, _)| *kind != Modifier && *name != "memory") } else { 0 };
            return Ok(());
        }
        let found = SELECTORS.iter().position(|(known, ..)| *known == name);
        let sign = if on { '+' } else { '-' };
        let at = found.ok_or_else(|| format!("exim: unknown debug_selector setting: {sign}{name}"))?;
        match (on, SELECTORS[at].1) {
            (true, Silent) => Err(format!("exim: debug selector {name} is known but not supported yet")),
            (true, _) => {
                self.0 |= 1 << at;
                Ok(())
            }
            (false, _) => {
                self.0 &= !(1 << at);
                Ok(())
            }
        }
    }

    fn has(self, name: &str) -> bool {
        SELECTORS.iter().position(|(known, ..)| *known == name).is_some_and(|at| self.0 & (1 << at) != 0)
    }

    /// From now on what is selected is written to standard error. For a daemon and its roles each line has its pid.
    pub fn start(self, of_daemon: bool) {
        let (pid, time) = (of_daemon || self.has("pid"), self.has("timestamp"));
        let mut builder = env_logger::Builder::new();
        builder.filter_level(LevelFilter::Off);
        for (name, ..) in SELECTORS.iter().filter(|(name, kind, _)| *kind == Target && self.has(name)) {
            builder.filter_module(name, LevelFilter::Debug);
        }
        builder.format(move |out, record| {
            out.write_all(line(&record.args().to_string(), time.then(SystemTime::now), pid).as_bytes())
        });
        // Started once for each process; a second time changes nothing.
        let _ = builder.try_init();
    }
}

/// The text with what is selected before it.
fn line(text: &str, now: Option<SystemTime>, pid: bool) -> String {
    let mut line = String::new();
    if let Some(now) = now {
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
        line.push_str(&format!("{hours:02}:{minutes:02}:{:02} ", seconds % 60));
    }
    if pid {
        line.push_str(&format!("{} ", std::process::id()));
    }
    line.push_str(text);
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_add_to_the_default_and_take_from_it_in_order() {
        let all = |text: &str| Selection::parse(text).unwrap();
        assert!(all("").has("route") && !all("").has("expand"));
        assert!(all("+expand").has("expand") && all("+expand").has("route"));
        assert!(!all("-all+route").has("acl") && all("-all+route").has("route"));
        assert!(!all("-route").has("route") && all("-route").has("acl"));
        assert!(!all("+all").has("pid") && !all("+all").has("memory") && all("+all").has("expand"));
        assert_eq!(all("-filter").0, all("").0);
    }

    #[test]
    fn lines_have_a_time_and_a_pid_where_that_is_selected() {
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(3_723);
        assert_eq!(line("text", Some(at), true), format!("01:02:03 {} text\n", std::process::id()));
        assert_eq!(line("text", None, false), "text\n");
    }

    #[test]
    fn every_target_of_the_table_is_used_by_the_code() {
        for (name, ..) in SELECTORS.iter().filter(|(_, kind, _)| *kind == Target) {
            let used = format!("target: \"{name}\"");
            let found = std::process::Command::new("grep").args(["-rqF", &used, "src"]).status().unwrap();
            assert!(found.success(), "nothing is said for {name}");
        }
    }
}
