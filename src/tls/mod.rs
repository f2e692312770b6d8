//! TLS as a mail server needs it, on top of [gnutls].

#[allow(unsafe_code, reason = "room 2: GnuTLS by FFI")]
pub mod gnutls;
