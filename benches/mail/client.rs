//! The client of a STARTTLS session: GnuTLS with nothing around it. It does the same whether a staple comes or not (it
//! asks, and only looks whether one is there): how long a server has to wait between two flights is part of what they cost it.

use super::bare::{check, repeat, sys};
use super::load::expect;
use anyhow::ensure;
use std::ffi::c_void;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::ptr;
use std::time::Duration;

/// What all its sessions share.
pub struct Client {
    credentials: sys::gnutls_certificate_credentials_t,
    priority: sys::gnutls_priority_t,
}

// SAFETY: both handles are only read by sessions, which GnuTLS allows from several threads.
unsafe impl Sync for Client {}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: the handles are ours, and every session that used them is over.
        unsafe {
            sys::gnutls_certificate_free_credentials(self.credentials);
            sys::gnutls_priority_deinit(self.priority);
        }
    }
}

/// A session's handle.
struct Session(sys::gnutls_session_t);

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and used no more.
        unsafe { sys::gnutls_deinit(self.0) };
    }
}

impl Client {
    /// Believes every certificate.
    pub fn new() -> anyhow::Result<Self> {
        let (mut credentials, mut priority) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the out pointers are ours.
        unsafe {
            check("global_init", sys::gnutls_global_init())?;
            check("allocate", sys::gnutls_certificate_allocate_credentials(&mut credentials))?;
            check("priority", sys::gnutls_priority_init(&mut priority, c"NORMAL".as_ptr(), ptr::null_mut()))?;
        }
        Ok(Self { credentials, priority })
    }

    /// One session, from the greeting to the answer to QUIT; `name` is the server asked for.
    pub fn session(&self, port: u16, staple: bool, name: Option<&str>) -> anyhow::Result<()> {
        let mut socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut replies = BufReader::new(socket.try_clone()?);
        expect(&mut replies, "220")?;
        socket.write_all(b"EHLO client.example\r\n")?;
        expect(&mut replies, "250")?;
        socket.write_all(b"STARTTLS\r\n")?;
        expect(&mut replies, "220")?;
        let session = self.handshake(&socket, name)?;
        let stapled = is_stapled(&session);
        ensure!(stapled == staple, "stapled: {stapled}, expected: {staple}");
        session.say("EHLO client.example\r\n")?;
        session.hear("250 ")?;
        session.say("QUIT\r\n")?;
        session.hear("221 ")
    }

    fn handshake(&self, socket: &TcpStream, name: Option<&str>) -> anyhow::Result<Session> {
        let mut session = ptr::null_mut();
        // SAFETY: the out pointer is ours.
        unsafe { check("init", sys::gnutls_init(&mut session, sys::GNUTLS_CLIENT))? };
        let session = Session(session);
        // SAFETY: the handles are alive, credentials and priority as long as `self`; the name is as long as it is said to be;
        // GnuTLS's own functions take the pointer as a descriptor.
        unsafe {
            sys::gnutls_priority_set(session.0, self.priority);
            sys::gnutls_credentials_set(session.0, sys::GNUTLS_CRD_CERTIFICATE, self.credentials.cast());
            sys::gnutls_transport_set_ptr(session.0, socket.as_raw_fd() as usize as *mut c_void);
            if let Some(name) = name {
                let bytes = name.as_ptr().cast();
                check(
                    "name",
                    sys::gnutls_server_name_set(session.0, sys::GNUTLS_NAME_DNS, bytes, name.len()),
                )?;
            }
        }
        // SAFETY: the handle is alive.
        repeat(|| unsafe { sys::gnutls_handshake(session.0) as isize })?;
        Ok(session)
    }
}

#[cfg(ocsp_stapling)]
fn is_stapled(session: &Session) -> bool {
    let mut response = sys::gnutls_datum_t { data: ptr::null_mut(), size: 0 };
    // SAFETY: the handle is alive, the out pointer ours; what it points to is the session's.
    unsafe { sys::gnutls_ocsp_status_request_get(session.0, &mut response) >= 0 }
}

#[cfg(not(ocsp_stapling))]
fn is_stapled(_: &Session) -> bool {
    false
}

impl Session {
    fn say(&self, text: &str) -> anyhow::Result<()> {
        // SAFETY: the handle is alive, the text as long as it is said to be.
        repeat(|| unsafe { sys::gnutls_record_send(self.0, text.as_ptr().cast(), text.len()) })?;
        Ok(())
    }

    /// Reads until a line begins with this.
    fn hear(&self, wanted: &str) -> anyhow::Result<()> {
        let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
        while !heard.split(|byte| *byte == b'\n').any(|line: &[u8]| line.starts_with(wanted.as_bytes())) {
            // SAFETY: the handle is alive, the buffer as long as it is said to be.
            let count = repeat(|| unsafe {
                sys::gnutls_record_recv(self.0, buffer.as_mut_ptr().cast(), buffer.len())
            })?;
            ensure!(count > 0, "the server closed before {wanted}");
            heard.extend_from_slice(&buffer[..count]);
        }
        Ok(())
    }
}
