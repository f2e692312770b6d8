//! What GnuTLS calls back into.
//!
//! [`Reach`] is found through the session's pointer. It is only ever used by shared reference (its fields are
//! cells), so a callback may run while a method of the session is on the stack. No callback keeps a borrow of
//! a cell while it calls out.
//!
//! A callback that panics parks the panic here; the method that called GnuTLS raises it again once no
//! C frame is left on the stack.

use super::check::{Error, check};
use super::credentials::{Credentials, CredentialsBuilder};
use super::gnutls_sys as sys;
use super::memory::bytes_of;
use super::session::ClientCertificate;
use super::transport::Transport;
use nix::errno::Errno;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_uint, c_void};
use std::io::IoSlice;
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Asked during a server's handshake, after the ClientHello: may change what the session shows.
pub type ClientHelloHook<'a> = dyn FnMut(&ClientHello<'_>) -> Result<(), Refusal> + 'a;

/// The hook said no: the handshake ends with an alert.
#[derive(Clone, Copy, Debug)]
pub struct Refusal;

/// What may be stapled, byte for byte.
#[derive(Clone, Debug, Default)]
pub enum Staples {
    /// Nothing.
    #[default]
    None,
    /// This, with the only certificate there is.
    One(Arc<[u8]>),
    /// With each certificate its own; with others nothing.
    Of(Vec<Staple>),
}

/// What goes out with one certificate.
#[derive(Clone, Debug)]
pub struct Staple {
    /// DER of the certificate.
    pub certificate: Arc<[u8]>,
    /// The proof.
    pub proof: Arc<[u8]>,
}

/// What callbacks reach.
pub(super) struct Reach {
    pub transport: Transport,
    session: sys::gnutls_session_t,
    /// Set only while a [`HookGuard`] lives.
    hook: Cell<Option<NonNull<ClientHelloHook<'static>>>>,
    staples: RefCell<Staples>,
    /// The peer asked for a staple.
    pub status_asked: Cell<bool>,
    /// What the ClientHello says of resumption.
    #[cfg(gnutls_alpn)]
    pub resumption: Cell<super::hello::Resumption>,
    /// GnuTLS took one from the callback.
    pub stapled: Cell<bool>,
    /// What a server looks for in the ClientHello.
    #[cfg(gnutls_alpn)]
    pub hello_watch: RefCell<Option<super::alpn::Watch>>,
    /// Credentials that the handle was ever given: GnuTLS may still point into earlier ones.
    credentials: RefCell<Vec<Arc<Credentials>>>,
    parked: Cell<Option<Box<dyn Any + Send>>>,
}

impl Reach {
    pub fn new(socket: TcpStream, session: sys::gnutls_session_t) -> Self {
        Self {
            transport: Transport::new(socket),
            session,
            hook: Cell::new(None),
            staples: RefCell::default(),
            status_asked: Cell::new(false),
            #[cfg(gnutls_alpn)]
            resumption: Cell::default(),
            stapled: Cell::new(false),
            #[cfg(gnutls_alpn)]
            hello_watch: RefCell::new(None),
            credentials: RefCell::new(Vec::new()),
            parked: Cell::new(None),
        }
    }

    pub fn set_staples(&self, staples: Staples) {
        self.staples.replace(staples);
    }

    /// The certificate that was chosen to be shown, in DER; none before that, or if there is none.
    #[doc(alias = "gnutls_certificate_get_ours")]
    pub fn our_certificate(&self) -> Option<Vec<u8>> {
        // SAFETY: the handle is alive; the result is NULL or lives in the credentials, which we keep.
        let ours = unsafe { sys::gnutls_certificate_get_ours(self.session) };
        if ours.is_null() {
            return None;
        }
        // SAFETY: not NULL, and as GnuTLS filled it; copied at once.
        Some(unsafe { bytes_of(&*ours) }.to_vec())
    }

    /// What to staple with the certificate that was chosen.
    #[cfg(ocsp_stapling)]
    fn staple(&self) -> Option<Arc<[u8]>> {
        match &*self.staples.borrow() {
            Staples::None => None,
            Staples::One(proof) => Some(Arc::clone(proof)),
            Staples::Of(all) => {
                let ours = self.our_certificate()?;
                all.iter().find(|one| *one.certificate == *ours).map(|one| Arc::clone(&one.proof))
            }
        }
    }

    /// Gives the session credentials, and keeps them as long as it lives.
    #[doc(alias = "gnutls_credentials_set")]
    pub fn set_credentials(&self, credentials: &Arc<Credentials>) -> Result<(), Error> {
        // First kept, then used: GnuTLS keeps only the pointer.
        self.credentials.borrow_mut().push(Arc::clone(credentials));
        // SAFETY: both handles are alive, and the credentials stay so with the session.
        check(unsafe {
            sys::gnutls_credentials_set(self.session, sys::GNUTLS_CRD_CERTIFICATE, credentials.raw().cast())
        })?;
        Ok(())
    }

