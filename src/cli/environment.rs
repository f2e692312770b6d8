//! Which environment variables stay: `keep_environment` and `add_environment`. Pure; the change itself is made
//! by `sys::environment` before the first thread.
//!
//! Specification: chapter "Main configuration", both options.

use crate::text::list;
use bstr::{BString, ByteSlice};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The environment that the program goes on with. `keep` and `add` are the options' lists.
pub fn cleaned(now: &[(OsString, OsString)], keep: &[u8], add: &[u8]) -> Vec<(OsString, OsString)> {
    let patterns: Vec<BString> = list::items(keep).collect();
    let mut kept: Vec<(OsString, OsString)> =
        now.iter().filter(|(name, _)| is_kept(name, &patterns)).cloned().collect();
    for item in list::items(add) {
        let Some((name, value)) = item.split_once_str("=") else { continue };
        kept.retain(|(known, _)| known.as_bytes() != name);
        kept.push((OsStr::from_bytes(name).to_owned(), OsString::from_vec(value.to_vec())));
    }
    kept
}

/// The first item that matches decides; `!` before it means no. After a last `!` item all others are kept.
fn is_kept(name: &OsStr, patterns: &[BString]) -> bool {
    for pattern in patterns {
        let (negated, pattern) = match pattern.strip_prefix(b"!") {
            Some(rest) => (true, rest.trim_start()),
            None => (false, pattern.as_slice()),
        };
        if matches(name.as_bytes(), pattern) {
            return !negated;
        }
    }
    patterns.last().is_some_and(|last| last.starts_with(b"!"))
}

/// A name, `*` and the end of a name, or a regular expression that begins with `^`.
fn matches(name: &[u8], pattern: &[u8]) -> bool {
    match pattern {
        [b'*', rest @ ..] => name.to_ascii_lowercase().ends_with(&rest.to_ascii_lowercase()),
        [b'^', ..] => pattern
            .to_str()
            .ok()
            .and_then(|pattern| pcre2::bytes::RegexBuilder::new().caseless(true).build(pattern).ok())
            .is_some_and(|regex| regex.is_match(name).unwrap_or(false)),
        name_alone => name.eq_ignore_ascii_case(name_alone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(keep: &str, add: &str) -> Vec<String> {
        let now: Vec<(OsString, OsString)> =
            [("PATH", "/bin"), ("LD_PRELOAD", "x.so"), ("LC_ALL", "C"), ("TZ", "UTC")]
                .map(|(name, value)| (name.into(), value.into()))
                .to_vec();
        let kept = cleaned(&now, keep.as_bytes(), add.as_bytes());
        kept.iter().map(|(name, value)| format!("{}={}", name.display(), value.display())).collect()
    }

    #[test]
    fn only_what_is_named_stays() {
        assert!(names("", "").is_empty());
        assert_eq!(names("TZ : ^LC_", ""), ["LC_ALL=C", "TZ=UTC"]);
        assert_eq!(names("*", ""), ["PATH=/bin", "LD_PRELOAD=x.so", "LC_ALL=C", "TZ=UTC"]);
        assert_eq!(names("! ^LD_ : *", ""), ["PATH=/bin", "LC_ALL=C", "TZ=UTC"]);
        assert_eq!(names("PATH", "PATH=/sbin : A=b"), ["PATH=/sbin", "A=b"]);
    }
}
