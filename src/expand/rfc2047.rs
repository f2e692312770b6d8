//! MIME words of header text (RFC 2047): decoding with character sets, and encoding.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bstr::{BString, ByteSlice};

/// Longest encoded word, RFC 2047 section 2.
const WORD_MAX: usize = 75;
/// Longest where the RFC's length is not asked for: a header of a million `=?a?q?` must not be searched through from
/// each of them.
const LONGEST_UNCHECKED: usize = 4096;

/// What counts as a word.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longer words than the RFC allows are left as they are.
    pub check_length: bool,
}

/// Decodes the words in `text`; `charset` is what they are translated to, none: bytes as they are.
/// White space between two words goes; a zero byte becomes a question mark.
pub fn decode(text: &[u8], limits: &Limits, charset: Option<&[u8]>) -> BString {
    let mut out = BString::default();
    let mut rest = text;
    let mut after_word = false;
    while let Some(start) = rest.find(b"=?") {
        let between = &rest[..start];
        match word(&rest[start..], limits, charset) {
            Some((decoded, length)) => {
                if !(after_word && between.iter().all(u8::is_ascii_whitespace)) {
                    out.extend_from_slice(between);
                }
                out.extend(decoded.iter().map(|b| if *b == 0 { b'?' } else { *b }));
                rest = &rest[start + length..];
                after_word = true;
            }
            None => {
                out.extend_from_slice(&rest[..start + 2]);
                rest = &rest[start + 2..];
                after_word = false;
            }
        }
    }
    out.extend_from_slice(rest);
    out
}

/// One word `=?charset?q?text?=` at the start: decoded, and its length.
fn word(text: &[u8], limits: &Limits, charset: Option<&[u8]>) -> Option<(Vec<u8>, usize)> {
    let longest = if limits.check_length { WORD_MAX } else { LONGEST_UNCHECKED };
    let text = &text[..text.len().min(longest)];
    let inner = text.strip_prefix(b"=?")?;
    let (from, rest) = inner.split_once_str("?")?;
    let (encoding, rest) = rest.split_once_str("?")?;
    let end = rest.find(b"?=")?;
    let data = &rest[..end];
    let length = text.len() - rest.len() + end + 2;
    if data.iter().any(u8::is_ascii_whitespace) {
        return None;
    }
    let decoded = match encoding {
        b"q" | b"Q" => decode_q(data)?,
        b"b" | b"B" => STANDARD.decode(data).or_else(|_| STANDARD_NO_PAD.decode(data)).ok()?,
        _ => return None,
    };
    // RFC 2231 section 5: a language may follow the character set.
    let from = from.split_once_str("*").map_or(from, |(name, _)| name);
    let translated = match charset {
        Some(to) if !from.eq_ignore_ascii_case(to) => translate(&decoded, from, to).unwrap_or(decoded),
        _ => decoded,
    };
    Some((translated, length))
}

fn decode_q(data: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(data.len());
    let mut at = 0;
    while let Some(byte) = data.get(at) {
        at += 1;
        match byte {
            b'_' => out.push(b' '),
            b'=' => {
                let digits = data.get(at..at + 2)?.to_str().ok()?;
                out.push(u8::from_str_radix(digits, 16).ok()?);
                at += 2;
            }
            other => out.push(*other),
        }
    }
    Some(out)
}

/// From one character set to another; none if either is not known or a character has no place.
pub fn translate(text: &[u8], from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let from = encoding_rs::Encoding::for_label(from)?;
    let to = encoding_rs::Encoding::for_label(to)?;
    let (unicode, wrong) = from.decode_without_bom_handling(text);
    if wrong {
        return None;
    }
    let (bytes, _, unmapped) = to.encode(&unicode);
    (!unmapped).then(|| bytes.into_owned())
}

/// Encodes text for a header (`${rfc2047:`): as it is if it is plain, else as one or more words.
pub fn encode(text: &[u8], charset: &[u8]) -> BString {
    let plain = |byte: &u8| byte.is_ascii_graphic() && !b"?=()<>@,;:\\\".[]_".contains(byte);
    if text.iter().all(|byte| *byte == b' ' || plain(byte)) {
        return text.into();
    }
    let start = [b"=?", charset, b"?Q?"].concat();
    let mut out = BString::from(start.as_slice());
    let mut length = out.len();
    for byte in text {
        let piece = match byte {
            b' ' => b"_".to_vec(),
            _ if plain(byte) => vec![*byte],
            _ => format!("={byte:02X}").into_bytes(),
        };
        if length + piece.len() + 2 > WORD_MAX {
            out.extend_from_slice(b"?= ");
            out.extend_from_slice(&start);
            length = start.len();
        }
        length += piece.len();
        out.extend_from_slice(&piece);
    }
    out.extend_from_slice(b"?=");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> String {
        decode(text.as_bytes(), &Limits { check_length: true }, Some(b"UTF-8")).to_string()
    }

    #[test]
    fn words_are_decoded_and_translated() {
        assert_eq!(decoded("=?iso-8859-1?q?a=E4b?="), "aäb");
        assert_eq!(decoded("=?utf-8?b?w6Q=?= x"), "ä x");
        assert_eq!(decoded("=?utf-8?q?a?= =?utf-8?q?b?="), "ab");
    }

    #[test]
    fn a_header_of_beginnings_of_words_is_decoded_in_linear_time() {
        let text = "=?a?q?b".repeat(200_000);
        let started = std::time::Instant::now();
        for check_length in [true, false] {
            assert_eq!(decode(text.as_bytes(), &Limits { check_length }, None), text);
        }
        assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
    }

    #[test]
    fn what_is_no_word_stays_as_it_is() {
        for text in ["=?x", "=?utf-8?z?a?=", "=?utf-8?q?a b?=", "=?utf-8?q?=4?="] {
            assert_eq!(decoded(text), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_decoder_and_what_is_encoded_is_decoded(text in "(=\\?|\\?=|utf-8|\\?q\\?|\\?b\\?|=[0-9A-F]{2}|\\PC){0,20}") {
            for check_length in [true, false] {
                let _ = decode(text.as_bytes(), &Limits { check_length }, Some(b"UTF-8"));
            }
            let encoded = encode(text.as_bytes(), b"UTF-8");
            proptest::prop_assert_eq!(decoded(encoded.to_str().unwrap()), text);
        }
    }
}