    /// What a server wants of the client's certificate.
    #[doc(alias = "gnutls_certificate_server_set_request")]
    pub fn ask_certificate(&self, wish: ClientCertificate) {
        let request = match wish {
            ClientCertificate::Ignored => sys::GNUTLS_CERT_IGNORE,
            ClientCertificate::Requested => sys::GNUTLS_CERT_REQUEST,
            ClientCertificate::Required => sys::GNUTLS_CERT_REQUIRE,
        };
        // SAFETY: the handle is alive; a plain number.
        unsafe { sys::gnutls_certificate_server_set_request(self.session, request) };
    }

    /// The name the client asked for.
    #[doc(alias = "gnutls_server_name_get")]
    pub fn server_name(&self) -> Option<Vec<u8>> {
        // A host name has at most 255 bytes; the rest is for GnuTLS's NUL.
        let mut buffer = [0u8; 300];
        let mut size = buffer.len();
        let mut kind: c_uint = 0;
        // SAFETY: the handle is alive, `buffer` has room for `size` bytes.
        let code = unsafe {
            sys::gnutls_server_name_get(self.session, buffer.as_mut_ptr().cast(), &mut size, &mut kind, 0)
        };
        let name = buffer.get(..size).filter(|name| !name.is_empty());
        name.filter(|_| code == 0 && kind == sys::GNUTLS_NAME_DNS).map(<[u8]>::to_vec)
    }

    /// (It asks for tickets, it offers a session), in the terms of the version that was agreed on.
    pub fn ticket_wishes(&self, version: &str) -> (bool, bool) {
        #[cfg(gnutls_alpn)]
        {
            let said = self.resumption.get();
            match version {
                "TLS1.3" => (said.takes_keys, said.offers_key),
                _ => (said.asks_for_ticket, said.offers_ticket),
            }
        }
        #[cfg(not(gnutls_alpn))]
        {
            let _ = version;
            (false, false)
        }
    }

    /// Goes on with a panic that a callback parked. Called where no C frame is on the stack.
    pub fn raise_parked(&self) {
        if let Some(panic) = self.parked.take() {
            resume_unwind(panic);
        }
    }

    /// Runs the body of a callback; a panic is parked, and `otherwise` returned to C.
    pub fn guarded<T>(&self, otherwise: T, body: impl FnOnce() -> T) -> T {
        catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
            self.parked.set(Some(panic));
            otherwise
        })
    }

    fn report(&self, result: Result<usize, Errno>) -> isize {
        match result {
            Ok(count) => count as isize, // no slice is longer than isize::MAX
            Err(errno) => {
                self.set_errno(errno);
                -1
            }
        }
    }

    /// GnuTLS's own errno: the C library's could be overwritten before it is read.
    fn set_errno(&self, errno: Errno) {
        // SAFETY: called from a callback, so the session is alive.
        unsafe { sys::gnutls_transport_set_errno(self.session, errno as c_int) };
    }
}

/// The hook is in place as long as this lives; it is taken away on every way out, a panic included.
pub(super) struct HookGuard<'a> {
    reach: &'a Reach,
}

impl<'a> HookGuard<'a> {
    #[doc(alias = "gnutls_handshake_set_post_client_hello_function")]
    pub fn place(reach: &'a Reach, hook: &'a mut ClientHelloHook<'_>) -> Self {
        let pointer = NonNull::from(hook);
        // SAFETY: only lifetimes in the type change. The guard borrows the hook for 'a and takes the pointer
        // away when it is dropped; it is private to `handshake`, which never forgets it.
        let pointer = unsafe {
            std::mem::transmute::<NonNull<ClientHelloHook<'_>>, NonNull<ClientHelloHook<'static>>>(pointer)
        };
        reach.hook.set(Some(pointer));
        // SAFETY: the handle is alive; the function is a plain one.
        unsafe {
            sys::gnutls_handshake_set_post_client_hello_function(reach.session, Some(post_client_hello));
        }
        Self { reach }
    }
}

impl Drop for HookGuard<'_> {
    fn drop(&mut self) {
        self.reach.hook.set(None);
    }
}

/// The ClientHello, for the hook.
pub struct ClientHello<'a> {
    reach: &'a Reach,
}

impl ClientHello<'_> {
    /// The name the client wants to talk to, as sent; none if it sent none.
    pub fn server_name(&self) -> Option<Vec<u8>> {
        self.reach.server_name()
    }

    /// Shows these credentials, and staples this, from here on.
    pub fn show(&self, credentials: &Arc<Credentials>, staples: Staples) -> Result<(), Error> {
        self.reach.set_credentials(credentials)?;
        self.reach.set_staples(staples);
        Ok(())
    }

    /// What to ask of the client's certificate.
    pub fn ask_certificate(&self, wish: ClientCertificate) {
        self.reach.ask_certificate(wish);
    }
}

