//! `${certextract`: a field of a certificate.
//!
//! What comes out of a peer's certificate is as tainted as the certificate. Specification: section "Expansion
//! items", `${certextract`; what modifiers do that the documentation does not name is as recorded from Exim 4.96.

use super::{ExpandError, eval, failed, variable_time};
use crate::expand::Context;
use crate::mail::date;
use crate::syntax::tree::{Branches, Tree};
use crate::text::Value;
use crate::tls::gnutls::certificate_fields::AltName;
use crate::tls::gnutls::x509::Certificate;
use crate::tls::gnutls::{crl, ocsp};
use bstr::{BString, ByteSlice};
use std::time::{SystemTime, UNIX_EPOCH};

/// Evaluates the item. Without a certificate no field is found.
pub fn extract(
    field: &Tree,
    certificate: &Tree,
    branches: &Branches,
    context: &Context,
) -> Result<Value, ExpandError> {
    let field = eval::tree(field, context)?;
    let der = eval::tree(certificate, context)?;
    let found = match Certificate::from_der(der.bytes()) {
        _ if der.is_empty() => None,
        Ok(certificate) => read(field.bytes(), &certificate, context)?,
        Err(error) => return failed(format!("the certificate cannot be read: {error}")),
    };
    eval::choose_with_value("certextract", found.map(|text| der.derive(text)), branches, context)
}

/// One field; none if the certificate does not have it.
fn read(
    selector: &[u8],
    certificate: &Certificate,
    context: &Context,
) -> Result<Option<BString>, ExpandError> {
    let selector = selector.trim_end();
    let (name, modifiers) = match selector.split_once_str(b",") {
        Some((name, modifiers)) => (name.trim(), Some(modifiers)),
        None => (selector.trim(), None),
    };
    let time = |time: SystemTime| match modifiers {
        Some(b"int") => time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()).to_string(),
        _ => date::certificate(time, &variable_time::zone(context)),
    };
    let modified = Modifiers::parse(modifiers.unwrap_or_default());
    let name_of = |dn: Vec<u8>| match modifiers {
        None => Some(dn.into()),
        Some(_) => modified.part_of_name(&dn),
    };
    Ok(match name {
        b"version" => certificate.version().ok().map(|number| number.to_string().into()),
        b"serial_number" => certificate.serial().ok().map(|bytes| serial_number(&bytes)),
        b"subject" => certificate.dn().ok().and_then(name_of),
        b"issuer" => certificate.issuer_dn().ok().and_then(name_of),
        b"notbefore" => Some(time(certificate.not_before()).into()),
        b"notafter" => Some(time(certificate.not_after()).into()),
        b"sig_algorithm" => certificate.signature_algorithm().map(BString::from),
        b"signature" => certificate.signature().ok().map(|bytes| spaced(&bytes)),
        b"subj_altname" => modified.alt_names(certificate.alt_names().unwrap_or_default()),
        b"ocsp_uri" => modified.list(ocsp::responders(certificate)),
        b"crl_uri" => modified.list(crl::distribution_points(certificate)),
        // an empty selector selects nothing
        b"" => None,
        other => return failed(format!("bad field selector \"{}\" for certextract", other.as_bstr())),
    })
}

/// What follows the field's name, separated by commas.
struct Modifiers {
    separator: u8,
    /// The last word: a type of a name's parts or of an alternative name.
    word: Option<BString>,
}

impl Modifiers {
    fn parse(text: &[u8]) -> Self {
        let mut modifiers = Self { separator: b'\n', word: None };
        let mut rest = text;
        while !rest.is_empty() {
            rest = rest.trim_start();
            if let [b'>', separator, after @ ..] = rest {
                modifiers.separator = *separator;
                rest = after.strip_prefix(b",").unwrap_or(after);
                continue;
            }
            let (word, after) = rest.split_once_str(b",").unwrap_or((rest, b""));
            if !matches!(word, b"" | b">") {
                modifiers.word = Some(word.into());
            }
            rest = after;
        }
        modifiers
    }

