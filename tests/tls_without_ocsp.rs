//! TLS where certificate status is not compiled in (DISABLE_OCSP, or a GnuTLS before 3.1.3): it works, and nothing
//! is asked, stapled or judged. `vendor-check/run behaviour` runs this; a usual build has no test here.
#![cfg(not(ocsp_stapling))]

#[path = "support/ca.rs"]
mod ca;
#[path = "support/stapling_server.rs"]
mod stapling_server;

use ca::{ca, good};
use oxim::mail::envelope::{OcspState, TlsInfo};
use oxim::tls::gnutls::session::ClientCertificate;
use oxim::tls::{ClientRequest, ClientSettings, ClientTls, Verify};
use stapling_server::{Options, Server, soon};
use std::io::Read;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::SystemTime;

fn server(certificate: &str) -> Server {
    let path = |file: &str| ca().path(file).to_str().unwrap().to_owned();
    ca().put(&ca().path("proof"), &ca().proof(&good("leaf")));
    let options = Options::from([
        ("tls_certificate", path(&format!("{certificate}-chain.pem"))),
        ("tls_privatekey", path(&format!("{certificate}.key"))),
        ("tls_ocsp_file", path("proof")),
    ]);
    Server::start(options, ClientCertificate::Ignored)
}

fn client(server: &Server, require_ocsp: bool) -> Result<TlsInfo, String> {
    let trust = ca().path("root.pem").to_str().unwrap().into();
    let settings = ClientSettings { verify_certificates: Some(trust), ..ClientSettings::default() };
    let request = ClientRequest {
        settings: &settings,
        ciphers: None,
        sni: None,
        verify: Verify::Require,
        host_name: Some(b"mx.test"),
        request_ocsp: false,
        require_ocsp,
        require_status: false,
        registry: None,
        resume: false,
        deadline: soon(),
        on_connect: true,
        now: SystemTime::now(),
        notify: &|_| {},
        terms: oxim::tls::ClientTerms::default(),
    };
    let socket = TcpStream::connect(server.address).unwrap();
    let (mut stream, info) = ClientTls::new().connect(socket, &request).map_err(|error| error.to_string())?;
    stream.read_exact(&mut [0; 11]).unwrap();
    Ok(info)
}

#[test]
fn a_certificate_is_verified_and_its_status_is_never_asked() {
    for certificate in ["leaf", "staple"] {
        let server = server(certificate);
        let info = client(&server, false).unwrap();
        assert_eq!((info.ocsp, info.certificate_verified), (OcspState::NotRequested, true));
        assert_eq!(server.session(1).unwrap().ocsp, OcspState::NotRequested);
        // That this program cannot keep the promise of a must-staple certificate is worth a line.
        assert_eq!(server.told().len(), usize::from(certificate == "staple"), "{:?}", server.told());
    }
}

#[test]
fn nothing_is_stapled_to_who_asks() {
    let server = server("leaf");
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &server.address.to_string(), "-status"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("OCSP response: no response sent"), "{said}");
}

#[test]
fn a_caller_that_requires_a_proof_all_the_same_gets_no_session() {
    let error = client(&server("leaf"), true).unwrap_err();
    assert_eq!(error, "(certificate status check failed)");
}
