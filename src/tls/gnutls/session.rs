//! One TLS session over a socket that it owns.
//!
//! GnuTLS reads, writes and asks through the callbacks in `reach`. What they reach is held by `Rc`, not
//! `Box`: moving a `Box` claims that nobody else points into it, and GnuTLS does.

use super::check::{Error, check, static_text};
use super::credentials::Credentials;
use super::gnutls_sys as sys;
use super::memory::{bytes_of, owned};
use super::priority::Priority;
use super::reach::{self, HookGuard, Reach};
use super::x509::MAX_CHAIN;
use std::ffi::{c_int, c_uint};
use std::io;
use std::net::TcpStream;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use super::reach::{ClientHello, ClientHelloHook, Refusal, Staple, Staples};

owned! {
    /// A session's handle; see [`Session`].
    SessionHandle: sys::gnutls_session_t, sys::gnutls_deinit
}

/// A TLS session, client or server; sent between threads, used by one at a time.
pub struct Session {
    // The order matters: fields are dropped in this order, and the handle points into all that follow.
    handle: SessionHandle,
    reach: Rc<Reach>,
    _priority: Arc<Priority>,
}

// SAFETY: `reach` is never cloned nor lent beyond a call, so the Rc moves as a whole with the session. What
// it holds may move between threads: a socket, Arcs of Sync values, a panic's payload (Send), the session's own
// handle, and a pointer that is None outside of `handshake`, which does not move.
unsafe impl Send for Session {}

/// Why a session failed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// GnuTLS's reason.
    #[error("{0}")]
    Tls(#[from] Error),
    /// The peer's alert, by name.
    #[error("A TLS fatal alert has been received: {0}")]
    Alert(&'static str),
    /// The connection's: a deadline that passed is `TimedOut`.
    #[error("{0}")]
    Connection(#[from] io::Error),
}

/// Which side a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// We accepted the connection.
    Server,
    /// The same, and may speak before the client has shown that it shares the keys (TLS 1.3, where the library can): what
    /// is said is no secret, and no certificate is asked for.
    EarlyServer,
    /// We opened it; `request_status` decides whether the ClientHello carries status_request.
    Client {
        /// Ask the server for a stapled proof.
        request_status: bool,
    },
}

/// What a server wants of the client's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificate {
    /// Not asked for.
    #[default]
    Ignored,
    /// Asked for; a client without one may go on.
    Requested,
    /// A client without one is refused.
    Required,
}

/// What the session agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agreed {
    /// GnuTLS's description, `(TLS1.3)-(ECDHE-X25519)-(ECDSA-SECP256R1-SHA256)-(AES-256-GCM)`.
    pub description: String,
    /// `TLS1.3`
    pub version: &'static str,
    /// IANA name of the cipher suite; empty if the library is too old to tell.
    pub suite: &'static str,
    /// Bits of the cipher's key.
    pub bits: u32,
    /// The session was resumed.
    pub resumed: bool,
}

impl Session {
    /// A session over `socket`, which must have no byte left in any buffer of the caller: what comes
    /// next on it must be TLS.
    #[doc(alias = "gnutls_init")]
    pub fn new(
        side: Side,
        socket: TcpStream,
        credentials: Arc<Credentials>,
        priority: Arc<Priority>,
    ) -> Result<Self, Error> {
        super::start();
        let mut raw: sys::gnutls_session_t = ptr::null_mut();
        // SAFETY: the out pointer is ours; on success it holds a handle that we own.
        check(unsafe { sys::gnutls_init(&mut raw, init_flags(side)) })?;
        let handle = SessionHandle::own(raw);
        let reach = Rc::new(Reach::new(socket, raw));
        // SAFETY: `reach` stays where it is as long as the handle lives: both are fields of this session, the
        // handle is dropped first, and an Rc's contents do not move.
        unsafe { reach::register(raw, &reach) };
        // SAFETY: both handles are alive; the priority stays so with the session.
        check(unsafe { sys::gnutls_priority_set(raw, priority.raw()) })?;
        #[cfg(gnutls_alpn)]
        if matches!(side, Side::Server | Side::EarlyServer) {
            super::hello::watch(raw);
        }
        reach.set_credentials(&credentials)?;
        Ok(Self { handle, reach, _priority: priority })
    }

