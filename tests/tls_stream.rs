//! The stream that owns its connection: its end, its deadlines, and panics that must not cross C.

#[path = "support/ca.rs"]
mod ca;
#[path = "support/slower.rs"]
mod slower;
#[path = "support/stapling_server.rs"]
mod stapling_server;

use ca::ca;
use oxim::tls::gnutls::session::ClientCertificate;
use oxim::tls::{
    Accept, ClientRequest, ClientSettings, ClientTls, Expand, ServerError, ServerTls, TlsStream, Verify,
};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

fn soon() -> Option<Instant> {
    stapling_server::soon()
}

/// Two ends of a connection.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

fn expand_leaf(
    name: &'static str,
    _: Option<&[u8]>,
) -> Result<Option<bstr::BString>, oxim::tls::ExpandFailure> {
    let file = match name {
        "tls_certificate" => "leaf-chain.pem",
        "tls_privatekey" => "leaf.key",
        _ => return Ok(None),
    };
    Ok(Some(ca().path(file).to_str().unwrap().into()))
}

fn accept(
    socket: TcpStream,
    expand: Expand<'_>,
    by_sni: bool,
    deadline: Option<Instant>,
) -> Result<TlsStream, ServerError> {
    let tls = ServerTls::new(by_sni);
    let accept = Accept {
        expand,
        notify: &|_| {},
        client_certificate: ClientCertificate::Ignored,
        resume: false,
        deadline,
        on_connect: false,
        own_name: b"self.test",
        now: SystemTime::now(),
        terms: oxim::tls::ServerTerms::default(),
    };
    let prepared = tls.prepare(&accept)?;
    tls.accept(prepared, socket, &accept).map(|(stream, _)| stream)
}

fn client(socket: TcpStream) -> JoinHandle<Option<TlsStream>> {
    client_of(socket, "NORMAL")
}

fn client_of(socket: TcpStream, ciphers: &'static str) -> JoinHandle<Option<TlsStream>> {
    thread::spawn(move || {
        let settings = ClientSettings::default();
        let request = ClientRequest {
            settings: &settings,
            ciphers: Some(ciphers.as_bytes()),
            sni: Some(b"mx.test"),
            verify: Verify::No,
            host_name: None,
            request_ocsp: true,
            require_ocsp: false,
            require_status: false,
            registry: None,
            resume: false,
            deadline: soon(),
            on_connect: false,
            now: SystemTime::now(),
            notify: &|_| {},
            terms: oxim::tls::ClientTerms::default(),
        };
        ClientTls::new().connect(socket, &request).ok().map(|(stream, _)| stream)
    })
}

/// A session: our end as a client, our end as a server.
fn session() -> (TlsStream, TlsStream) {
    let (near, far) = connection();
    let client = client(near);
    let server = accept(far, &expand_leaf, false, soon()).unwrap();
    (client.join().unwrap().unwrap(), server)
}

#[test]
fn what_goes_in_comes_out_however_long() {
    let (mut client, mut server) = session();
    let text: Vec<u8> = (0..300_000u32).map(|number| (number % 251) as u8).collect();
    let copy = text.clone();
    let writer = thread::spawn(move || {
        client.write_all(&copy).unwrap();
        client.shutdown().unwrap();
    });
    let mut got = Vec::new();
    server.read_to_end(&mut got).unwrap();
    writer.join().unwrap();
    assert!(got == text);
}

