//! A session's facts in Exim's form (`X=`, `DN=`, the `$tls_*` variables).

use super::gnutls::session::{Agreed, Session};
use super::gnutls::x509::Certificate;
use crate::mail::envelope::{OcspState, TlsInfo};
use crate::text::Value;
use bstr::BString;

/// All that a session tells without judgement; the caller adds verification and status.
pub(super) fn describe(session: &Session, sni: Option<Value>, on_connect: bool) -> TlsInfo {
    let agreed = session.agreed();
    let peer_certificate = session.peer_certificates().into_iter().next().unwrap_or_default();
    TlsInfo {
        cipher: cipher(&agreed),
        cipher_std: agreed.suite.into(),
        version: agreed.version.into(),
        bits: agreed.bits,
        certificate_verified: false,
        dane: false,
        tlsa_usage: 0,
        peer_dn: peer_dn(&peer_certificate),
        peer_certificate,
        our_certificate: session.our_certificate(),
        sni,
        ocsp: OcspState::NotRequested,
        resumed: agreed.resumed,
        tickets: 0,
        on_connect,
    }
}

/// `(TLS1.3)-(ECDHE-X25519)-(ECDSA-SECP256R1-SHA256)-(AES-256-GCM)` becomes
/// `TLS1.3:ECDHE_X25519__ECDSA_SECP256R1_SHA256__AES_256_GCM:256`, as recorded from Exim 4.96.
fn cipher(agreed: &Agreed) -> BString {
    let inner = agreed.description.trim_start_matches('(').trim_end_matches(')');
    // A session that is gone on with under TLS 1.3 has no key exchange to show: `(TLS1.3)--(AES-256-GCM)`. What Exim 4.96
    // makes of it has a parenthesis too much.
    let without_exchange = inner.split_once(")--");
    let (version, rest) =
        without_exchange.or_else(|| inner.split_once(")-(")).unwrap_or((agreed.version, inner));
    let rest = rest.replace(")-(", "__").replace('-', "_");
    format!("{version}:{rest}:{}", agreed.bits).into()
}

fn peer_dn(der: &[u8]) -> Value {
    if der.is_empty() {
        return Value::default();
    }
    let name = Certificate::from_der(der).and_then(|certificate| certificate.dn()).unwrap_or_default();
    Value::tainted(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ciphers_are_written_as_exim_writes_them() {
        let of = |description: &str, bits| {
            cipher(&Agreed { description: description.into(), bits, ..Agreed::default() }).to_string()
        };
        assert_eq!(
            of("(TLS1.3)-(ECDHE-X25519)-(ECDSA-SECP256R1-SHA256)-(AES-256-GCM)", 256),
            "TLS1.3:ECDHE_X25519__ECDSA_SECP256R1_SHA256__AES_256_GCM:256"
        );
        assert_eq!(of("(TLS1.3)--(AES-256-GCM)", 256), "TLS1.3:(AES_256_GCM:256");
        assert_eq!(of("(TLS1.2)-(RSA)-(AES-128-CBC)-(SHA1)", 128), "TLS1.2:RSA__AES_128_CBC__SHA1:128");
    }
}