    /// The parts of a distinguished name: those of one type without it, or all with theirs.
    fn part_of_name(&self, dn: &[u8]) -> Option<BString> {
        let parts = name_parts(dn).into_iter().filter_map(|part| {
            let Some(word) = &self.word else { return Some(part) };
            let value = part.strip_prefix(word.as_slice())?.strip_prefix(b"=")?;
            Some(value.to_vec())
        });
        self.list(parts.collect())
    }

    /// Names with their kind in front, or those of one kind without it.
    fn alt_names(&self, names: Vec<AltName>) -> Option<BString> {
        let wanted = match self.word.as_ref().map(|word| word.as_slice()) {
            Some(b"dns") => Some("DNS"),
            Some(b"uri") => Some("URI"),
            Some(b"mail") => Some("MAIL"),
            _ => None,
        };
        let texts = names.into_iter().filter_map(|name| {
            let (kind, text) = match name {
                AltName::Dns(text) => ("DNS", text),
                AltName::Uri(text) => ("URI", text),
                AltName::Mail(text) => ("MAIL", text),
            };
            match wanted {
                Some(wanted) => (wanted == kind).then_some(text),
                None => Some([kind.as_bytes(), b"=", &text].concat()),
            }
        });
        self.list(texts.collect())
    }

    /// A list, or nothing if there is nothing in it.
    fn list(&self, items: Vec<Vec<u8>>) -> Option<BString> {
        let separator = [self.separator];
        let twice = [self.separator; 2];
        let doubled: Vec<Vec<u8>> = items.iter().map(|item| item.replace(separator, twice)).collect();
        (!doubled.is_empty()).then(|| bstr::join(separator, doubled).into())
    }
}

/// The parts of a name in RFC 4514's form, `C=GB,O=Rich\, and famous`, without its escapes.
fn name_parts(dn: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = dn.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b',' => parts.push(Vec::new()),
            b'\\' => parts.last_mut().into_iter().for_each(|part| part.extend(bytes.next())),
            other => parts.last_mut().into_iter().for_each(|part| part.push(*other)),
        }
    }
    parts
}

/// Hexadecimal, without zeros in front.
fn serial_number(bytes: &[u8]) -> BString {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let short = digits.trim_start_matches('0');
    if short.is_empty() { "0".into() } else { short.into() }
}

fn spaced(bytes: &[u8]) -> BString {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_cut_at_its_commas_but_not_at_escaped_ones() {
        assert_eq!(
            name_parts(b"C=GB,O=Rich\\, and famous,CN=a"),
            [&b"C=GB"[..], b"O=Rich, and famous", b"CN=a"]
        );
        assert_eq!(name_parts(b"CN=a\\"), [b"CN=a"]);
        assert_eq!(name_parts(b""), [b""]);
    }

    #[test]
    fn modifiers_choose_a_separator_and_the_last_word_and_an_item_with_the_separator_has_it_twice() {
        let of = |text: &str| {
            let modifiers = Modifiers::parse(text.as_bytes());
            (modifiers.separator, modifiers.word.map(|word| word.to_string()))
        };
        assert_eq!(of(">;"), (b';', None));
        assert_eq!(of(">,,CN"), (b',', Some("CN".into())));
        assert_eq!(of("CN,> "), (b' ', Some("CN".into())));
        assert_eq!(of("dns,mail,>"), (b'\n', Some("mail".into())));
        let list = Modifiers::parse(b">:").list(vec![b"http://a".to_vec(), b"b".to_vec()]);
        assert_eq!(list.unwrap(), "http:://a:b");
        assert_eq!(Modifiers::parse(b"").list(Vec::new()), None);
    }

    #[test]
    fn a_serial_number_has_no_zeros_in_front() {
        assert_eq!(serial_number(&[0, 0xfe, 1]), "fe01");
        assert_eq!(serial_number(&[1, 2]), "102");
        assert_eq!(serial_number(&[0]), "0");
    }
}
