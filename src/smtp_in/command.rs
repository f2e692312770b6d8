//! One command line to a [`Command`]: pure.
//!
//! Verbs are found as Exim finds them: in any case, followed by the end, white space, or (for `MAIL FROM:`
//! and `RCPT TO:`) a colon. What follows a verb is checked by the verb's own file.

use bstr::{BStr, ByteSlice};

/// A verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the verbs of RFC 5321 and its extensions")]
pub enum Verb {
    Helo,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    Bdat,
    Rset,
    Noop,
    Quit,
    Vrfy,
    Expn,
    Help,
    Starttls,
    Auth,
    Etrn,
    /// Anything else.
    Unknown,
}

/// A command line, cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command<'l> {
    /// The verb.
    pub verb: Verb,
    /// What follows it, white space trimmed on both sides.
    pub argument: &'l BStr,
    /// The whole line, white space trimmed at its end: as log lines show it.
    pub line: &'l BStr,
}

const VERBS: [(&str, Verb); 15] = [
    ("helo", Verb::Helo),
    ("ehlo", Verb::Ehlo),
    ("mail from:", Verb::Mail),
    ("rcpt to:", Verb::Rcpt),
    ("data", Verb::Data),
    ("bdat", Verb::Bdat),
    ("rset", Verb::Rset),
    ("noop", Verb::Noop),
    ("quit", Verb::Quit),
    ("vrfy", Verb::Vrfy),
    ("expn", Verb::Expn),
    ("help", Verb::Help),
    ("starttls", Verb::Starttls),
    ("auth", Verb::Auth),
    ("etrn", Verb::Etrn),
];

impl<'l> Command<'l> {
    /// Cuts a line that is without its end.
    pub fn parse(line: &'l [u8]) -> Self {
        let line = line.trim_end().as_bstr();
        for (name, verb) in VERBS {
            let Some((head, rest)) = line.split_at_checked(name.len()) else { continue };
            let ends = name.ends_with(':') || rest.first().is_none_or(u8::is_ascii_whitespace);
            if ends && head.eq_ignore_ascii_case(name.as_bytes()) {
                return Self { verb, argument: rest.trim_start().as_bstr(), line };
            }
        }
        Self { verb: Verb::Unknown, argument: line, line }
    }

    /// The first word of the line in upper case, at most ten bytes: for the history of commands.
    pub fn word(&self) -> &'static str {
        match self.verb {
            Verb::Helo => "HELO",
            Verb::Ehlo => "EHLO",
            Verb::Mail => "MAIL",
            Verb::Rcpt => "RCPT",
            Verb::Data => "DATA",
            Verb::Bdat => "BDAT",
            Verb::Rset => "RSET",
            Verb::Noop => "NOOP",
            Verb::Quit => "QUIT",
            Verb::Vrfy => "VRFY",
            Verb::Expn => "EXPN",
            Verb::Help => "HELP",
            Verb::Starttls => "STARTTLS",
            Verb::Auth => "AUTH",
            Verb::Etrn => "ETRN",
            Verb::Unknown => "",
        }
    }

    /// May the next command have come already, with PIPELINING (RFC 2920 section 3.1)?
    pub fn may_be_followed(&self) -> bool {
        matches!(self.verb, Verb::Mail | Verb::Rcpt | Verb::Rset | Verb::Bdat)
    }

    /// Something follows a verb that stands alone.
    pub fn has_bad_argument(&self) -> bool {
        matches!(self.verb, Verb::Data | Verb::Rset | Verb::Quit | Verb::Starttls)
            && !self.argument.is_empty()
    }

    /// A command outside mail transactions, which `smtp_accept_max_nonmail` counts.
    pub fn is_nonmail(&self) -> bool {
        !matches!(self.verb, Verb::Mail | Verb::Rcpt | Verb::Data | Verb::Bdat | Verb::Quit | Verb::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_found_in_any_case_and_end_at_white_space() {
        let cases = [
            ("EHLO client.ex", Verb::Ehlo, "client.ex"),
            ("mail FROM: <a@b>", Verb::Mail, "<a@b>"),
            ("MAIL FROM:<a@b> SIZE=1", Verb::Mail, "<a@b> SIZE=1"),
            ("rcpt to:<x>", Verb::Rcpt, "<x>"),
            ("Quit", Verb::Quit, ""),
            ("NOOP  x ", Verb::Noop, "x"),
        ];
        for (line, verb, argument) in cases {
            let command = Command::parse(line.as_bytes());
            assert_eq!((command.verb, command.argument), (verb, argument.into()), "{line}");
        }
    }

    #[test]
    fn half_verbs_are_unknown() {
        for line in ["MAIL", "MAIL FROM", "DATAX", "", "RCPT  TO:<a>", "FOO bar"] {
            assert_eq!(Command::parse(line.as_bytes()).verb, Verb::Unknown, "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_breaks_the_cut(start in "(MAIL FROM:|rcpt to|BDAT|.{0,3})", rest: Vec<u8>) {
            let line = [start.as_bytes(), &rest].concat();
            let command = Command::parse(&line);
            proptest::prop_assert!(line.starts_with(command.line));
            proptest::prop_assert!(command.line.contains_str(command.argument));
        }
    }
}
