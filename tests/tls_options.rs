//! Options of TLS that no recording of Exim 4.96 shows: it does not know them, or does something else.

#[path = "support/ca.rs"]
mod ca;
#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/smtp_client.rs"]
mod smtp_client;

use ca::ca;
use daemon::{Daemon, Place, Program, have_tool};
use oxim::mail::envelope::TlsInfo;
use oxim::tls::{ClientRequest, ClientSettings, ClientTerms, ClientTls, Verify};
use smtp_client::Smtp;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// A daemon with a certificate of the tests' authority, and these options.
fn daemon(options: &str) -> Daemon {
    let text = format!(
        "acl_smtp_rcpt = accept\ntls_advertise_hosts = *\ntls_certificate = @DIR@/chain.pem\n\
         tls_privatekey = @DIR@/key.pem\n{options}"
    );
    let place = Place::new(Program::Oxim, &text);
    for (from, to) in [("leaf-chain.pem", "chain.pem"), ("leaf.key", "key.pem")] {
        std::fs::write(place.path(to), ca().read(from)).expect("writing");
    }
    place.daemon()
}

/// A handshake from the first byte, on these terms.
fn shake(port: u16, terms: ClientTerms) -> Result<TlsInfo, String> {
    let settings = ClientSettings::default();
    let request = ClientRequest {
        settings: &settings,
        ciphers: None,
        sni: None,
        verify: Verify::No,
        host_name: None,
        request_ocsp: false,
        require_ocsp: false,
        require_status: false,
        registry: None,
        resume: false,
        deadline: Some(Instant::now() + Duration::from_secs(20)),
        on_connect: true,
        now: SystemTime::now(),
        notify: &|_| {},
        terms,
    };
    let socket = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    ClientTls::new().connect(socket, &request).map(|(_, info)| info).map_err(|error| error.to_string())
}

#[test]
fn a_protocol_name_that_is_required_has_to_be_agreed_on_even_if_none_is_offered() {
    let server = on_connect_daemon("");
    let terms = |names: &[&str]| ClientTerms {
        protocols: names.iter().map(|name| (*name).into()).collect(),
        require_protocol: true,
        ..ClientTerms::default()
    };
    shake(server.port, terms(&["smtp"])).unwrap();
    let error = shake(server.port, terms(&[])).unwrap_err();
    assert_eq!(error, "(handshake): ALPN required but not negotiated");
    shake(server.port, ClientTerms::default()).unwrap();
}

/// TLS comes first.
fn on_connect_daemon(options: &str) -> Daemon {
    daemon(&format!("tls_on_connect_ports = @PORT@\n{options}"))
}

#[test]
fn in_compatibility_mode_a_client_takes_a_certificate_that_is_made_for_something_else() {
    if !have_tool("openssl") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 2 -subj /CN=odd \
                  -addext keyUsage=critical,keyEncipherment 2>/dev/null";
    let made = Command::new("sh").args(["-c", script]).current_dir(&directory).status().unwrap();
    assert!(made.success());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = Command::new("openssl")
        .args(["s_server", "-quiet", "-tls1_2", "-cert", "cert", "-key", "key", "-accept"])
        .arg(format!("127.0.0.1:{port}"))
        .current_dir(&directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < end, "openssl does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    let smtps = |name: &str, mode: &str| {
        format!(
            "{name}:\n  driver = smtp\n  protocol = smtps\n  command_timeout = 1s\n  hosts_request_ocsp =\n  \
             tls_verify_certificates =\n  gnutls_compat_mode = {mode}\n"
        )
    };
    let sender = daemon(&format!(
        "disable_ipv6\nbegin routers\nall:\n  driver = manualroute\n  route_list = strict.test 127.0.0.1::{port} byname ; * localhost::{port} byname\n  self = send\n  \
         transport = ${{if eq{{$domain}}{{strict.test}}{{strict}}{{compatible}}}}\nbegin transports\n{}{}\
         begin retry\n* * F,2h,15m\n",
        smtps("strict", "false"),
        smtps("compatible", "true"),
    ));
    let outcome = |domain: &str| {
        let mut smtp = Smtp::connect(sender.port);
        let recipient = format!("RCPT TO:<x@{domain}>\r\n");
        let lines = ["HELO a.test\r\n", "MAIL FROM:<>\r\n", &recipient, "DATA\r\n", "\r\n.\r\n"];
        for line in lines {
            assert!(smtp.say(line).starts_with(['2', '3']), "{line}");
        }
        let log = sender.place.wait_for_log(&format!(" == x@{domain} "));
        log.lines().find(|line| line.contains(&format!(" == x@{domain} "))).unwrap().to_owned()
    };
    let strict = outcome("strict.test");
    let compatible = outcome("compatible.test");
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(strict.contains("Key usage violation in certificate has been detected."), "{strict}");
    // openssl shook hands, and speaks no SMTP
    assert!(compatible.contains("SMTP timeout after initial connection"), "{compatible}");
}

