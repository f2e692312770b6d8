//! Variables of TLS sessions, inward and outward.
//!
//! Names without a direction are the old ones: the session that a message is sent through, while it is, else the one
//! it came through.

use super::variable::{Row, number, own};
use crate::expand::Context;
use crate::mail::envelope::TlsInfo;
use crate::text::Value;

/// Name to value.
pub const TABLE: &[Row] = &[
    ("tls_bits", |c| bits(current(c))),
    ("tls_certificate_verified", |c| verified(current(c))),
    ("tls_cipher", |c| cipher(current(c))),
    ("tls_in_bits", |c| bits(inward(c))),
    ("tls_in_certificate_verified", |c| verified(inward(c))),
    ("tls_in_cipher", |c| cipher(inward(c))),
    ("tls_in_cipher_std", |c| inward(c).and_then(|tls| own(&tls.cipher_std))),
    ("tls_in_ocsp", |c| ocsp(inward(c))),
    ("tls_in_ourcert", |c| inward(c).and_then(|tls| own(&tls.our_certificate))),
    ("tls_in_peercert", |c| peer_certificate(inward(c))),
    ("tls_in_peerdn", |c| peer_dn(inward(c))),
    ("tls_in_resumption", |c| resumption(inward(c))),
    ("tls_in_sni", |c| sni(inward(c))),
    ("tls_in_ver", |c| inward(c).and_then(|tls| own(&tls.version))),
    ("tls_out_bits", |c| bits(outward(c))),
    ("tls_out_certificate_verified", |c| verified(outward(c))),
    ("tls_out_cipher", |c| cipher(outward(c))),
    ("tls_out_cipher_std", |c| outward(c).and_then(|tls| own(&tls.cipher_std))),
    ("tls_out_dane", |c| {
        Some(Value::clean(if outward(c).is_some_and(|tls| tls.dane) { "yes" } else { "no" }))
    }),
    ("tls_out_ocsp", |c| ocsp(outward(c))),
    ("tls_out_ourcert", |c| outward(c).and_then(|tls| own(&tls.our_certificate))),
    ("tls_out_peercert", |c| peer_certificate(outward(c))),
    ("tls_out_peerdn", |c| peer_dn(outward(c))),
    ("tls_out_resumption", |c| resumption(outward(c))),
    ("tls_out_sni", |c| sni(outward(c))),
    ("tls_out_tlsa_usage", |c| number(outward(c).map_or(c.address.tlsa_usage, |tls| tls.tlsa_usage))),
    ("tls_out_ver", |c| outward(c).and_then(|tls| own(&tls.version))),
    ("tls_peerdn", |c| peer_dn(current(c))),
    ("tls_sni", |c| sni(current(c))),
];

fn inward<'c>(context: &'c Context) -> Option<&'c TlsInfo> {
    context.session.origin.tls.as_ref()
}

fn outward<'c>(context: &'c Context) -> Option<&'c TlsInfo> {
    context.address.tls_out.as_ref()
}

fn current<'c>(context: &'c Context) -> Option<&'c TlsInfo> {
    outward(context).or_else(|| inward(context))
}

fn bits(tls: Option<&TlsInfo>) -> Option<Value> {
    number(tls.map_or(0, |tls| tls.bits))
}

fn verified(tls: Option<&TlsInfo>) -> Option<Value> {
    number(u8::from(tls.is_some_and(|tls| tls.certificate_verified)))
}

fn cipher(tls: Option<&TlsInfo>) -> Option<Value> {
    own(&tls?.cipher)
}

fn ocsp(tls: Option<&TlsInfo>) -> Option<Value> {
    number(tls.map_or(0, |tls| tls.ocsp as u8))
}

fn peer_certificate(tls: Option<&TlsInfo>) -> Option<Value> {
    tls.filter(|tls| !tls.peer_certificate.is_empty()).map(|tls| Value::tainted(tls.peer_certificate.clone()))
}

fn peer_dn(tls: Option<&TlsInfo>) -> Option<Value> {
    tls.map(|tls| tls.peer_dn.clone()).filter(|name| !name.is_empty())
}

fn resumption(tls: Option<&TlsInfo>) -> Option<Value> {
    number(tls.map_or(0, TlsInfo::resumption))
}

fn sni(tls: Option<&TlsInfo>) -> Option<Value> {
    tls?.sni.clone()
}