    /// When to give up waiting, in all later calls; None waits for ever.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.reach.transport.set_deadline(deadline);
    }

    /// The connection below, for its addresses and options.
    pub fn socket(&self) -> &TcpStream {
        self.reach.transport.socket()
    }

    /// What the server staples if the client asks; see `CredentialsBuilder::staple_by_session`.
    pub fn set_staples(&mut self, staples: Staples) {
        self.reach.set_staples(staples);
    }

    /// What the server asks of the client's certificate.
    #[doc(alias = "gnutls_certificate_server_set_request")]
    pub fn ask_certificate(&mut self, wish: ClientCertificate) {
        self.reach.ask_certificate(wish);
    }

    /// Leaves out what old or broken implementations stumble over.
    #[doc(alias = "gnutls_session_enable_compatibility_mode")]
    pub fn be_compatible(&mut self) {
        // SAFETY: the handle is alive.
        unsafe { sys::gnutls_session_enable_compatibility_mode(self.handle.raw()) };
    }

    /// A client refuses a server's Diffie-Hellman prime of fewer bits.
    #[doc(alias = "gnutls_dh_set_prime_bits")]
    pub fn require_prime_bits(&mut self, bits: u32) {
        // SAFETY: the handle is alive; a plain number.
        unsafe { sys::gnutls_dh_set_prime_bits(self.handle.raw(), bits) };
    }

    /// The name a client asks for.
    #[doc(alias = "gnutls_server_name_set")]
    pub fn set_server_name(&mut self, name: &[u8]) -> Result<(), Error> {
        // SAFETY: `name` is only read, and only during the call.
        check(unsafe {
            sys::gnutls_server_name_set(
                self.handle.raw(),
                sys::GNUTLS_NAME_DNS,
                name.as_ptr().cast(),
                name.len(),
            )
        })?;
        Ok(())
    }

    /// Shakes hands; the hook is for servers.
    #[doc(alias = "gnutls_handshake")]
    pub fn handshake(&mut self, hook: Option<&mut ClientHelloHook<'_>>) -> Result<(), SessionError> {
        let raw = self.handle.raw();
        let result = {
            let _hook = hook.map(|hook| HookGuard::place(&self.reach, hook));
            self.repeat(|| {
                // SAFETY: the handle is alive, and so is all that its callbacks reach.
                unsafe { sys::gnutls_handshake(raw) as isize }
            })
        };
        if let Err(SessionError::Tls(error)) = &result {
            // SAFETY: the handle is alive. Best effort: the peer may be gone.
            unsafe { sys::gnutls_alert_send_appropriate(raw, error.code()) };
            self.reach.raise_parked();
        }
        result.map(|_| ())
    }

    /// Receives clear text; 0 after the peer's close_notify.
    #[doc(alias = "gnutls_record_recv")]
    pub fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, SessionError> {
        let raw = self.handle.raw();
        self.repeat(|| {
            // SAFETY: `buffer` is writable for its length.
            unsafe { sys::gnutls_record_recv(raw, buffer.as_mut_ptr().cast(), buffer.len()) }
        })
    }

    /// Sends clear text; tells how much of it was taken.
    #[doc(alias = "gnutls_record_send")]
    pub fn send(&mut self, bytes: &[u8]) -> Result<usize, SessionError> {
        if bytes.is_empty() {
            return Ok(0); // an empty call would mean "go on with the interrupted one"
        }
        let raw = self.handle.raw();
        self.repeat(|| {
            // SAFETY: `bytes` is readable for its length, also when the call is repeated.
            unsafe { sys::gnutls_record_send(raw, bytes.as_ptr().cast(), bytes.len()) }
        })
    }

    /// Bytes of clear text that were received and decrypted, and wait in the session.
    #[doc(alias = "gnutls_record_check_pending")]
    pub fn pending(&self) -> usize {
        // SAFETY: the handle is alive.
        unsafe { sys::gnutls_record_check_pending(self.handle.raw()) }
    }

    /// Says close_notify; does not wait for the peer's.
    #[doc(alias = "gnutls_bye")]
    pub fn bye(&mut self) -> Result<(), SessionError> {
        let raw = self.handle.raw();
        self.repeat(|| {
            // SAFETY: the handle is alive.
            unsafe { sys::gnutls_bye(raw, sys::GNUTLS_SHUT_WR) as isize }
        })?;
        Ok(())
    }

    /// Tells the peer that its certificate is refused, and ends the session. Best effort.
    pub fn refuse_certificate(&mut self) {
        self.end(sys::GNUTLS_A_BAD_CERTIFICATE);
    }

    /// Tells the peer that no common application protocol was found, and ends the session. Best effort.
    pub fn refuse_protocol(&mut self) {
        self.end(NO_APPLICATION_PROTOCOL_ALERT);
    }

    #[doc(alias = "gnutls_alert_send")]
    fn end(&mut self, alert: sys::gnutls_alert_description_t) {
        // SAFETY: the handle is alive; plain numbers.
        unsafe { sys::gnutls_alert_send(self.handle.raw(), sys::GNUTLS_AL_FATAL, alert) };
        self.reach.raise_parked();
    }

    /// Ends a session that failed: what the peer still sends is thrown away for a moment, so that the reset which the
    /// system would answer it with does not overtake the alert.
    pub fn part(&mut self) {
        self.reach.transport.part();
    }

    /// True if the client asked for a staple (known only where the credentials have the callback).
    pub fn status_was_asked(&self) -> bool {
        self.reach.status_asked.get()
    }

    /// True if one of [`Self::set_staples`] went out.
    pub fn was_stapled(&self) -> bool {
        self.reach.stapled.get()
    }

    /// What the ClientHello said of resumption: (it asks for tickets, it offers a session).
    pub fn ticket_wishes(&self) -> (bool, bool) {
        self.reach.ticket_wishes(self.agreed().version)
    }

    /// The name the client asked for.
    pub fn server_name(&self) -> Option<Vec<u8>> {
        self.reach.server_name()
    }

    /// What was agreed on.
    #[doc(alias = "gnutls_session_get_desc")]
    #[doc(alias = "gnutls_ciphersuite_get")]
    pub fn agreed(&self) -> Agreed {
        let raw = self.handle.raw();
        // SAFETY: the handle is alive, the names are static strings, the rest are numbers.
        unsafe {
            Agreed {
                description: describe(raw),
                version: static_text(sys::gnutls_protocol_get_name(sys::gnutls_protocol_get_version(raw))),
                suite: suite(raw),
                bits: u32::try_from(sys::gnutls_cipher_get_key_size(sys::gnutls_cipher_get(raw)) * 8)
                    .unwrap_or(0),
                resumed: sys::gnutls_session_is_resumed(raw) != 0,
            }
        }
    }

    /// The peer's certificates in DER, leaf first; empty if it sent none.
    #[doc(alias = "gnutls_certificate_get_peers")]
    pub fn peer_certificates(&self) -> Vec<Vec<u8>> {
        let mut count: c_uint = 0;
        // SAFETY: the handle is alive; the list is `count` long and lives in the session.
        let list = unsafe { sys::gnutls_certificate_get_peers(self.handle.raw(), &mut count) };
        if list.is_null() {
            return Vec::new();
        }
        let count = (count as usize).min(MAX_CHAIN);
        // SAFETY: as said; each element is as GnuTLS filled it and is copied before the session is used again.
        (0..count).map(|at| unsafe { bytes_of(&*list.add(at)) }.to_vec()).collect()
    }

    /// The certificate we showed, in DER; empty if none.
    pub fn our_certificate(&self) -> Vec<u8> {
        self.reach.our_certificate().unwrap_or_default()
    }

    /// Checks the peer's chain against the credentials' trust. The result is GnuTLS's status word:
    /// 0 is the only good value.
    #[doc(alias = "gnutls_certificate_verify_peers2")]
    pub fn verify_peer(&self) -> Result<ChainStatus, Error> {
        let mut status: c_uint = 0;
        // SAFETY: the handle is alive, the out pointer is ours.
        check(unsafe { sys::gnutls_certificate_verify_peers2(self.handle.raw(), &mut status) })?;
        Ok(ChainStatus(status))
    }

    #[cfg(gnutls_alpn)]
    pub(super) fn reach(&self) -> &Reach {
        &self.reach
    }

    pub(super) fn raw(&self) -> sys::gnutls_session_t {
        self.handle.raw()
    }

    /// Calls until it is done, fails for good, or the deadline passed. GnuTLS returns `AGAIN` on blocking
    /// sockets too, for instance after a session ticket.
    fn repeat(&self, mut call: impl FnMut() -> isize) -> Result<usize, SessionError> {
        // What an earlier call left behind (an alert that could not be sent) is no failure of this one.
        self.reach.transport.take_failure();
        loop {
            let code = call();
            self.reach.raise_parked();
            if let Ok(count) = usize::try_from(code) {
                return Ok(count);
            }
            let error = Error::from_code(c_int::try_from(code).unwrap_or(sys::GNUTLS_E_INTERNAL_ERROR));
            if let Some(failure) = self.reach.transport.take_failure() {
                return Err(failure.into());
            }
            if error.is_fatal_alert() {
                // SAFETY: the handle is alive; the name is a static string.
                let name = unsafe { sys::gnutls_alert_get_name(sys::gnutls_alert_get(self.handle.raw())) };
                return Err(SessionError::Alert(static_text(name)));
            }
            // A client that wants to negotiate anew is refused: mail has no use for it (CVE-2009-3555).
            if !error.is_worth_retrying() || code == sys::GNUTLS_E_REHANDSHAKE as isize {
                return Err(error.into());
            }
            // Warnings, for instance, can come without end and never wait.
            if self.reach.transport.is_late(Duration::ZERO) {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
        }
    }
}

