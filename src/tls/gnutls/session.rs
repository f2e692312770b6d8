//! One TLS session over a socket that it owns.
//!
//! GnuTLS calls back into [`Reach`], which is found through the session's pointer. `Reach` is only ever
//! used by shared reference (its fields are cells), so a callback may run while a method of
//! [`Session`] is on the stack. It is held by `Rc`, not `Box`: moving a `Box` claims that nobody else points
//! into it, and GnuTLS does.
//!
//! A callback that panics parks the panic in `Reach`; the method that called GnuTLS raises it again once
//! no C frame is left on the stack.

use super::check::{Error, check, static_text};
use super::credentials::{Credentials, CredentialsBuilder};
use super::gnutls_sys as sys;
use super::memory::{bytes_of, owned};
use super::priority::Priority;
use super::transport::Transport;
use super::x509::MAX_CHAIN;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_uint, c_void};
use std::io;
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

owned! {
    /// A session's handle; see [`Session`].
    SessionHandle: sys::gnutls_session_t, sys::gnutls_deinit
}

/// A TLS session, client or server; sent between threads, used by one at a time.
pub struct Session {
    // The order matters: fields are dropped in this order, and the handle points to all that follow.
    handle: SessionHandle,
    reach: Rc<Reach>,
    priority: Option<Arc<Priority>>,
    /// All credentials the handle was ever given: GnuTLS may still point into earlier ones.
    credentials: Vec<Arc<Credentials>>,
}

// SAFETY: `reach` is never cloned nor lent beyond a call, so the Rc moves as a whole with the session;
// its contents may move between threads (`_reach_moves` below checks what the compiler can), and its raw
// pointers are either the session's own handle or None outside of `handshake`.
unsafe impl Send for Session {}

fn _reach_moves() {
    fn is_send<T: Send>() {}
    is_send::<(Transport, RefCell<Option<Arc<[u8]>>>, Cell<Option<Parked>>)>();
}

type Parked = Box<dyn Any + Send>;

/// Asked once during a server's handshake, after the ClientHello: may change what the session shows.
pub type ClientHelloHook<'a> = dyn FnMut(&ClientHello<'_>) -> Result<(), Refusal> + 'a;

/// The hook said no: the handshake ends with an alert.
#[derive(Clone, Copy, Debug)]
pub struct Refusal;

/// What callbacks reach.
struct Reach {
    transport: Transport,
    /// The handle of the session, once made.
    session: Cell<sys::gnutls_session_t>,
    /// Set only while `handshake` runs, which outlives every call of it.
    hook: Cell<Option<NonNull<ClientHelloHook<'static>>>>,
    /// What to staple, byte for byte.
    staple: RefCell<Option<Arc<[u8]>>>,
    /// The peer asked for a staple.
    status_asked: Cell<bool>,
    /// Credentials and so on that the hook set; kept alive by the session after the handshake.
    adopted: RefCell<Vec<Arc<Credentials>>>,
    parked: Cell<Option<Parked>>,
}

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

/// The ClientHello, for the hook.
pub struct ClientHello<'a> {
    reach: &'a Reach,
}

