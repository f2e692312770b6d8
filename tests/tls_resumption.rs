//! Sessions that are gone on with (row C6): what was found good stays known, and never serves another requirement.
#![cfg(ocsp_stapling)]

#[path = "support/ca.rs"]
mod ca;
#[path = "support/chain_stapler.rs"]
mod chain_stapler;
#[path = "support/stapling_server.rs"]
mod stapling_server;

use ca::{DAY, ProofSpec, Status, ca, good};
use chain_stapler::{Stapler, staple_chain};
use oxim::mail::envelope::{OcspState, TlsInfo};
use oxim::tls::gnutls::session::ClientCertificate;
use oxim::tls::{ClientRequest, ClientSettings, ClientTls, Verify};
use stapling_server::{Options, Server, soon};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime};

const VERSIONS: [&str; 2] = ["NORMAL:-VERS-ALL:+VERS-TLS1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.3"];
const HOUR: Duration = Duration::from_secs(3600);

fn server(staple: Option<Vec<u8>>) -> Stapler {
    staple_chain(&ca().read("leaf-chain.pem"), &ca().read("leaf.key"), &[staple, None])
}

#[derive(Clone)]
struct Wish {
    version: &'static str,
    require_ocsp: bool,
    resume: bool,
    after: Duration,
    settings: ClientSettings,
}

fn wish(version: &'static str) -> Wish {
    let trust = ca().path("root.pem").to_str().unwrap().into();
    let settings = ClientSettings { verify_certificates: Some(trust), ..ClientSettings::default() };
    Wish { version, require_ocsp: true, resume: true, after: Duration::ZERO, settings }
}

fn connect(tls: &ClientTls, address: SocketAddr, wish: &Wish) -> Result<TlsInfo, String> {
    let request = ClientRequest {
        settings: &wish.settings,
        ciphers: Some(wish.version.as_bytes()),
        sni: Some(b"mx.test"),
        verify: Verify::Require,
        host_name: Some(b"mx.test"),
        request_ocsp: true,
        require_ocsp: wish.require_ocsp,
        require_status: false,
        registry: None,
        resume: wish.resume,
        deadline: soon(),
        on_connect: true,
        now: SystemTime::now() + wish.after,
        notify: &|_| {},
        terms: oxim::tls::ClientTerms::default(),
    };
    let (mut stream, info) =
        tls.connect(TcpStream::connect(address).unwrap(), &request).map_err(|error| error.to_string())?;
    let count = stream.read(&mut [0; 64]).unwrap();
    assert_eq!(count, 11);
    Ok(info)
}

#[test]
fn a_resumed_session_keeps_its_verdict_in_both_versions() {
    for version in VERSIONS {
        let (server, tls) = (server(Some(ca().proof(&good("leaf")))), ClientTls::new());
        let first = connect(&tls, server.address, &wish(version)).unwrap();
        assert!(!first.resumed && first.ocsp == OcspState::Verified, "{version}");
        for _ in 0..3 {
            let again = connect(&tls, server.address, &wish(version)).unwrap();
            assert_eq!((again.resumed, again.ocsp), (true, OcspState::Verified), "{version}");
            assert!(again.certificate_verified && again.peer_certificate == first.peer_certificate);
        }
    }
}

#[test]
fn without_the_option_nothing_is_kept() {
    for version in VERSIONS {
        let (server, tls) = (server(Some(ca().proof(&good("leaf")))), ClientTls::new());
        let never = Wish { resume: false, ..wish(version) };
        connect(&tls, server.address, &never).unwrap();
        assert!(!connect(&tls, server.address, &wish(version)).unwrap().resumed);
        assert!(!connect(&tls, server.address, &never).unwrap().resumed);
    }
}