/// GnuTLS's judgement of a chain; other than 0 is bad, whatever the bits (which differ by version).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainStatus(pub u32);

impl ChainStatus {
    /// Stands for a verification that could not even be made: bad, but not known to be revoked.
    pub const UNVERIFIABLE: Self = Self(sys::GNUTLS_CERT_INVALID | sys::GNUTLS_CERT_SIGNER_NOT_FOUND);

    /// The chain is good.
    pub fn is_good(self) -> bool {
        self.0 == 0
    }
    /// Bits that say the certificate is revoked, by a list or a proof.
    pub fn is_revoked(self) -> bool {
        self.0 & sys::GNUTLS_CERT_REVOKED != 0
    }
    /// What remains if GnuTLS's verdict about the stapled proof is left out. (Old data could be a revocation list too, but
    /// GnuTLS is given none.)
    pub fn without_proof(self) -> Self {
        let proof = INVALID_OCSP_STATUS | MISSING_OCSP_STATUS;
        let rest = self.0 & !(proof | sys::GNUTLS_CERT_REVOCATION_DATA_SUPERSEDED);
        // "Invalid" is set beside every other bit; alone it says nothing once that bit is taken out.
        let alone = rest == sys::GNUTLS_CERT_INVALID && rest != self.0;
        Self(if alone { 0 } else { rest })
    }
}