/// Makes `reach` what the callbacks of a session reach.
///
/// # Safety
/// `session` must be a live handle that is freed before `reach` is dropped or moved.
pub(super) unsafe fn register(session: sys::gnutls_session_t, reach: &Rc<Reach>) {
    let pointer = Rc::as_ptr(reach).cast_mut().cast::<c_void>();
    // SAFETY: the caller vouches for handle and pointer; the functions are plain ones.
    unsafe {
        sys::gnutls_session_set_ptr(session, pointer);
        sys::gnutls_transport_set_ptr(session, pointer);
        sys::gnutls_transport_set_vec_push_function(session, Some(push));
        sys::gnutls_transport_set_pull_function(session, Some(pull));
        sys::gnutls_transport_set_pull_timeout_function(session, Some(pull_timeout));
    }
}

/// What the pointer given to GnuTLS points to.
///
/// # Safety
/// `pointer` must be the one that [`register`] set, and the session must be alive, for `'a`.
pub(super) unsafe fn reach_of<'a>(pointer: *mut c_void) -> &'a Reach {
    // SAFETY: set from Rc::as_ptr of a `Reach` that outlives the handle; only shared references are made.
    unsafe { &*pointer.cast::<Reach>() }
}

/// All records of a flight at once: one call for each would wake the peer for each.
///
/// # Safety
/// Called by GnuTLS, with the session's pointer and pieces of readable bytes.
unsafe extern "C" fn push(pointer: *mut c_void, pieces: *const sys::giovec_t, count: c_int) -> isize {
    // SAFETY: GnuTLS passes on the pointer that was set, from within a call on a live session.
    let reach = unsafe { reach_of(pointer) };
    reach.guarded(-1, || {
        // SAFETY: GnuTLS's bytes to send, readable during the call; an IoSlice is laid out as an iovec.
        let pieces = unsafe {
            std::slice::from_raw_parts(pieces.cast::<IoSlice<'_>>(), usize::try_from(count).unwrap_or(0))
        };
        reach.report(reach.transport.push(pieces))
    })
}

/// # Safety
/// Called by GnuTLS, with the session's pointer and a writable buffer.
unsafe extern "C" fn pull(pointer: *mut c_void, data: *mut c_void, size: usize) -> isize {
    // SAFETY: as in `push`.
    let reach = unsafe { reach_of(pointer) };
    reach.guarded(-1, || {
        // SAFETY: GnuTLS's buffer, writable for `size` during the call and used by nobody else. It may be
        // uninitialised, which a slice of u8 must not be, so it is filled first.
        let buffer = unsafe {
            ptr::write_bytes(data.cast::<u8>(), 0, size);
            std::slice::from_raw_parts_mut(data.cast::<u8>(), size)
        };
        reach.report(reach.transport.pull(buffer))
    })
}

/// # Safety
/// Called by GnuTLS, with the session's pointer.
unsafe extern "C" fn pull_timeout(pointer: *mut c_void, millis: c_uint) -> c_int {
    // SAFETY: as in `push`.
    let reach = unsafe { reach_of(pointer) };
    reach.guarded(-1, || match reach.transport.wait_readable(Duration::from_millis(u64::from(millis))) {
        Ok(ready) => c_int::from(ready),
        Err(errno) => {
            reach.set_errno(errno);
            -1
        }
    })
}

/// # Safety
/// Called by GnuTLS, with a session that [`register`] was called for.
unsafe extern "C" fn post_client_hello(session: sys::gnutls_session_t) -> c_int {
    // SAFETY: the session's pointer was set when it was made.
    let reach = unsafe { reach_of(sys::gnutls_session_get_ptr(session)) };
    let refused = sys::GNUTLS_E_APPLICATION_ERROR_MIN;
    reach.guarded(refused, || {
        let Some(mut hook) = reach.hook.get() else { return 0 };
        // SAFETY: a pointer is there only while a `HookGuard` holds the borrow it was made from. GnuTLS does not call
        // this from within itself, so there is no other reference.
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
/// Called by GnuTLS, with a session that [`register`] was called for and a datum to fill.
#[cfg(ocsp_stapling)]
unsafe extern "C" fn staple(
    session: sys::gnutls_session_t,
    _: *mut c_void,
    answer: *mut sys::gnutls_datum_t,
) -> c_int {
    // SAFETY: the session's pointer was set when it was made.
    let reach = unsafe { reach_of(sys::gnutls_session_get_ptr(session)) };
    reach.guarded(sys::GNUTLS_E_NO_CERTIFICATE_STATUS, || {
        reach.status_asked.set(true);
        // Never 0 bytes: that breaks TLS 1.3 (GNUTLS.md 1a).
        let staple = reach.staple().filter(|bytes| !bytes.is_empty());
        match staple.as_deref().and_then(super::memory::give_away) {
            Some(datum) => {
                reach.stapled.set(true);
                // SAFETY: GnuTLS's datum to fill; it frees the allocation, which came from its allocator.
                unsafe { *answer = datum };
                0
            }
            None => sys::GNUTLS_E_NO_CERTIFICATE_STATUS,
        }
    })
}
