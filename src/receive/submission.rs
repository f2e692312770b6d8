//! `-t`: recipients from To:, Cc: and Bcc:, or from their Resent- forms if there are any (spec option `-t`).

use super::new_mail::Extract;
use crate::mail::{Address, Header, HeaderKind, Recipient, Syntax, parse_list};
use crate::text::quote::printable;
use bstr::{BString, ByteSlice};
use std::collections::BTreeSet;

/// Most recipients taken from headers: a guard of memory, far above `recipients_max`'s default.
const EXTRACTED_MAX: usize = 1_000_000;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Extracted {
    /// Recipients, qualified; those that get no copy are among them.
    pub recipients: Vec<Recipient>,
    /// Addresses given as arguments, which get no copy.
    pub removed: BTreeSet<BString>,
    /// Items that are no addresses: the text, and Exim's words for what is wrong.
    pub bad: Vec<(BString, BString)>,
}

/// Takes the recipients and marks Bcc: lines as deleted.
pub(super) fn extract_recipients(
    headers: &mut [Header],
    extract: &Extract,
    qualify_recipient: &[u8],
    syntax: Syntax,
) -> Extracted {
    let mut found = Extracted::default();
    if extract.remove_arguments {
        found.removed = extract.arguments.iter().map(Address::to_bytes).collect();
    } else {
        let recipient = |address: &Address| Recipient { address: address.clone(), ..Recipient::default() };
        found.recipients.extend(extract.arguments.iter().map(recipient));
    }
    // Any line of a resending counts, even where it names no recipient.
    let resent = headers.iter().any(is_resent);
    for header in headers {
        let counts = matches!(header.kind, HeaderKind::To | HeaderKind::Cc | HeaderKind::Bcc);
        if !counts || is_resent(header) != resent {
            continue;
        }
        take_list(header, qualify_recipient, syntax, &mut found);
        if header.kind == HeaderKind::Bcc {
            header.kind = HeaderKind::Deleted;
        }
    }
    found
}

fn is_resent(header: &Header) -> bool {
    header.name().to_ascii_lowercase().starts_with(b"resent-")
}

fn take_list(header: &Header, qualify_recipient: &[u8], syntax: Syntax, found: &mut Extracted) {
    let body = header.body();
    for item in parse_list(body, syntax) {
        match item.parsed {
            Ok(parsed) => {
                let mut address = parsed.address;
                if address.is_unqualified() {
                    address = address.qualified(qualify_recipient);
                }
                if found.recipients.len() < EXTRACTED_MAX {
                    found.recipients.push(Recipient { address, ..Recipient::default() });
                }
            }
            // Only a comment, or the end of a group that was none: nothing is named.
            Err(wrong) if wrong.message == "empty address" || body[item.span.clone()].trim() == b";" => {}
            Err(wrong) => {
                // Exim shows all that follows the item's start.
                let rest = printable(body[item.span.start..].trim_end(), true);
                found.bad.push((rest, wrong.message));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extract(lines: &[&str], extract: &Extract) -> (Vec<Header>, Vec<String>, Extracted) {
        let mut headers: Vec<Header> = lines.iter().map(|line| Header::new(format!("{line}\n"))).collect();
        let found = extract_recipients(&mut headers, extract, b"test.example", Syntax::default());
        let addresses = found.recipients.iter().map(|recipient| recipient.address.to_string()).collect();
        (headers, addresses, found)
    }

    #[test]
    fn recipients_come_from_to_cc_and_bcc_and_bcc_goes() {
        let lines = ["To: a@b, c (q) <d@e>, \"x\" <f@g>", "Cc: h", "Bcc: i@j", "From: z@z"];
        let (headers, addresses, _) = extract(&lines, &Extract::default());
        assert_eq!(addresses, ["a@b", "d@e", "f@g", "h@test.example", "i@j"]);
        assert_eq!(headers[2].kind, HeaderKind::Deleted);
    }

    #[test]
    fn arguments_get_no_copy_or_are_added() {
        let arguments = vec![Address::new("a", "b"), Address::new("q", "q")];
        let away = Extract { arguments, remove_arguments: true };
        let (_, addresses, found) = extract(&["To: a@b, c@d"], &away);
        assert_eq!(addresses, ["a@b", "c@d"]);
        assert_eq!(found.removed.len(), 2);
        let (_, addresses, _) = extract(&["To: c@d"], &Extract { remove_arguments: false, ..away });
        assert_eq!(addresses, ["a@b", "q@q", "c@d"]);
    }

    #[test]
    fn resent_lines_stand_for_all_and_bad_items_are_told() {
        let lines = ["Resent-To: a@b", "Resent-Bcc: q@q", "To: x@y", "Bcc: keep@me"];
        let (headers, addresses, _) = extract(&lines, &Extract::default());
        assert_eq!(addresses, ["a@b", "q@q"]);
        assert_eq!((headers[1].kind, headers[3].kind), (HeaderKind::Deleted, HeaderKind::Bcc));
        let (_, addresses, _) = extract(&["Resent-From: a@b", "To: x@y"], &Extract::default());
        assert!(addresses.is_empty(), "{addresses:?}");
        let (_, addresses, found) =
            extract(&["To: bad bad, ok@ok", "Cc: undisclosed:;"], &Extract::default());
        assert_eq!(addresses, ["ok@ok"]);
        assert_eq!(found.bad[0].0, "bad bad, ok@ok");
    }
}