/// no_application_protocol (RFC 7301), by its number on the wire: old versions have no name for it.
const NO_APPLICATION_PROTOCOL_ALERT: sys::gnutls_alert_description_t = 120;
/// `GNUTLS_CERT_MISSING_OCSP_STATUS`. Known whatever the version we are built against: we may run with a newer one.
const MISSING_OCSP_STATUS: u32 = 1 << 19;
/// `GNUTLS_CERT_INVALID_OCSP_STATUS`, likewise.
const INVALID_OCSP_STATUS: u32 = 1 << 20;

#[cfg(all(gnutls_names_proof_bits, ocsp_stapling))]
const _: () = assert!(
    MISSING_OCSP_STATUS == sys::GNUTLS_CERT_MISSING_OCSP_STATUS
        && INVALID_OCSP_STATUS == sys::GNUTLS_CERT_INVALID_OCSP_STATUS
);

fn init_flags(side: Side) -> c_uint {
    let flags = match side {
        Side::Server => sys::GNUTLS_SERVER,
        Side::EarlyServer => sys::GNUTLS_SERVER | EARLY_START,
        Side::Client { request_status: true } => sys::GNUTLS_CLIENT,
        Side::Client { request_status: false } => sys::GNUTLS_CLIENT | without_status_request(),
    };
    flags as c_uint | no_signal()
}

