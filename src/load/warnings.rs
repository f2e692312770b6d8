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

/// All warnings, in the order of the file. `trusts_dns`: resolv.conf has `trust-ad`.
pub fn warnings(written: &Written, trusts_dns: bool) -> Vec<Warning> {
    let smtp = written.transports.iter().filter(|transport| transport.driver.name == "smtp");
    smtp.flat_map(|transport| {
        let mut found = status_without_its_ground(transport);
        if !trusts_dns {
            found.extend(dane_without_its_ground(transport));
        }
        found
    })
    .collect()
}

fn is_empty(transport: &Instance, name: &str) -> bool {
    transport.options.text(name).is_none_or(|list| list.text().iter().all(u8::is_ascii_whitespace))
}

/// DANE is required, and nobody's word for an answer of the DNS is taken.
fn dane_without_its_ground(transport: &Instance) -> Option<Warning> {
    const OPTION: &str = "hosts_require_dane";
    let list = transport.options.text(OPTION).filter(|_| !is_empty(transport, OPTION))?;
    let text = format!(
        "transport {}: {OPTION} without \"options trust-ad\" in /etc/resolv.conf: no answer of the DNS counts as secure, \
         and every address at these hosts fails",
        transport.name
    );
    Some(Warning { at: list.at().clone(), text })
}

/// `hosts_require_ocsp` or `hosts_require_status` asks for a proof about a certificate that nobody verifies, or leaves to
/// that option alone that nothing goes in clear (row C3).
fn status_without_its_ground(transport: &Instance) -> Vec<Warning> {
    let is_empty = |name: &str| is_empty(transport, name);
    let proof = Some("hosts_require_ocsp").filter(|_| crate::tls::OCSP);
    let required = proof.into_iter().chain(["hosts_require_status"]).filter(|name| !is_empty(name));
    let mut found = Vec::new();
    for option in required {
        let at = transport.options.text(option).map_or(&transport.at, |list| list.at());
        let mut warn = |text: &str| {
            let text = format!("transport {}: {option} {text}", transport.name);
            found.push(Warning { at: at.clone(), text });
        };
        let never = is_empty("tls_try_verify_hosts") && is_empty("tls_verify_hosts");
        if never || is_empty("tls_verify_certificates") {
            warn(
                "without a verified certificate (tls_verify_certificates, and tls_verify_hosts or \
                 tls_try_verify_hosts) is never satisfied: every delivery to these hosts is deferred",
            );
        } else if is_empty("tls_verify_hosts") {
            warn(
                "without tls_verify_hosts: a certificate for another host satisfies it too, if its status is good",
            );
        }
        if is_empty("hosts_require_tls") {
            warn(
                "without hosts_require_tls: nothing is sent in clear to these hosts, but say so with \
                 hosts_require_tls, which other MTAs need",
            );
        }
    }
    found
}

#[cfg(all(test, ocsp_stapling))]
mod tests {
    use super::*;

    fn of(options: &str) -> Vec<String> {
        with(options, true)
    }

    fn with(options: &str, trusts_dns: bool) -> Vec<String> {
        let text = format!("begin transports\nout:\n  driver = smtp\n{options}");
        let (path, tables) = (std::path::Path::new("c"), crate::load::tables());
        let overrides = crate::config::MacroOverrides::default();
        let (written, errors) =
            crate::config::read(path, text.as_bytes(), &overrides, &tables, &mut |_: &std::path::Path| {
                Ok(None)
            });
        assert!(errors.is_empty(), "{errors:?}");
        warnings(&written.unwrap(), trusts_dns)
            .iter()
            .map(|warning| format!("{}: {}", warning.at.line, warning.text))
            .collect()
    }

    #[test]
    fn a_required_status_without_verification_or_required_tls_is_warned_of() {
        for option in ["hosts_require_ocsp", "hosts_require_status"] {
            let sure = "  tls_verify_hosts = *\n";
            let whole = format!("  hosts_require_tls = *\n  {option} = *\n");
            assert_eq!(of(&format!("{whole}{sure}")), [""; 0], "the system's authorities are the default");
            assert_eq!(of("  hosts_require_tls = *\n"), [""; 0]);
            let clear = of(&format!("  {option} = *\n{sure}"));
            let words = format!("4: transport out: {option} without hosts_require_tls");
            assert!(clear.len() == 1 && clear[0].starts_with(&words), "{clear:?}");
            for unverified in ["  tls_verify_certificates =\n", "  tls_try_verify_hosts =\n"] {
                let told = of(&format!("{whole}{unverified}"));
                assert!(told.len() == 1 && told[0].contains("is never satisfied"), "{told:?}");
            }
            let tried = of(&whole);
            assert!(tried.len() == 1 && tried[0].contains("a certificate for another host"), "{tried:?}");
            assert_eq!(of(&format!("{whole}  tls_try_verify_hosts =\n{sure}")), [""; 0]);
            assert_eq!(of(&format!("  {option} = *\n  tls_verify_certificates =\n")).len(), 2);
        }
    }
    #[test]
    fn required_dane_is_warned_of_where_no_name_server_is_trusted() {
        let required = "  hosts_require_dane = *\n";
        let told = with(required, false);
        assert!(told.len() == 1 && told[0].starts_with("4: transport out: hosts_require_dane"), "{told:?}");
        assert_eq!(with(required, true), [""; 0]);
        for harmless in ["", "  hosts_require_dane =\n", "  hosts_try_dane = *\n"] {
            assert_eq!(with(harmless, false), [""; 0]);
        }
    }
}