#[test]
fn the_end_of_a_session_and_a_cut_connection_are_told_apart() {
    let (client, mut server) = session();
    drop(client);
    assert_eq!(server.read(&mut [0; 16]).unwrap(), 0);
    assert_eq!(server.read(&mut [0; 16]).unwrap(), 0, "and it stays so");

    let (client, mut server) = session();
    client.socket().shutdown(Shutdown::Both).unwrap();
    assert_eq!(server.read(&mut [0; 16]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert!(server.write(b"421 bye\r\n").is_err(), "a broken session is not used again");
}

#[test]
fn after_a_read_that_timed_out_the_server_can_still_say_so() {
    let (mut client, mut server) = session();
    let start = Instant::now();
    server.set_deadline(Some(start + Duration::from_millis(150)));
    assert_eq!(server.read(&mut [0; 16]).unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert!(start.elapsed() >= Duration::from_millis(150) && start.elapsed() < Duration::from_secs(5));
    server.set_deadline(soon());
    server.write_all(b"421 timeout\r\n").unwrap();
    let mut buffer = [0; 64];
    let count = client.read(&mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"421 timeout\r\n");
}

#[test]
fn a_peer_that_stops_reading_makes_writes_time_out() {
    let (_client, mut server) = session();
    server.set_deadline(Some(Instant::now() + Duration::from_millis(300)));
    let error = (0..1000).find_map(|_| server.write_all(&[b'x'; 65536]).err()).unwrap();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[test]
fn after_a_write_that_timed_out_nothing_more_is_sent() {
    let (mut client, mut server) = session();
    server.set_deadline(Some(Instant::now() + Duration::from_millis(300)));
    (0..1000).find_map(|_| server.write_all(&[b'x'; 65536]).err()).unwrap();
    // The peer reads again: the record that was begun must not be filled up with other text, nor its length be
    // mistaken for the length of that text.
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        client.set_deadline(soon());
        let end = client.read_to_end(&mut all);
        (all, end.is_err())
    });
    server.set_deadline(soon());
    assert_eq!(server.write_all(b"421 timeout\r\n").unwrap_err().kind(), io::ErrorKind::NotConnected);
    drop(server);
    let (all, cut) = reader.join().unwrap();
    assert!(all.iter().all(|byte| *byte == b'x') && cut, "the client sees that something is missing");
}

#[test]
fn a_peer_that_never_stops_sending_cannot_put_off_the_end_of_the_handshake() {
    let (near, far) = connection();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let hello = captured_client_hello("NORMAL:-VERS-ALL:+VERS-TLS1.2");
    // Alerts of the level "warning", no_renegotiation: legal, and of no consequence.
    let flood = thread::spawn(move || {
        let alerts = [21, 3, 3, 0, 2, 1, 100].repeat(1000);
        let mut near = near;
        near.write_all(&hello).unwrap();
        while !stopped.load(std::sync::atomic::Ordering::SeqCst) && near.write_all(&alerts).is_ok() {}
    });
    let start = Instant::now();
    let error = accept(far, &expand_leaf, false, Some(start + Duration::from_millis(400))).err().unwrap();
    let took = start.elapsed();
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    flood.join().unwrap();
    // GnuTLS 3.7.9 refuses alerts in this place by itself; where a version does not, the deadline ends it.
    assert!(took < Duration::from_secs(3) * slower::slower(), "{took:?} {error}");
}

#[test]
fn a_peer_that_drips_its_handshake_cannot_put_off_its_end() {
    let (mut near, far) = connection();
    let hello = captured_client_hello("NORMAL");
    let drip = thread::spawn(move || {
        for byte in hello {
            if near.write_all(&[byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    });
    let start = Instant::now();
    let error = accept(far, &expand_leaf, false, Some(start + Duration::from_millis(400))).err().unwrap();
    assert_eq!(error.to_string(), "(gnutls_handshake): timed out");
    assert!(start.elapsed() < Duration::from_secs(3) * slower::slower());
    drip.join().unwrap();
}

/// The first record that a client of ours sends.
fn captured_client_hello(ciphers: &'static str) -> Vec<u8> {
    let (near, mut far) = connection();
    let client = client_of(near, ciphers);
    let mut header = [0; 5];
    far.read_exact(&mut header).unwrap();
    let mut hello = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    far.read_exact(&mut hello).unwrap();
    drop(far);
    assert!(client.join().unwrap().is_none());
    [&header[..], &hello].concat()
}

#[test]
fn what_follows_close_notify_in_clear_is_never_read() {
    let (mut client, mut server) = session();
    let mut raw = client.socket().try_clone().unwrap();
    client.shutdown().unwrap();
    raw.write_all(b"MAIL FROM:<a@b>\r\n").unwrap();
    let mut buffer = [0; 64];
    for _ in 0..3 {
        assert_eq!(server.read(&mut buffer).unwrap(), 0);
    }
    assert_eq!((server.pending(), buffer), (0, [0; 64]));
}

#[test]
fn a_silent_peer_ends_the_handshake_at_its_deadline() {
    let (_silent, far) = connection();
    let deadline = Some(Instant::now() + Duration::from_millis(150));
    let error = accept(far, &expand_leaf, false, deadline).err().unwrap();
    assert_eq!(error.to_string(), "(gnutls_handshake): timed out");
}

#[test]
fn a_peer_that_hangs_up_in_the_handshake_is_told_in_exims_words() {
    let (near, far) = connection();
    drop(near);
    let error = accept(far, &expand_leaf, false, soon()).err().unwrap();
    assert_eq!(error.to_string(), "(gnutls_handshake): The TLS connection was non-properly terminated.");
}

#[test]
fn what_was_decrypted_but_not_read_is_seen() {
    let (mut client, mut server) = session();
    client.write_all(b"NOOP\r\nQUIT\r\n").unwrap();
    let mut four = [0; 4];
    server.read_exact(&mut four).unwrap();
    assert_eq!(server.pending(), 8);
}

#[test]
fn a_panic_in_an_expansion_does_not_cross_c_and_goes_on_in_rust() {
    let (near, far) = connection();
    let client = client(near);
    let expand: Expand<'_> = &|name, sni| match sni {
        Some(_) if name == "tls_certificate" => panic!("a bug in an expansion"),
        _ => expand_leaf(name, sni),
    };
    let result = catch_unwind(AssertUnwindSafe(|| accept(far, expand, true, soon()).is_ok()));
    let panic = result.unwrap_err();
    assert_eq!(*panic.downcast::<&str>().unwrap(), "a bug in an expansion");
    assert!(client.join().unwrap().is_none());
}

#[cfg(ocsp_stapling)]
#[test]
fn gnutls_cli_trusts_the_server_and_its_staple() {
    use std::process::{Command, Stdio};
    let directory = tempfile::tempdir().unwrap();
    let (proof, saved) = (directory.path().join("proof"), directory.path().join("saved"));
    let der = ca().proof(&ca::good("leaf"));
    ca().put(&proof, &der);
    let path = |file: &str| ca().path(file).to_str().unwrap().to_owned();
    let options = stapling_server::Options::from([
        ("tls_certificate", path("leaf-chain.pem")),
        ("tls_privatekey", path("leaf.key")),
        ("tls_ocsp_file", proof.to_str().unwrap().to_owned()),
    ]);
    let server = stapling_server::Server::start(options, ClientCertificate::Ignored);
    let output = Command::new("gnutls-cli")
        .args([
            "--x509cafile",
            &path("root.pem"),
            "--save-ocsp",
            saved.to_str().unwrap(),
            "--verify-hostname",
        ])
        .args(["mx.test", "--port", &server.address.port().to_string(), "127.0.0.1"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("The certificate is trusted"), "{said}");
    assert!(std::fs::read(saved).unwrap() == der, "byte for byte");
}
