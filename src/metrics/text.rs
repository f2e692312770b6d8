//! The OpenMetrics text format: families with their type, unit and help, samples with labels, and the end mark.

use std::fmt::{self, Write};

/// What a server says of this text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Types of families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; samples end in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Constant facts as labels; samples end in `_info`, and are 1.
    Info,
}

/// A text that is being written.
#[derive(Debug, Default)]
pub struct Text(String);

/// A family whose samples are being written.
#[derive(Debug)]
pub struct Samples<'t> {
    text: &'t mut String,
    name: &'t str,
    suffix: &'static str,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Info => "info",
        }
    }
    fn suffix(self) -> &'static str {
        match self {
            Self::Counter => "_total",
            Self::Gauge => "",
            Self::Info => "_info",
        }
    }
}

impl Text {
    /// Begins a family, whose samples follow. The name has no suffix of its type; a unit is its end. Each family is begun
    /// once only.
    pub fn family<'t>(&'t mut self, kind: Kind, name: &'t str, unit: &str, help: &str) -> Samples<'t> {
        debug_assert!(
            is_name(name) && (unit.is_empty() || name.ends_with(&format!("_{unit}"))),
            "{name} {unit}"
        );
        let text = &mut self.0;
        put(text, format_args!("# TYPE {name} {}\n", kind.name()));
        if !unit.is_empty() {
            put(text, format_args!("# UNIT {name} {unit}\n"));
        }
        put(text, format_args!("# HELP {name} {}\n", Escaped(help)));
        Samples { text, name, suffix: kind.suffix() }
    }

    /// The whole, with its end mark.
    pub fn end(mut self) -> String {
        self.0.push_str("# EOF\n");
        self.0
    }
}

impl Samples<'_> {
    /// One sample. No two of a family have the same labels.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl fmt::Display) -> &mut Self {
        put(self.text, format_args!("{}{}", self.name, self.suffix));
        for (at, (label, content)) in labels.iter().enumerate() {
            debug_assert!(is_name(label), "{label}");
            let before = if at == 0 { '{' } else { ',' };
            put(self.text, format_args!("{before}{label}=\"{}\"", Escaped(content)));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        put(self.text, format_args!(" {value}\n"));
        self
    }
}

fn put(text: &mut String, what: fmt::Arguments) {
    let _ = text.write_fmt(what); // memory takes everything
}

/// Names of families and labels that need no thought.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Text within a help line or between the quotes of a label. Control characters other than the end of a line are
/// allowed there, but help nobody: they are shown as question marks.
struct Escaped<'t>(&'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c if c.is_control() => f.write_char('?')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_types_units_helps_suffixes_and_an_end() {
        let mut text = Text::default();
        text.family(Kind::Counter, "a_bytes", "bytes", "What \"a\" is.\nTruly.").sample(&[], 3u64);
        text.family(Kind::Gauge, "b", "", "B.").sample(&[("x", "1"), ("y", "2")], 0.5).sample(&[], -1);
        text.family(Kind::Info, "c", "", "C.").sample(&[("version", "1")], 1);
        let expected = "# TYPE a_bytes counter\n# UNIT a_bytes bytes\n# HELP a_bytes What \\\"a\\\" is.\\nTruly.\n\
                        a_bytes_total 3\n# TYPE b gauge\n# HELP b B.\nb{x=\"1\",y=\"2\"} 0.5\nb -1\n\
                        # TYPE c info\n# HELP c C.\nc_info{version=\"1\"} 1\n# EOF\n";
        assert_eq!(text.end(), expected);
    }

    #[test]
    fn no_content_of_a_label_leaves_its_quotes_or_its_line() {
        let mut text = Text::default();
        text.family(Kind::Gauge, "a", "", "").sample(&[("l", "\\\"} 1\n# EOF\n\u{1b}é\r")], 1);
        assert!(text.end().ends_with("a{l=\"\\\\\\\"} 1\\n# EOF\\n?é?\"} 1\n# EOF\n"));
    }
}
