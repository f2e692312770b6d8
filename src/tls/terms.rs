//! What each side asks of a session besides certificates and ciphers.

use super::dane::Dane;
use bstr::BString;
use std::path::PathBuf;

/// A server's terms for one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerTerms {
    /// `hosts_require_alpn` matched: without an agreed protocol name there is no session.
    pub require_protocol: bool,
    /// `tls_early_banner_hosts` matched: we may speak before the client's part of the handshake came.
    pub early_start: bool,
    /// `gnutls_compat_mode`
    pub compatible: bool,
    /// `tls_dh_max_bits`; 0: no bound.
    pub dh_max_bits: u32,
    /// The spool directory, where `tls_dhparam = historic` keeps its file.
    pub spool_directory: Option<PathBuf>,
    /// Which files of Diffie-Hellman parameters are made if they are not there.
    pub making: Making,
}

/// Where a missing file is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Making {
    /// Nowhere: a check changes nothing.
    #[default]
    Nothing,
    /// In the spool directory: the option is an expansion, whose value nobody has looked at.
    InSpool,
    /// Where the option says.
    Anywhere,
}

/// A client's terms for one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientTerms {
    /// `tls_alpn`: what is offered.
    pub protocols: Vec<BString>,
    /// `hosts_require_alpn` matched: without an agreed protocol name there is no session.
    pub require_protocol: bool,
    /// `tls_dh_min_bits`; 0: the library's bound.
    pub dh_min_bits: u32,
    /// `gnutls_compat_mode`
    pub compatible: bool,
    /// What DNS demands of the host's certificate; then nothing else is asked about its issuer and its name.
    pub dane: Option<Dane>,
}