impl ClientHello<'_> {
    /// The name the client wants to talk to, as sent; none if it sent none.
    #[doc(alias = "gnutls_server_name_get")]
    pub fn server_name(&self) -> Option<Vec<u8>> {
        server_name(self.reach.session.get())
    }

    /// Shows these credentials and this staple from here on.
    #[doc(alias = "gnutls_credentials_set")]
    pub fn show(&self, credentials: &Arc<Credentials>, staple: Option<Arc<[u8]>>) -> Result<(), Error> {
        set_credentials(self.reach.session.get(), credentials)?;
        self.reach.adopted.borrow_mut().push(Arc::clone(credentials));
        self.reach.staple.replace(staple);
        Ok(())
    }

    /// What to ask of the client's certificate.
    pub fn ask_certificate(&self, wish: ClientCertificate) {
        ask_certificate(self.reach.session.get(), wish);
    }
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
        let reach = Rc::new(Reach {
            transport: Transport::new(socket),
            session: Cell::new(raw),
            hook: Cell::new(None),
            staple: RefCell::new(None),
            status_asked: Cell::new(false),
            adopted: RefCell::new(Vec::new()),
            parked: Cell::new(None),
        });
        let pointer = Rc::as_ptr(&reach).cast_mut().cast::<c_void>();
        // SAFETY: `pointer` stays valid as long as the handle: both are fields of this session, the handle
        // is dropped first, and an Rc's contents do not move.
        unsafe {
            sys::gnutls_session_set_ptr(raw, pointer);
            sys::gnutls_transport_set_ptr(raw, pointer);
            sys::gnutls_transport_set_push_function(raw, Some(push));
            sys::gnutls_transport_set_pull_function(raw, Some(pull));
            sys::gnutls_transport_set_pull_timeout_function(raw, Some(pull_timeout));
        }
        let session = Self { handle, reach, priority: None, credentials: Vec::new() };
        session.with_settings(credentials, priority)
    }

    fn with_settings(
        mut self,
        credentials: Arc<Credentials>,
        priority: Arc<Priority>,
    ) -> Result<Self, Error> {
        // SAFETY: both handles are alive; the priority is kept in `self` as long as the handle.
        check(unsafe { sys::gnutls_priority_set(self.handle.raw(), priority.raw()) })?;
        self.priority = Some(priority);
        set_credentials(self.handle.raw(), &credentials)?;
        self.credentials.push(credentials);
        Ok(self)
    }

    /// When to give up waiting, in all later calls; None waits for ever.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.reach.transport.set_deadline(deadline);
    }

    /// The connection below, for its addresses and options.
    pub fn socket(&self) -> &TcpStream {
        self.reach.transport.socket()
    }

    /// What the server staples if the client asks; see [`CredentialsBuilder::staple_by_session`].
    pub fn set_staple(&mut self, staple: Option<Arc<[u8]>>) {
        self.reach.staple.replace(staple);
    }

    /// What the server asks of the client's certificate.
    #[doc(alias = "gnutls_certificate_server_set_request")]
    pub fn ask_certificate(&mut self, wish: ClientCertificate) {
        ask_certificate(self.handle.raw(), wish);
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
        if let Some(hook) = hook {
            let pointer = NonNull::from(hook);
            // SAFETY: only the lifetime in the type changes. The pointer is removed again below,
            // before the borrow it came from ends, and is used only by calls from within gnutls_handshake.
            let pointer = unsafe {
                std::mem::transmute::<NonNull<ClientHelloHook<'_>>, NonNull<ClientHelloHook<'static>>>(
                    pointer,
                )
            };
            self.reach.hook.set(Some(pointer));
            // SAFETY: the handle is alive; the function is a plain one.
            unsafe { sys::gnutls_handshake_set_post_client_hello_function(raw, Some(post_client_hello)) };
        }
        let result = self.repeat(|| {
            // SAFETY: the handle is alive, and so is all that its callbacks reach.
            unsafe { sys::gnutls_handshake(raw) as isize }
        });
        self.reach.hook.set(None);
        self.credentials.append(&mut self.reach.adopted.borrow_mut());
        self.raise_parked();
        if let Err(SessionError::Tls(error)) = &result {
            // SAFETY: the handle is alive. Best effort: the peer may be gone.
            unsafe { sys::gnutls_alert_send_appropriate(raw, error.code()) };
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
    #[doc(alias = "gnutls_alert_send")]
    pub fn refuse_certificate(&mut self) {
        // SAFETY: the handle is alive; plain numbers.
        unsafe {
            sys::gnutls_alert_send(self.handle.raw(), sys::GNUTLS_AL_FATAL, sys::GNUTLS_A_BAD_CERTIFICATE);
        }
        self.raise_parked();
    }

    /// True if the client asked for a staple (known only where the credentials have the callback).
    pub fn status_was_asked(&self) -> bool {
        self.reach.status_asked.get()
    }

    /// The name the client asked for.
    pub fn server_name(&self) -> Option<Vec<u8>> {
        server_name(self.handle.raw())
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
    #[doc(alias = "gnutls_certificate_get_ours")]
    pub fn our_certificate(&self) -> Vec<u8> {
        // SAFETY: the handle is alive; the result is NULL or lives in the credentials, which we keep.
        let ours = unsafe { sys::gnutls_certificate_get_ours(self.handle.raw()) };
        if ours.is_null() {
            return Vec::new();
        }
        // SAFETY: not NULL, and as GnuTLS filled it; copied at once.
        unsafe { bytes_of(&*ours) }.to_vec()
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

    pub(super) fn raw(&self) -> sys::gnutls_session_t {
        self.handle.raw()
    }

    /// Calls until it is done, fails for good, or the deadline passed. GnuTLS returns `AGAIN` on blocking
    /// sockets too, for instance after a session ticket.
    fn repeat(&mut self, mut call: impl FnMut() -> isize) -> Result<usize, SessionError> {
        loop {
            let code = call();
            self.raise_parked();
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
        }
    }

    /// Goes on with a panic that a callback parked; no C frame is on the stack here.
    fn raise_parked(&self) {
        if let Some(panic) = self.reach.parked.take() {
            resume_unwind(panic);
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
    /// What remains if GnuTLS's verdict about the stapled proof is left out.
    #[cfg(gnutls_checks_must_staple)]
    pub fn without_proof(self) -> Self {
        Self(self.0 & !PROOF_BITS).without_lone_invalid()
    }
    /// These versions have no bits of their own for it.
    #[cfg(not(gnutls_checks_must_staple))]
    pub fn without_proof(self) -> Self {
        self
    }
    /// "Invalid" is set beside every other bit; alone it says nothing once that bit is taken out.
    #[cfg(gnutls_checks_must_staple)]
    fn without_lone_invalid(self) -> Self {
        if self.0 == sys::GNUTLS_CERT_INVALID { Self(0) } else { self }
    }
}

#[cfg(gnutls_checks_must_staple)]
const PROOF_BITS: u32 = if cfg!(ocsp_stapling) { proof_bits() } else { 0 };

#[cfg(all(gnutls_checks_must_staple, ocsp_stapling))]
const fn proof_bits() -> u32 {
    sys::GNUTLS_CERT_INVALID_OCSP_STATUS
        | sys::GNUTLS_CERT_MISSING_OCSP_STATUS
        | sys::GNUTLS_CERT_REVOCATION_DATA_SUPERSEDED
}
#[cfg(all(gnutls_checks_must_staple, not(ocsp_stapling)))]
const fn proof_bits() -> u32 {
    0
}

fn init_flags(side: Side) -> c_uint {
    let flags = match side {
        Side::Server => sys::GNUTLS_SERVER,
        Side::Client { request_status: true } => sys::GNUTLS_CLIENT,
        Side::Client { request_status: false } => sys::GNUTLS_CLIENT | without_status_request(),
    };
    flags as c_uint | no_signal()
}

/// A client asks for a proof unless told otherwise when it is made.
#[cfg(gnutls_no_status_request)]
fn without_status_request() -> c_uint {
    sys::GNUTLS_NO_STATUS_REQUEST
}
/// These versions know only how to leave out all that is enabled by default: status_request, and
/// session tickets, which we do not use.
#[cfg(not(gnutls_no_status_request))]
fn without_status_request() -> c_uint {
    sys::GNUTLS_NO_EXTENSIONS
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

fn set_credentials(session: sys::gnutls_session_t, credentials: &Arc<Credentials>) -> Result<(), Error> {
    // SAFETY: both handles are alive. GnuTLS keeps the pointer; the callers keep the Arc in the session.
    check(unsafe {
        sys::gnutls_credentials_set(session, sys::GNUTLS_CRD_CERTIFICATE, credentials.raw().cast())
    })?;
    Ok(())
}

fn ask_certificate(session: sys::gnutls_session_t, wish: ClientCertificate) {
    let request = match wish {
        ClientCertificate::Ignored => sys::GNUTLS_CERT_IGNORE,
        ClientCertificate::Requested => sys::GNUTLS_CERT_REQUEST,
        ClientCertificate::Required => sys::GNUTLS_CERT_REQUIRE,
    };
    // SAFETY: the handle is alive; a plain number.
    unsafe { sys::gnutls_certificate_server_set_request(session, request) };
}

fn server_name(session: sys::gnutls_session_t) -> Option<Vec<u8>> {
    // A host name has at most 255 bytes; the rest is for GnuTLS's NUL.
    let mut buffer = [0u8; 300];
    let mut size = buffer.len();
    let mut kind: c_uint = 0;
    // SAFETY: the handle is alive, `buffer` has room for `size` bytes.
    let code =
        unsafe { sys::gnutls_server_name_get(session, buffer.as_mut_ptr().cast(), &mut size, &mut kind, 0) };
    (code == 0 && kind == sys::GNUTLS_NAME_DNS && size > 0).then(|| buffer[..size].to_vec())
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

/// Runs the body of a callback; a panic is parked and `otherwise` returned to C.
fn guarded<T>(reach: &Reach, otherwise: T, body: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => value,
        Err(panic) => {
            reach.parked.set(Some(panic));
            otherwise
        }
    }
}

/// What the pointer given to GnuTLS points to.
///
/// # Safety
/// `pointer` must be the one that [`Session::new`] set, and the session must be alive, for `'a`.
unsafe fn reach_of<'a>(pointer: *mut c_void) -> &'a Reach {
    // SAFETY: set from Rc::as_ptr of a `Reach` that outlives the handle; only shared references are made.
    unsafe { &*pointer.cast::<Reach>() }
}

/// # Safety
/// Called by GnuTLS, with the session's pointer and readable bytes.
unsafe extern "C" fn push(pointer: *mut c_void, data: *const c_void, size: usize) -> isize {
    // SAFETY: GnuTLS passes on the pointer that was set, from within a call on a live session.
    let reach = unsafe { reach_of(pointer) };
    guarded(reach, -1, || {
        // SAFETY: GnuTLS's bytes to send, readable during the call.
        let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), size) };
        report(reach, reach.transport.push(bytes))
    })
}

/// # Safety
/// Called by GnuTLS, with the session's pointer and a writable buffer.
unsafe extern "C" fn pull(pointer: *mut c_void, data: *mut c_void, size: usize) -> isize {
    // SAFETY: as in `push`.
    let reach = unsafe { reach_of(pointer) };
    guarded(reach, -1, || {
        // SAFETY: GnuTLS's buffer may be uninitialised, so it is made bytes first; it is writable for
        // `size` during the call and nobody else uses it.
        let buffer = unsafe {
            ptr::write_bytes(data.cast::<u8>(), 0, size);
            std::slice::from_raw_parts_mut(data.cast::<u8>(), size)
        };
        report(reach, reach.transport.pull(buffer))
    })
}

/// # Safety
/// Called by GnuTLS, with the session's pointer.
unsafe extern "C" fn pull_timeout(pointer: *mut c_void, millis: c_uint) -> c_int {
    // SAFETY: as in `push`.
    let reach = unsafe { reach_of(pointer) };
    guarded(reach, -1, || match reach.transport.wait_readable(Duration::from_millis(u64::from(millis))) {
        Ok(ready) => c_int::from(ready),
        Err(errno) => {
            set_errno(reach, errno);
            -1
        }
    })
}

/// # Safety
/// Called by GnuTLS, with a session made by [`Session::new`].
unsafe extern "C" fn post_client_hello(session: sys::gnutls_session_t) -> c_int {
    // SAFETY: the session's pointer was set when it was made.
    let reach = unsafe { reach_of(sys::gnutls_session_get_ptr(session)) };
    let refused = sys::GNUTLS_E_APPLICATION_ERROR_MIN;
    guarded(reach, refused, || {
        let Some(mut hook) = reach.hook.get() else { return 0 };
        // SAFETY: set by `handshake`, which is on the stack and holds the borrow; GnuTLS does not call
        // the hook from within itself, so this is the only reference.
        let hook = unsafe { hook.as_mut() };
        match hook(&ClientHello { reach }) {
            Ok(()) => 0,
            Err(Refusal) => refused,
        }
    })
}

/// Registers the callback that staples; it finds the proof through the session, so the credentials hold no pointer.
#[cfg(ocsp_stapling)]
pub(super) fn register_staple_callback(credentials: &mut CredentialsBuilder) {
    // SAFETY: the handle is ours alone; the function is a plain one and needs no pointer.
    unsafe {
        sys::gnutls_certificate_set_ocsp_status_request_function(
            credentials.raw(),
            Some(staple),
            ptr::null_mut(),
        );
    }
}
/// Nothing is stapled.
#[cfg(not(ocsp_stapling))]
pub(super) fn register_staple_callback(_: &mut CredentialsBuilder) {}

/// # Safety
/// Called by GnuTLS, with a session made by [`Session::new`] and a datum to fill.
#[cfg(ocsp_stapling)]
unsafe extern "C" fn staple(
    session: sys::gnutls_session_t,
    _: *mut c_void,
    answer: *mut sys::gnutls_datum_t,
) -> c_int {
    // SAFETY: the session's pointer was set when it was made.
    let reach = unsafe { reach_of(sys::gnutls_session_get_ptr(session)) };
    guarded(reach, sys::GNUTLS_E_NO_CERTIFICATE_STATUS, || {
        reach.status_asked.set(true);
        let staple = reach.staple.borrow();
        // Never 0 bytes: that breaks TLS 1.3 (GNUTLS.md 1a).
        let Some(bytes) = staple.as_deref().filter(|bytes| !bytes.is_empty()) else {
            return sys::GNUTLS_E_NO_CERTIFICATE_STATUS;
        };
        match super::memory::give_away(bytes) {
            Some(datum) => {
                // SAFETY: GnuTLS's datum to fill; it frees the allocation, which came from its allocator.
                unsafe { *answer = datum };
                0
            }
            None => sys::GNUTLS_E_NO_CERTIFICATE_STATUS,
        }
    })
}

fn report(reach: &Reach, result: Result<usize, nix::errno::Errno>) -> isize {
    match result {
        Ok(count) => count as isize, // a slice is never longer than isize::MAX
        Err(errno) => {
            set_errno(reach, errno);
            -1
        }
    }
}

/// GnuTLS's own errno: the C library's could be overwritten before it is read.
fn set_errno(reach: &Reach, errno: nix::errno::Errno) {
    // SAFETY: called from a callback, so the session is alive.
    unsafe { sys::gnutls_transport_set_errno(reach.session.get(), errno as c_int) };
}
