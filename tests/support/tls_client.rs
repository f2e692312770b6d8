//! A client for tests of the server: connects as a delivery does, and tells what it saw.
#![allow(dead_code, reason = "each test binary uses its part")]

use super::ca::ca;
use super::stapling_server::{Options, Server, soon};
use oxim::mail::envelope::TlsInfo;
use oxim::tls::gnutls::session::ClientCertificate;
use oxim::tls::{ClientError, ClientRequest, ClientSettings, ClientTls, TlsStream, Verify};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::SystemTime;

pub const VERSIONS: [&str; 2] = ["NORMAL:-VERS-ALL:+VERS-TLS1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.3"];

/// Connects as a delivery does that requests a staple, reads the greeting, and hangs up.
pub fn client(address: SocketAddr, version: &str, sni: Option<&str>) -> Result<TlsInfo, ClientError> {
    client_with(address, version, sni, &trusting(), true)
}

pub fn trusting() -> ClientSettings {
    let trust = ca().path("root.pem").to_str().unwrap().into();
    ClientSettings { verify_certificates: Some(trust), ..ClientSettings::default() }
}

/// Connects; the greeting was read.
pub fn open(
    address: SocketAddr,
    version: &str,
    sni: Option<&str>,
    settings: &ClientSettings,
    ask: bool,
) -> Result<(TlsStream, TlsInfo), ClientError> {
    let request = ClientRequest {
        settings,
        ciphers: Some(version.as_bytes()),
        sni: sni.map(str::as_bytes),
        verify: Verify::Try,
        host_name: None,
        request_ocsp: ask,
        require_ocsp: false,
        require_status: false,
        registry: None,
        resume: false,
        deadline: soon(),
        on_connect: true,
        now: SystemTime::now(),
        notify: &|_| {},
        terms: oxim::tls::ClientTerms::default(),
    };
    let (mut stream, info) = ClientTls::new().connect(TcpStream::connect(address).unwrap(), &request)?;
    let _ = stream.read(&mut [0; 64]);
    Ok((stream, info))
}

pub fn client_with(
    address: SocketAddr,
    version: &str,
    sni: Option<&str>,
    settings: &ClientSettings,
    ask: bool,
) -> Result<TlsInfo, ClientError> {
    open(address, version, sni, settings, ask).map(|(_, info)| info)
}

/// Settings for one of the authority's certificates, with this as the proof.
pub fn options(name: &str, proof: Option<&Path>) -> Options {
    let path = |file: String| ca().path(&file).to_str().unwrap().to_owned();
    let mut options = Options::from([
        ("tls_certificate", path(format!("{name}-chain.pem"))),
        ("tls_privatekey", path(format!("{name}.key"))),
    ]);
    if let Some(proof) = proof {
        options.insert("tls_ocsp_file", proof.to_str().unwrap().to_owned());
    }
    options
}

pub fn start(options: Options) -> Server {
    Server::start(options, ClientCertificate::Ignored)
}
