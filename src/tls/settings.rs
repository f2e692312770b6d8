//! The options of a server's TLS, expanded: plain values, which are also the key of the unit they give.

use super::dh::DhSettings;
use super::terms::ServerTerms;
use bstr::{BString, ByteSlice};

/// Expands one option, by name, for a server name that the client asked for (lower-cased and safe in a
/// path, see [`safe_server_name`]). `Ok(None)`: unset.
pub type Expand<'a> =
    &'a (dyn Fn(&'static str, Option<&[u8]>) -> Result<Option<BString>, ExpandFailure> + 'a);

/// An expansion that gave no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpandFailure {
    /// Forced: the option counts as unset.
    Forced,
    /// Anything else, with the reason.
    Failed(String),
}

/// What a server unit is loaded from. Empty values are unset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct UnitSettings {
    /// `tls_certificate`; none: self-signed.
    pub certificate: Option<BString>,
    /// `tls_privatekey`; none: in the certificate's file.
    pub private_key: Option<BString>,
    /// `tls_verify_certificates`: a file, a directory, or `system`.
    pub verify_certificates: Option<BString>,
    /// `tls_crl`.
    pub crl: Option<BString>,
    /// `tls_ocsp_file`.
    pub ocsp_file: Option<BString>,
    /// `tls_ocsp_responder`.
    pub ocsp_responder: Option<BString>,
    /// `tls_dhparam`, and what bounds it.
    pub dh: DhSettings,
    /// Client certificates are asked for, so that even the system's trust is loaded.
    pub asks_clients: bool,
    /// Name for a self-signed certificate.
    pub own_name: BString,
}

/// An option that could not be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expansion of {option} failed: {reason}")]
pub struct OptionError {
    /// Its name.
    pub option: &'static str,
    /// Why.
    pub reason: String,
}

impl UnitSettings {
    /// Expands all that make a unit.
    pub fn expand(
        expand: Expand<'_>,
        sni: Option<&[u8]>,
        asks_clients: bool,
        own_name: &[u8],
        terms: &ServerTerms,
    ) -> Result<Self, OptionError> {
        let certificate = value(expand, "tls_certificate", sni)?;
        let verify_certificates = value(expand, "tls_verify_certificates", sni)?;
        Ok(Self {
            // What makes no difference to the unit makes none to the key.
            dh: DhSettings {
                // not one of those that follow the server name
                written: value(expand, "tls_dhparam", None)?,
                max_bits: terms.dh_max_bits,
                spool_directory: terms.spool_directory.clone(),
                making: terms.making,
            },
            asks_clients: asks_clients && verify_certificates.as_ref().is_some_and(|place| is_system(place)),
            own_name: if certificate.is_none() { own_name.into() } else { BString::default() },
            certificate,
            private_key: value(expand, "tls_privatekey", sni)?,
            verify_certificates,
            crl: value(expand, "tls_crl", sni)?,
            ocsp_file: if super::OCSP { value(expand, "tls_ocsp_file", sni)? } else { None },
            ocsp_responder: if super::OCSP { value(expand, "tls_ocsp_responder", sni)? } else { None },
        })
    }
}

/// The system's authorities; `system,cache` asks for what is always done: they are loaded once.
pub(super) fn is_system(place: &[u8]) -> bool {
    matches!(place, b"system" | b"system,cache")
}

/// One option; unset, empty and forced failure are all None.
pub(super) fn value(
    expand: Expand<'_>,
    option: &'static str,
    sni: Option<&[u8]>,
) -> Result<Option<BString>, OptionError> {
    match expand(option, sni) {
        Ok(value) => Ok(value.map(|value| BString::from(value.trim())).filter(|value| !value.is_empty())),
        Err(ExpandFailure::Forced) => Ok(None),
        Err(ExpandFailure::Failed(reason)) => Err(OptionError { option, reason }),
    }
}

/// True if a `tls_certificate` as written depends on the client's server name, so that it is expanded
/// again once that is known.
pub fn refers_to_sni(written: &[u8]) -> bool {
    written.contains_str("tls_in_sni") || written.contains_str("tls_sni")
}

/// A server name that may become part of a path: lower case, only what host names are made of. So `/`, NUL,
/// control characters and `..` never reach an expansion; such a client gets the default certificate.
pub(super) fn safe_server_name(sent: &[u8]) -> Option<BString> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let sound = sent.len() <= 255
        && sent.iter().all(allowed)
        && !sent.starts_with(b".")
        && !sent.contains_str("..")
        && !sent.is_empty();
    sound.then(|| sent.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_name_cannot_leave_its_directory() {
        assert_eq!(safe_server_name(b"MX1.Example.com").unwrap(), "mx1.example.com");
        for sent in [&b"../etc/passwd"[..], b"a/b", b"a\0b", b"a\nb", b"..", b".hidden", b"", b"a..b", b"a b"]
        {
            assert_eq!(safe_server_name(sent), None, "{:?}", sent.as_bstr());
        }
    }

    #[test]
    fn forced_failure_and_empty_are_unset_and_other_failures_name_the_option() {
        let forced: Expand<'_> = &|_, _| Err(ExpandFailure::Forced);
        assert_eq!(value(forced, "tls_ocsp_file", None), Ok(None));
        let empty: Expand<'_> = &|_, _| Ok(Some(" ".into()));
        assert_eq!(value(empty, "tls_ocsp_file", None), Ok(None));
        let failed: Expand<'_> = &|_, _| Err(ExpandFailure::Failed("no such variable".into()));
        let error = value(failed, "tls_ocsp_file", None).unwrap_err();
        assert_eq!(error.to_string(), "expansion of tls_ocsp_file failed: no such variable");
    }
}