#[test]
fn past_the_end_of_its_proof_a_whole_handshake_is_made() {
    for version in VERSIONS {
        let brief = ProofSpec { next_update: Some(1800), ..good("leaf") };
        let (server, tls) = (server(Some(ca().proof(&brief))), ClientTls::new());
        connect(&tls, server.address, &wish(version)).unwrap();
        // The whole handshake meets the same proof, which has ended by then.
        let late = Wish { after: HOUR / 2 + Duration::from_secs(60), ..wish(version) };
        let error = connect(&tls, server.address, &late).unwrap_err();
        assert_eq!(error, "(certificate status check failed)", "{version}");
        // Without a requirement that is no failure, and shows that nothing was resumed.
        let easy = Wish { require_ocsp: false, ..wish(version) };
        connect(&tls, server.address, &easy).unwrap();
        assert!(connect(&tls, server.address, &easy).unwrap().resumed);
        let late = connect(&tls, server.address, &Wish { after: late.after, ..easy }).unwrap();
        assert_eq!((late.resumed, late.ocsp), (false, OcspState::Failed), "{version}");
    }
}

#[test]
fn a_requirement_is_never_met_by_the_session_of_a_lesser_one() {
    for version in VERSIONS {
        let (server, tls) = (server(None), ClientTls::new());
        let easy = Wish { require_ocsp: false, ..wish(version) };
        connect(&tls, server.address, &easy).unwrap();
        assert!(connect(&tls, server.address, &easy).unwrap().resumed);
        let error = connect(&tls, server.address, &wish(version)).unwrap_err();
        assert_eq!(error, "(certificate status check failed)");
        // Nor does other trust go on with it.
        let both = ca().path("both-roots.pem").to_str().unwrap().into();
        let settings = ClientSettings { verify_certificates: Some(both), ..easy.settings.clone() };
        assert!(!connect(&tls, server.address, &Wish { settings, ..easy.clone() }).unwrap().resumed);
        assert!(connect(&tls, server.address, &easy).unwrap().resumed);
    }
}

#[test]
fn a_refused_session_is_not_kept() {
    for version in VERSIONS {
        let revoked = ProofSpec { status: Status::Revoked, next_update: Some(DAY), ..good("leaf") };
        let (server, tls) = (server(Some(ca().proof(&revoked))), ClientTls::new());
        for _ in 0..2 {
            let error = connect(&tls, server.address, &wish(version)).unwrap_err();
            assert_eq!(error, "(certificate verification failed): certificate revoked");
        }
    }
}

#[test]
fn replaced_trust_ends_what_was_verified_with_it() {
    for version in VERSIONS {
        let (server, tls) = (server(Some(ca().proof(&good("leaf")))), ClientTls::new());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), ca().read("root.pem")).unwrap();
        let trust = Some(file.path().to_str().unwrap().into());
        let settings = ClientSettings { verify_certificates: trust, ..ClientSettings::default() };
        let wish = Wish { settings, ..wish(version) };
        connect(&tls, server.address, &wish).unwrap();
        assert!(connect(&tls, server.address, &wish).unwrap().resumed);
        ca().put(file.path(), &ca().read("rogue.pem"));
        let end = soon().unwrap();
        while connect(&tls, server.address, &wish).is_ok() {
            assert!(std::time::Instant::now() < end);
        }
    }
}

#[test]
fn oxims_server_resumes_only_where_it_offers_it_and_keeps_the_clients_verdict() {
    let path = |file: &str| ca().path(file).to_str().unwrap().to_owned();
    for (offered, wanted) in [(true, ClientCertificate::Requested), (false, ClientCertificate::Requested)] {
        for version in VERSIONS {
            let mut options = Options::from([
                ("tls_certificate", path("leaf-chain.pem")),
                ("tls_privatekey", path("leaf.key")),
                ("tls_verify_certificates", path("root.pem")),
            ]);
            if offered {
                options.insert("tls_resumption_hosts", "*".to_owned());
            }
            let (server, tls) = (Server::start(options, wanted), ClientTls::new());
            let own = |file| Some(path(file).into());
            let mut wish = Wish { require_ocsp: false, ..wish(version) };
            wish.settings.certificate = own("leaf-chain.pem");
            wish.settings.private_key = own("leaf.key");
            for count in 1..=3 {
                let info = connect(&tls, server.address, &wish).unwrap();
                assert_eq!(info.resumed, offered && count > 1, "{version} {count}");
                let seen = server.session(count).unwrap();
                assert_eq!((seen.resumed, seen.certificate_verified), (info.resumed, true), "{version}");
                assert!(!seen.peer_certificate.is_empty());
            }
        }
    }
}