/// `GNUTLS_ENABLE_EARLY_START`, by its number: the bindings have only those flags that are macros.
#[cfg(gnutls_early_start)]
const EARLY_START: c_uint = 1 << 17;
/// These versions know no other than the whole handshake.
#[cfg(not(gnutls_early_start))]
const EARLY_START: c_uint = 0;

/// A client asks for a proof unless told otherwise when it is made.
#[cfg(gnutls_no_status_request)]
fn without_status_request() -> c_uint {
    sys::GNUTLS_NO_STATUS_REQUEST
}
/// These versions know only how to leave out more: with status_request goes extended_master_secret, which
/// protects resumed sessions and renegotiation, and we have neither.
#[cfg(all(gnutls_asks_for_staples, not(gnutls_no_status_request)))]
fn without_status_request() -> c_uint {
    sys::GNUTLS_NO_EXTENSIONS
}
/// These versions do not know of staples.
#[cfg(not(gnutls_asks_for_staples))]
fn without_status_request() -> c_uint {
    0
}

/// Our own `push` never raises SIGPIPE; this keeps GnuTLS from it too.
#[cfg(gnutls_no_signal)]
fn no_signal() -> c_uint {
    sys::GNUTLS_NO_SIGNAL as c_uint
}
#[cfg(not(gnutls_no_signal))]
fn no_signal() -> c_uint {
    0
}

#[cfg(gnutls_session_desc)]
fn describe(session: sys::gnutls_session_t) -> String {
    // SAFETY: the handle is alive; the result is NULL or a C string that is ours to free.
    unsafe {
        let text = sys::gnutls_session_get_desc(session);
        let copy = if text.is_null() {
            String::new()
        } else {
            std::ffi::CStr::from_ptr(text).to_string_lossy().into_owned()
        };
        super::memory::free(text.cast());
        copy
    }
}
#[cfg(not(gnutls_session_desc))]
fn describe(session: sys::gnutls_session_t) -> String {
    // SAFETY: the handle is alive; all names are static strings.
    let (version, exchange, cipher, mac) = unsafe {
        (
            static_text(sys::gnutls_protocol_get_name(sys::gnutls_protocol_get_version(session))),
            static_text(sys::gnutls_kx_get_name(sys::gnutls_kx_get(session))),
            static_text(sys::gnutls_cipher_get_name(sys::gnutls_cipher_get(session))),
            static_text(sys::gnutls_mac_get_name(sys::gnutls_mac_get(session))),
        )
    };
    format!("({version})-({exchange})-({cipher})-({mac})")
}

#[cfg(gnutls_ciphersuite_get)]
fn suite(session: sys::gnutls_session_t) -> &'static str {
    // SAFETY: the handle is alive; the name is a static string or NULL.
    static_text(unsafe { sys::gnutls_ciphersuite_get(session) })
}
#[cfg(not(gnutls_ciphersuite_get))]
fn suite(_: sys::gnutls_session_t) -> &'static str {
    ""
}
