//! The options that reception reads, taken out of the configuration once for each message.

use crate::expand::{self, Context, ExpandError};
use crate::mail::Syntax;
use bstr::{BString, ByteSlice};

/// What `header_maxsize = 0` would mean is no limit; we keep one, since a header section is held in memory.
const HEADER_SECTION_MAX: usize = 64 * 1024 * 1024;

/// Options of the main section.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// `message_size_limit` in bytes; 0: none.
    pub size_limit: u64,
    /// `header_maxsize`
    pub header_section: usize,
    /// `header_line_maxsize`
    pub header_line: usize,
    /// `return_path_remove`, `envelope_to_remove`, `delivery_date_remove`: lower-case names to remove.
    pub removed_names: Vec<&'static [u8]>,
    /// `local_from_check`
    pub local_from_check: bool,
    /// `local_sender_retain`
    pub local_sender_retain: bool,
    /// `local_from_prefix`
    pub local_from_prefix: BString,
    /// `local_from_suffix`
    pub local_from_suffix: BString,
    /// `check_spool_space` in kilobytes; 0: no check.
    pub spool_kilobytes: u64,
    /// `check_spool_inodes`
    pub spool_inodes: u64,
    /// How addresses are read.
    pub syntax: Syntax,
    /// `print_topbitchars`
    pub top_bit_prints: bool,
    /// `message_body_visible` in bytes.
    pub body_visible: usize,
    /// `message_logs`
    pub message_logs: bool,
}

impl Settings {
    /// Reads them; an expansion that fails is told by its option's name.
    pub fn read(context: &Context) -> Result<Self, (&'static str, ExpandError)> {
        let main = &context.globals.main;
        let number = |name: &str| u64::try_from(main.int(name)).unwrap_or(0);
        let size = |name: &str| usize::try_from(main.int(name)).unwrap_or(0);
        let section = match size("header_maxsize") {
            0 => HEADER_SECTION_MAX,
            bytes => bytes.min(HEADER_SECTION_MAX),
        };
        let removed = [
            ("return_path_remove", &b"return-path"[..]),
            ("envelope_to_remove", b"envelope-to"),
            ("delivery_date_remove", b"delivery-date"),
        ];
        Ok(Self {
            size_limit: size_limit(context).map_err(|error| ("message_size_limit", error))?,
            header_section: section,
            header_line: size("header_line_maxsize"),
            removed_names: removed
                .iter()
                .filter(|(option, _)| main.bool(option))
                .map(|(_, name)| *name)
                .collect(),
            local_from_check: main.bool("local_from_check"),
            local_sender_retain: main.bool("local_sender_retain"),
            local_from_prefix: main.plain("local_from_prefix").unwrap_or_default(),
            local_from_suffix: main.plain("local_from_suffix").unwrap_or_default(),
            spool_kilobytes: number("check_spool_space"),
            spool_inodes: number("check_spool_inodes"),
            syntax: Syntax {
                // What a caller or a header line names may be a literal always; the option is for SMTP commands.
                domain_literals: true,
                utf8_domains: main.bool("allow_utf8_domains"),
                strip_trailing_dot: main.bool("strip_trailing_dot"),
                null: false,
            },
            top_bit_prints: main.bool("print_topbitchars"),
            body_visible: size("message_body_visible"),
            message_logs: main.bool("message_logs"),
        })
    }
}

/// `message_size_limit`, expanded: a number with K, M or G.
pub fn size_limit(context: &Context) -> Result<u64, ExpandError> {
    let Some(template) = context.globals.main.text("message_size_limit") else { return Ok(0) };
    let value = expand::expand(template, context)?;
    parse_size(value.bytes()).ok_or_else(|| {
        ExpandError::Failed(format!("invalid value \"{}\" for message_size_limit", value.bytes()))
    })
}

fn parse_size(text: &[u8]) -> Option<u64> {
    let text = text.trim();
    let (digits, factor) = match text.last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1 << 10),
        b'm' | b'M' => (&text[..text.len() - 1], 1 << 20),
        b'g' | b'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    digits.to_str().ok()?.trim().parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size(b"50M"), Some(50 << 20));
        assert_eq!(parse_size(b" 100 "), Some(100));
        assert_eq!(parse_size(b"x"), None);
        assert_eq!(parse_size(b""), None);
    }
}
