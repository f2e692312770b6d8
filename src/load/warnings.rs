//! What the check of a configuration warns of: legal, but surely not what was meant.

use crate::config::{Instance, Written};
use crate::syntax::Position;

/// One warning and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where it was written.
    pub at: Position,
    /// What, without "Warning".
    pub text: String,
}

/// All warnings, in the order of the file.
pub fn warnings(written: &Written) -> Vec<Warning> {
    let smtp = written.transports.iter().filter(|transport| transport.driver.name == "smtp");
    smtp.flat_map(status_without_its_ground).collect()
}

/// `hosts_require_ocsp` asks for a proof of a certificate that nobody verifies, or leaves it to that option alone
/// that nothing goes in clear (row C3).
fn status_without_its_ground(transport: &Instance) -> Vec<Warning> {
    let is_empty = |name: &str| {
        transport.options.text(name).is_none_or(|list| list.text().iter().all(u8::is_ascii_whitespace))
    };
    if !crate::tls::OCSP || is_empty("hosts_require_ocsp") {
        return Vec::new();
    }
    let at = transport.options.text("hosts_require_ocsp").map_or(&transport.at, |list| list.at());
    let warn = |text: &str| Warning {
        at: at.clone(),
        text: format!("transport {}: hosts_require_ocsp {text}", transport.name),
    };
    let mut found = Vec::new();
    if is_empty("tls_verify_certificates")
        || (is_empty("tls_try_verify_hosts") && is_empty("tls_verify_hosts"))
    {
        found.push(warn(
            "without a verified certificate (tls_verify_certificates, and tls_verify_hosts or \
             tls_try_verify_hosts) is never satisfied: every delivery to these hosts is deferred",
        ));
    }
    if is_empty("hosts_require_tls") {
        found.push(warn(
            "without hosts_require_tls: nothing is sent in clear to these hosts, but say so with \
             hosts_require_tls, which other MTAs need",
        ));
    }
    found
}

#[cfg(all(test, ocsp_stapling))]
mod tests {
    use super::*;

    fn of(options: &str) -> Vec<String> {
        let text = format!("begin transports\nout:\n  driver = smtp\n{options}");
        let (path, tables) = (std::path::Path::new("c"), crate::load::tables());
        let overrides = crate::config::MacroOverrides::default();
        let (written, errors) =
            crate::config::read(path, text.as_bytes(), &overrides, &tables, &mut |_: &std::path::Path| {
                Ok(None)
            });
        assert!(errors.is_empty(), "{errors:?}");
        warnings(&written.unwrap())
            .iter()
            .map(|warning| format!("{}: {}", warning.at.line, warning.text))
            .collect()
    }

    #[test]
    fn a_required_status_without_verification_or_required_tls_is_warned_of() {
        let whole = "  hosts_require_tls = *\n  hosts_require_ocsp = *\n";
        assert_eq!(of(whole), [""; 0], "the system's authorities are the default");
        assert_eq!(of("  hosts_require_tls = *\n"), [""; 0]);
        let clear = of("  hosts_require_ocsp = *\n");
        assert!(
            clear.len() == 1
                && clear[0].starts_with("4: transport out: hosts_require_ocsp without hosts_require_tls")
        );
        for unverified in ["  tls_verify_certificates =\n", "  tls_try_verify_hosts =\n"] {
            let told = of(&format!("{whole}{unverified}"));
            assert!(told.len() == 1 && told[0].contains("is never satisfied"), "{told:?}");
        }
        assert_eq!(of(&format!("{whole}  tls_try_verify_hosts =\n  tls_verify_hosts = *\n")), [""; 0]);
        assert_eq!(of("  hosts_require_ocsp = *\n  tls_verify_certificates =\n").len(), 2);
    }
}
