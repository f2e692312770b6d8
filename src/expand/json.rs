//! Just enough JSON (RFC 8259) for `${extract json` and `forany_json`: where elements begin and end.

use bstr::{BString, ByteSlice};

/// The elements of an array; the error is Exim's text.
pub fn elements(text: &[u8]) -> Result<Vec<&[u8]>, String> {
    let inner = wrapped(text, b'[', b']')
        .map_err(|missing| format!("missing '{missing}' wrapping array for extract json"))?;
    Ok(pieces(inner))
}

/// The value of an object's member; names are compared as written.
pub fn member<'t>(text: &'t [u8], key: &[u8]) -> Result<Option<&'t [u8]>, String> {
    let inner = wrapped(text, b'{', b'}')
        .map_err(|missing| format!("missing '{missing}' wrapping object for extract json"))?;
    for piece in pieces(inner) {
        let Some(colon) = end_of(piece, b':') else {
            return Err("missing ':' in object for extract json".into());
        };
        let name = piece[..colon].trim();
        let name = name.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(name);
        if name == key {
            return Ok(Some(piece[colon + 1..].trim()));
        }
    }
    Ok(None)
}

/// The content of a JSON string; none if it has no quotes.
pub fn string_content(text: &[u8]) -> Option<BString> {
    let text = text.trim();
    (text.len() >= 2).then(|| text.strip_prefix(b"\"")?.strip_suffix(b"\"")).flatten().map(BString::from)
}

/// What stands between the two; the error is the one that is missing.
fn wrapped(text: &[u8], open: u8, close: u8) -> Result<&[u8], char> {
    let inner = text.trim().strip_prefix(&[open]).ok_or(char::from(open))?;
    inner.strip_suffix(&[close]).ok_or(char::from(close))
}

/// Parts between commas that stand in no string, array or object.
fn pieces(mut text: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while let Some(end) = end_of(text, b',') {
        pieces.push(text[..end].trim());
        text = &text[end + 1..];
    }
    if !text.trim().is_empty() {
        pieces.push(text.trim());
    }
    pieces
}

/// Where a byte stands outside strings, arrays and objects.
fn end_of(text: &[u8], byte: u8) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for (at, each) in text.iter().enumerate() {
        match each {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            each if *each == byte && depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_and_braces_in_strings_do_not_count() {
        assert_eq!(
            elements(br#"["a,b", {"c":[1,2]} ,3]"#).unwrap(),
            [&br#""a,b""#[..], br#"{"c":[1,2]}"#, b"3"]
        );
        assert_eq!(member(br#"{"a}":1, "b":"\"x"}"#, b"b").unwrap(), Some(&br#""\"x""#[..]));
        assert_eq!(elements(b"[]").unwrap(), [b""; 0]);
    }
}