/// What the server sends on its own after the first flight of a client, whose second one is held back: the number of
/// encrypted records. Then the client may go on; what it prints comes back too.
fn records_before_the_client_finishes(port: u16) -> (usize, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let between = listener.local_addr().unwrap().port();
    let command = format!(
        "(sleep 3; printf 'QUIT\\r\\n'; sleep 1) | timeout 20 openssl s_client -quiet -tls1_3 \
         -connect 127.0.0.1:{between} 2>/dev/null"
    );
    let client = Command::new("sh")
        .args(["-c", &command])
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let (mut near, _) = listener.accept().unwrap();
    let mut far = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut buffer = [0; 16 * 1024];
    let size = near.read(&mut buffer).unwrap();
    far.write_all(&buffer[..size]).unwrap();
    // Without more from the client the server falls silent; how soon says nothing, so a second is given.
    far.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut sent = Vec::new();
    while let Ok(size @ 1..) = far.read(&mut buffer) {
        sent.extend_from_slice(&buffer[..size]);
    }
    far.set_read_timeout(None).unwrap();
    near.write_all(&sent).unwrap();
    let (mut from_near, mut to_far) = (near.try_clone().unwrap(), far.try_clone().unwrap());
    let upward = std::thread::spawn(move || std::io::copy(&mut from_near, &mut to_far));
    let _ = std::io::copy(&mut far, &mut near);
    let _ = near.shutdown(std::net::Shutdown::Both);
    let output = client.wait_with_output().unwrap();
    let _ = upward.join();
    (encrypted_records(&sent), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn encrypted_records(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let [kind, _, _, high, low, rest @ ..] = bytes {
        count += usize::from(*kind == 23);
        bytes = rest.get(usize::from(*high) << 8 | usize::from(*low)..).unwrap_or_default();
    }
    count
}

#[test]
fn the_banner_comes_early_where_tls_early_banner_hosts_says_so() {
    if !have_tool("openssl") {
        return;
    }
    let usual = on_connect_daemon("");
    let (handshake, heard) = records_before_the_client_finishes(usual.port);
    assert!(heard.starts_with("220 ") && heard.contains("\n221 "), "{heard}");
    let early = on_connect_daemon("tls_early_banner_hosts = *\n");
    let (with_banner, heard) = records_before_the_client_finishes(early.port);
    assert!(heard.starts_with("220 ") && heard.contains("\n221 "), "{heard}");
    assert_eq!(with_banner, handshake + 1);
    // not where the client's certificate matters
    let asking = on_connect_daemon("tls_early_banner_hosts = *\ntls_try_verify_hosts = *\n");
    let (asked, heard) = records_before_the_client_finishes(asking.port);
    assert!(heard.starts_with("220 ") && heard.contains("\n221 "), "{heard}");
    // the request for the certificate is a record of the handshake
    assert!(asked <= handshake + 1, "{asked} of {handshake}");
}
