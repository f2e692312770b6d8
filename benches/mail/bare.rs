//! A server that does nothing but the dialogue of [`super::sessions`]: one thread, GnuTLS on blocking sockets, credentials
//! loaded once. What oxim takes beyond this is the price of being a mail server. It runs as a process of its own.

use super::server::free_port;
use anyhow::{Context, ensure};
use std::ffi::{c_int, c_uint, c_void};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::ptr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

#[allow(non_camel_case_types, non_upper_case_globals, non_snake_case, dead_code, clippy::all)]
pub mod sys {
    include!(concat!(env!("OUT_DIR"), "/gnutls_sys.rs"));
}

/// The argument that makes this program the server.
pub const ARGUMENT: &str = "--bare-server";
const BANNER: &str = "220 bench.example ESMTP bare 0.1.0 Wed, 25 Nov 2026 04:00:00 +0000\r\n";
const HELLO: &str = "250-bench.example Hello client.example [127.0.0.1]\r\n250-SIZE 52428800\r\n250-8BITMIME\r\n250-PIPELINING\r\n";
const OFFER: &str = "250-STARTTLS\r\n";
const LAST: &str = "250 HELP\r\n";

/// The running server.
pub struct Bare {
    child: Child,
    pub port: u16,
}

impl Bare {
    /// Starts it with the certificate of this directory, and with its proof if it is to staple.
    pub fn start(keys: &Path, staple: bool) -> anyhow::Result<Self> {
        let port = free_port()?;
        let child = Command::new(std::env::current_exe()?)
            .arg(ARGUMENT)
            .arg(port.to_string())
            .arg(keys)
            .args(staple.then_some("good.der"))
            .stdin(Stdio::null())
            .spawn()?;
        let bare = Self { child, port };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(began.elapsed() < Duration::from_secs(10), "the bare server did not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(bare)
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill(); // gone already is as good
        let _ = self.child.wait();
    }
}

/// What is stapled.
static STAPLE: OnceLock<Vec<u8>> = OnceLock::new();

/// The server's life: `--bare-server PORT DIRECTORY [PROOF]`.
pub fn main(arguments: &[String]) -> anyhow::Result<()> {
    let [port, directory, proof @ ..] = arguments else { anyhow::bail!("PORT and DIRECTORY are missing") };
    let directory = Path::new(directory);
    if let Some(proof) = proof.first() {
        let _ = STAPLE.set(std::fs::read(directory.join(proof))?);
    }
    let (credentials, priority) = load(directory)?;
    let listener = TcpListener::bind(("127.0.0.1", port.parse::<u16>()?))?;
    loop {
        let (socket, _) = listener.accept()?;
        let _ = serve(socket, credentials, priority); // who only looks whether it listens says nothing
    }
}

pub fn check(what: &str, code: c_int) -> anyhow::Result<()> {
    ensure!(code >= 0, "{what}: {code}");
    Ok(())
}

fn load(directory: &Path) -> anyhow::Result<(sys::gnutls_certificate_credentials_t, sys::gnutls_priority_t)> {
    let (chain, key) =
        (std::fs::read(directory.join("chain.pem"))?, std::fs::read(directory.join("key.pem"))?);
    let datum = |bytes: &[u8]| -> anyhow::Result<sys::gnutls_datum_t> {
        let size = c_uint::try_from(bytes.len()).context("too long")?;
        Ok(sys::gnutls_datum_t { data: bytes.as_ptr().cast_mut(), size })
    };
    let (chain, key) = (datum(&chain)?, datum(&key)?);
    let (mut credentials, mut priority) = (ptr::null_mut(), ptr::null_mut());
    let (mut list, mut count, mut private) = (ptr::null_mut(), 0, ptr::null_mut());
    // SAFETY: every out pointer is ours, and each handle is made by the call before the one that uses it; the
    // texts live until the end of this function. Nothing is freed: it is in use until the process ends.
    unsafe {
        check("global_init", sys::gnutls_global_init())?;
        check("allocate", sys::gnutls_certificate_allocate_credentials(&mut credentials))?;
        check(
            "certificates",
            sys::gnutls_x509_crt_list_import2(&mut list, &mut count, &chain, sys::GNUTLS_X509_FMT_PEM, 0),
        )?;
        check("key", sys::gnutls_x509_privkey_init(&mut private))?;
        check("key", sys::gnutls_x509_privkey_import(private, &key, sys::GNUTLS_X509_FMT_PEM))?;
        let count = c_int::try_from(count)?;
        check("pair", sys::gnutls_certificate_set_x509_key(credentials, list, count, private))?;
        #[cfg(ocsp_stapling)]
        sys::gnutls_certificate_set_ocsp_status_request_function(credentials, Some(staple), ptr::null_mut());
        check("priority", sys::gnutls_priority_init(&mut priority, c"NORMAL".as_ptr(), ptr::null_mut()))?;
    }
    Ok((credentials, priority))
}

#[cfg(ocsp_stapling)]
/// # Safety
/// Called by GnuTLS in a handshake, with an out pointer that it reads if the result is 0.
unsafe extern "C" fn staple(
    _: sys::gnutls_session_t,
    _: *mut c_void,
    out: *mut sys::gnutls_datum_t,
) -> c_int {
    let Some(proof) = STAPLE.get() else { return sys::GNUTLS_E_NO_CERTIFICATE_STATUS };
    // SAFETY: `out` is writable; the copy is GnuTLS's to free, so it is from GnuTLS's allocator.
    unsafe {
        let Some(allocate) = sys::gnutls_malloc else { return sys::GNUTLS_E_NO_CERTIFICATE_STATUS };
        let copy = allocate(proof.len()).cast::<u8>();
        if copy.is_null() {
            return sys::GNUTLS_E_NO_CERTIFICATE_STATUS;
        }
        ptr::copy_nonoverlapping(proof.as_ptr(), copy, proof.len());
        *out = sys::gnutls_datum_t { data: copy, size: proof.len() as c_uint };
    }
    0
}

fn serve(
    mut socket: TcpStream,
    credentials: sys::gnutls_certificate_credentials_t,
    priority: sys::gnutls_priority_t,
) -> anyhow::Result<()> {
    socket.set_nodelay(true)?;
    socket.write_all(BANNER.as_bytes())?;
    hear(|buffer| Ok(socket.read(buffer)?), b"EHLO ")?;
    socket.write_all([HELLO, OFFER, LAST].concat().as_bytes())?;
    hear(|buffer| Ok(socket.read(buffer)?), b"STARTTLS")?;
    socket.write_all(b"220 TLS go ahead\r\n")?;
    let mut session = ptr::null_mut();
    // SAFETY: the out pointer is ours; credentials and priority live as long as the process.
    unsafe {
        check("init", sys::gnutls_init(&mut session, sys::GNUTLS_SERVER))?;
        sys::gnutls_priority_set(session, priority);
        sys::gnutls_credentials_set(session, sys::GNUTLS_CRD_CERTIFICATE, credentials.cast());
        // GnuTLS's own functions take the pointer as a descriptor
        sys::gnutls_transport_set_ptr(session, socket.as_raw_fd() as usize as *mut c_void);
    }
    let result = speak(session);
    // SAFETY: the handle is ours and used no more.
    unsafe { sys::gnutls_deinit(session) };
    result
}

fn speak(session: sys::gnutls_session_t) -> anyhow::Result<()> {
    // SAFETY: the handle is alive, here and in the calls below.
    let handshake = || unsafe { sys::gnutls_handshake(session) as isize };
    let say = |text: &str| {
        // SAFETY: the text is as long as it is said to be.
        repeat(|| unsafe { sys::gnutls_record_send(session, text.as_ptr().cast(), text.len()) })
    };
    let read = |buffer: &mut [u8]| {
        // SAFETY: so is the buffer.
        repeat(|| unsafe { sys::gnutls_record_recv(session, buffer.as_mut_ptr().cast(), buffer.len()) })
    };
    repeat(handshake)?;
    hear(read, b"EHLO ")?;
    say(&[HELLO, LAST].concat())?;
    hear(read, b"QUIT")?;
    say("221 bench.example closing connection\r\n")?;
    // SAFETY: as above.
    repeat(|| unsafe { sys::gnutls_bye(session, sys::GNUTLS_SHUT_WR) as isize })?;
    Ok(())
}

/// Calls until it is done; a peer that is silent for too long ends it.
pub fn repeat(mut call: impl FnMut() -> isize) -> anyhow::Result<usize> {
    let began = Instant::now();
    loop {
        let code = call();
        if let Ok(count) = usize::try_from(code) {
            return Ok(count);
        }
        // SAFETY: takes any number.
        ensure!(unsafe { sys::gnutls_error_is_fatal(code as c_int) } == 0, "GnuTLS: {code}");
        ensure!(began.elapsed() < Duration::from_secs(30), "the peer said nothing for 30 s");
    }
}

/// Reads one line, which has to begin so.
fn hear(mut read: impl FnMut(&mut [u8]) -> anyhow::Result<usize>, wanted: &[u8]) -> anyhow::Result<()> {
    let (mut line, mut buffer) = (Vec::new(), [0; 4096]);
    while !line.ends_with(b"\n") {
        match read(&mut buffer)? {
            0 => anyhow::bail!("the client closed"),
            count => line.extend_from_slice(&buffer[..count]),
        }
    }
    ensure!(line.starts_with(wanted), "heard {:?}", String::from_utf8_lossy(&line));
    Ok(())
}
