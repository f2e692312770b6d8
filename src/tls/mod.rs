//! TLS as a mail server needs it, on top of [gnutls].

#[allow(unsafe_code, reason = "room 2: GnuTLS by FFI")]
pub mod gnutls;

/// Certificate status (OCSP stapling) is compiled in: GnuTLS is new enough and nobody disabled it.
pub const OCSP: bool = cfg!(ocsp_stapling);

/// The version of GnuTLS that this program was built against, as pkg-config told.
pub const GNUTLS_BUILD_VERSION: &str = env!("OXIM_GNUTLS_VERSION");

/// The version of GnuTLS that this program runs with.
pub fn gnutls_runtime_version() -> &'static str {
    gnutls::runtime_version()
}
