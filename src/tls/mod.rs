//! TLS as a mail server needs it, on top of [gnutls].
//!
//! [`server::ServerTls`] and [`client::ClientTls`] turn a plain socket into a [`stream::TlsStream`] that owns it, and tell
//! what was agreed on as a `TlsInfo`. Both hold what they load (certificates, keys, trust, proofs) in a
//! bounded [`cache`] of immutable units that connections share.
//!
//! This folder never expands a string (it gets closures or expanded values) and never writes a log: it
//! reports [`notice::Notice`]s, one for each change of state.

pub mod cache;
pub mod client;
pub mod dane;
mod dh;
#[allow(unsafe_code, reason = "room 2: GnuTLS by FFI")]
pub mod gnutls;
mod info;
mod kept;
pub mod listed;
pub mod notice;
mod primes;
mod priorities;
mod resume;
mod revocation;
pub mod server;
pub mod settings;
mod status;
pub mod stream;
pub mod terms;
mod unit;
mod verdict;

pub use client::{ClientError, ClientRequest, ClientSettings, ClientTls, Verify};
pub use notice::{Audience, Notice, Notify};
pub use server::{Accept, ServerError, ServerTls, protocol_names};
pub use settings::{Expand, ExpandFailure, refers_to_sni};
pub use stream::TlsStream;
pub use terms::{ClientTerms, Making, ServerTerms};

/// Certificate status (OCSP stapling) is compiled in: GnuTLS is new enough and nobody disabled it.
pub const OCSP: bool = cfg!(ocsp_stapling);

/// Application layer protocol names can be agreed on: GnuTLS is new enough.
pub const ALPN: bool = gnutls::alpn::ALPN;

pub use gnutls::pkcs11::allow_modules as allow_pkcs11_modules;

/// The version of GnuTLS that this program was built against, as pkg-config told.
pub const GNUTLS_BUILD_VERSION: &str = env!("OXIM_GNUTLS_VERSION");

/// The version of GnuTLS that this program runs with.
pub fn gnutls_runtime_version() -> &'static str {
    gnutls::runtime_version()
}
