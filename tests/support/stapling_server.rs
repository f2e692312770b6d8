//! Servers for tests, on threads and free ports: one that staples any bytes it is told, without any check, and
//! oxim's own with its settings given as plain values.
#![allow(dead_code, reason = "each test binary uses its part")]

use bstr::BString;
use oxim::mail::envelope::TlsInfo;
use oxim::ocsp::registry::Registry;
use oxim::tls::gnutls::credentials::CredentialsBuilder;
use oxim::tls::gnutls::priority::Priority;
use oxim::tls::gnutls::session::{ClientCertificate, Session, Side, Staples};
use oxim::tls::gnutls::x509::{Certificate, PrivateKey};
use oxim::tls::{Accept, ExpandFailure, Notice, ServerTls};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// A deadline far enough for a slow machine, near enough for a test that hangs.
pub fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(10))
}

/// Accepts one connection, staples these bytes, and says a line.
pub fn staple_anything(chain: &[u8], key: &[u8], staple: Option<Vec<u8>>) -> SocketAddr {
    let mut builder = CredentialsBuilder::new().unwrap();
    let chain = Certificate::list_from_pem(chain).unwrap();
    builder.set_key(&chain, &PrivateKey::from_pem(key).unwrap()).unwrap();
    builder.staple_by_session();
    let credentials = Arc::new(builder.share());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let priority = Arc::new(Priority::parse(b"NORMAL").unwrap());
        let mut session = Session::new(Side::Server, socket, credentials, priority).unwrap();
        session.set_deadline(soon());
        session.set_staples(staple.map_or(Staples::None, |staple| Staples::One(staple.into())));
        if session.handshake(None).is_ok() {
            let _ = session.send(b"220 hello\r\n");
            let _ = session.receive(&mut [0; 64]);
        }
    });
    address
}

/// oxim's server, one thread for each connection.
pub struct Server {
    pub address: SocketAddr,
    pub notices: Arc<Mutex<Vec<Notice>>>,
    pub sessions: Arc<Mutex<Vec<Result<TlsInfo, String>>>>,
    stop: Arc<AtomicBool>,
}

/// Options by name; `SNI` in a value stands for the server name.
pub type Options = BTreeMap<&'static str, String>;

impl Server {
    /// Starts; `wish` is what is asked of the client's certificate.
    pub fn start(options: Options, wish: ClientCertificate) -> Self {
        Self::start_with(options, wish, None)
    }

    /// Starts with proofs that are fetched.
    pub fn start_with(options: Options, wish: ClientCertificate, registry: Option<Registry>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let by_sni = options.get("tls_certificate").is_some_and(|value| value.contains("SNI"));
        let tls = ServerTls::new(by_sni);
        let tls = Arc::new(match registry {
            Some(registry) => tls.with_registry(registry),
            None => tls,
        });
        let (notices, sessions) = (Arc::default(), Arc::default());
        let stop = Arc::new(AtomicBool::new(false));
        let server = Self { address, notices, sessions, stop };
        let (notices, sessions) = (Arc::clone(&server.notices), Arc::clone(&server.sessions));
        let stop = Arc::clone(&server.stop);
        thread::spawn(move || {
            let (queue, waiting) = channel::<TcpStream>();
            let (waiting, idle) = (Arc::new(Mutex::new(waiting)), Arc::new(AtomicUsize::new(0)));
            for socket in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                queue.send(socket.unwrap()).unwrap();
                // A thread goes on to the next connection: GnuTLS 3.7.9 keeps 200 bytes for each that it ever saw.
                let is_idle = |count: usize| count.checked_sub(1);
                if idle.fetch_update(Ordering::SeqCst, Ordering::SeqCst, is_idle).is_ok() {
                    continue;
                }
                let (tls, options) = (Arc::clone(&tls), options.clone());
                let (notices, sessions) = (Arc::clone(&notices), Arc::clone(&sessions));
                let (waiting, idle) = (Arc::clone(&waiting), Arc::clone(&idle));
                thread::spawn(move || {
                    loop {
                        let Ok(socket) = waiting.lock().unwrap().recv() else { return };
                        let result = serve(&tls, &options, wish, socket, &notices);
                        idle.fetch_add(1, Ordering::SeqCst);
                        sessions.lock().unwrap().push(result);
                    }
                });
            }
        });
        server
    }

    /// Notices so far, as text.
    pub fn told(&self) -> Vec<String> {
        self.notices.lock().unwrap().iter().map(|notice| notice.text.to_string()).collect()
    }

    /// Waits until `count` sessions are over; gives the last one.
    pub fn session(&self, count: usize) -> Result<TlsInfo, String> {
        let end = soon().unwrap();
        loop {
            let sessions = self.sessions.lock().unwrap();
            if sessions.len() >= count {
                return sessions[count - 1].clone();
            }
            drop(sessions);
            assert!(Instant::now() < end, "no session {count}");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    tls: &ServerTls,
    options: &Options,
    wish: ClientCertificate,
    socket: TcpStream,
    notices: &Mutex<Vec<Notice>>,
) -> Result<TlsInfo, String> {
    let expand = |name: &'static str, sni: Option<&[u8]>| match options.get(name).map(String::as_str) {
        None => Ok(None),
        Some("FAIL") => Err(ExpandFailure::Forced),
        Some("ERROR") => Err(ExpandFailure::Failed("no such variable".into())),
        Some(value) => {
            let sni = String::from_utf8_lossy(sni.unwrap_or(b"leaf")).into_owned();
            let sni = sni.strip_suffix(".test").unwrap_or(&sni).to_owned();
            Ok(Some(BString::from(value.replace("SNI", &sni))))
        }
    };
    let notify = |notice| notices.lock().unwrap().push(notice);
    let accept = Accept {
        expand: &expand,
        notify: &notify,
        client_certificate: wish,
        resume: options.contains_key("tls_resumption_hosts"),
        deadline: soon(),
        on_connect: true,
        own_name: b"self.test",
        now: SystemTime::now(),
        terms: oxim::tls::ServerTerms::default(),
    };
    let prepared = tls.prepare(&accept).map_err(|error| error.to_string())?;
    let (mut stream, info) = tls.accept(prepared, socket, &accept).map_err(|error| error.to_string())?;
    stream.write_all(b"220 hello\r\n").map_err(|error| error.to_string())?;
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer).map_err(|error| error.to_string())? {
            0 => return Ok(info),
            // What comes goes back.
            count => stream.write_all(&buffer[..count]).map_err(|error| error.to_string())?,
        }
    }
}
