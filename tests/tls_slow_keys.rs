//! A peer whose certificates have keys that are made to be slow: one signature takes a second or two, since the exponent
//! has as many bits as the modulus. GnuTLS checks one of them; our search for issuers and our check of proofs must not
//! check dozens.

#[path = "support/ca.rs"]
mod ca;

use ca::{SEQUENCE, bits, ca, der, octets, time};
use oxim::tls::gnutls::x509::Certificate;
use oxim::tls::{ClientRequest, ClientSettings, ClientTerms, ClientTls, Verify};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// sha256WithRSAEncryption, NULL
const RSA_SHA256: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0];
/// rsaEncryption, NULL
const RSA: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];

/// A number of 16384 bits, another one for each seed: odd, and below `top` in its first byte.
fn number(seed: u8, top: u8) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        (0..2048u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed).collect();
    (bytes[0], bytes[2047]) = (top, bytes[2047] | 1);
    bytes
}

fn name(text: &str) -> Vec<u8> {
    der(SEQUENCE, &der(0x31, &der(SEQUENCE, &[&[6, 3, 0x55, 4, 3][..], &der(12, text.as_bytes())].concat())))
}

/// A certificate by "slow", with a signature that nobody made.
fn certificate(subject: &str, seed: u8, key_info: &[u8], extension: &[u8]) -> Vec<u8> {
    let algorithm = der(SEQUENCE, RSA_SHA256);
    let validity = der(SEQUENCE, &[time(0x18, -86_400), time(0x18, 86_400)].concat());
    let body = [
        der(0xa0, &[2, 1, 2]),
        der(2, &[1, seed]),
        algorithm.clone(),
        name("slow"),
        validity,
        name(subject),
        key_info.to_vec(),
        der(0xa3, &der(SEQUENCE, &der(SEQUENCE, extension))),
    ];
    der(SEQUENCE, &[der(SEQUENCE, &body.concat()), algorithm, bits(&number(seed, 0x3f))].concat())
}

/// An authority with a slow key.
fn authority(seed: u8) -> Vec<u8> {
    let integer = |top| der(2, &[&[0][..], &number(seed, top)].concat());
    let key = der(SEQUENCE, &[integer(0xc1), integer(0xb1)].concat());
    let key_info = der(SEQUENCE, &[der(SEQUENCE, RSA), bits(&key)].concat());
    let constraints = [&[6, 3, 0x55, 0x1d, 0x13][..], &octets(&[0x30, 3, 1, 1, 0xff])].concat();
    certificate("slow", seed, &key_info, &constraints)
}

/// A leaf whose key is that of the tests' own.
fn leaf() -> Vec<u8> {
    let der = ca().certificate("leaf").public_key_info().unwrap();
    let names = [
        &[6, 3, 0x55, 0x1d, 0x11][..],
        &octets(&[0x30, 9, 0x82, 7, b'm', b'x', b'.', b't', b'e', b's', b't']),
    ];
    certificate("leaf", 1, &der, &names.concat())
}

/// What this thread has had of the processor.
fn spent() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_chain_of_slow_keys_costs_no_more_than_gnutls_itself_takes() {
    let pem = |certificates: &[Vec<u8>]| {
        use base64::Engine;
        let one = |der: &Vec<u8>| {
            let text = base64::engine::general_purpose::STANDARD.encode(der);
            let lines: Vec<&str> =
                text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
            format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
        };
        certificates.iter().map(one).collect::<String>()
    };
    let authorities: Vec<Vec<u8>> = (2..17).map(authority).collect();
    let first = Certificate::from_der(&leaf()).unwrap();
    let begin = spent();
    for der in &authorities {
        let authority = Certificate::from_der(der).unwrap();
        assert!(first.names_as_issuer(&authority) && !first.is_signed_by(&authority));
    }
    assert!(spent() - begin < Duration::from_millis(300), "{:?}", spent() - begin);

    std::fs::write(ca().path("slow.pem"), pem(&[leaf()])).unwrap();
    std::fs::write(ca().path("slow-rest.pem"), pem(&authorities)).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Command::new("openssl")
        .args(["s_server", "-quiet", "-cert", "slow.pem", "-key", "leaf.key", "-cert_chain", "slow-rest.pem"])
        .args(["-accept", &format!("127.0.0.1:{port}")])
        .current_dir(ca().path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _server = Server(server);
    let end = Instant::now() + Duration::from_secs(20);
    let socket = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(socket) => break socket,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let trust = ca().path("root.pem").to_str().unwrap().into();
    let settings = ClientSettings { verify_certificates: Some(trust), ..ClientSettings::default() };
    let request = ClientRequest {
        settings: &settings,
        ciphers: None,
        sni: None,
        verify: Verify::Try,
        host_name: None,
        request_ocsp: true,
        require_ocsp: false,
        require_status: false,
        registry: None,
        resume: false,
        deadline: Some(Instant::now() + Duration::from_secs(60)),
        on_connect: true,
        now: SystemTime::now(),
        notify: &|_| {},
        terms: ClientTerms::default(),
    };
    let begin = spent();
    let (_, info) = ClientTls::new().connect(socket, &request).unwrap();
    let took = spent() - begin;
    assert!(!info.certificate_verified);
    // One signature takes GnuTLS half a second or more; all fifteen took ten or more.
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[cfg(ocsp_stapling)]
#[test]
fn a_proof_with_slow_keys_inside_is_not_signed_by_anybody() {
    use oxim::ocsp::{Proof, Subject};
    let good = ca().proof(&ca::good("leaf"));
    let subject = || Subject::new(&ca().certificate("leaf"), ca().certificate("inter")).unwrap();
    assert!(Proof::check(&good, &subject(), SystemTime::now()).is_ok());
    let with = |inside: &[Vec<u8>]| ca().proof_with(&ca::good("leaf"), &inside.concat());
    let inter = ca().certificate("inter").der().unwrap();
    assert!(Proof::check(&with(std::slice::from_ref(&inter)), &subject(), SystemTime::now()).is_ok());
    for inside in [vec![authority(2)], vec![inter.clone(), authority(2)], vec![inter; 17]] {
        let begin = spent();
        let refused =
            Proof::check(&with(&inside), &subject(), SystemTime::now()).err().map(|unfit| unfit.to_string());
        assert!(refused.is_some(), "{refused:?}");
        assert!(spent() - begin < Duration::from_millis(300), "{:?}", spent() - begin);
    }
}
