//! `ocsp_fetch`, the real program, against a responder that does as it is told, and against openssl's own.
#![cfg(ocsp_stapling)]

#[path = "support/ca.rs"]
mod ca;
#[path = "support/responder.rs"]
mod responder;

use ca::{Ca, DAY, ProofSpec, Status, ca, good, try_later, unauthorized};
use responder::{Mode, Responder};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

struct Bench {
    directory: tempfile::TempDir,
    responder: Responder,
}

impl Bench {
    fn new(mode: Mode) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_oxim"), directory.path().join("ocsp_fetch")).unwrap();
        Self { directory, responder: Responder::start(mode) }
    }
    fn out(&self) -> PathBuf {
        self.directory.path().join("proof.der")
    }
    fn command(&self) -> Command {
        let mut command = Command::new(self.directory.path().join("ocsp_fetch"));
        command.env_remove("http_proxy").arg("-i").arg(ca().path("inter.pem")).arg("-o").arg(self.out());
        command
    }
    /// Asks about `leaf`.
    fn fetch(&self, more: &[&str]) -> Output {
        let mut command = self.command();
        command.arg("-c").arg(ca().path("leaf-chain.pem")).args(["-u", &self.responder.url()]).args(more);
        command.output().unwrap()
    }
    /// It fails with these words, and the old file stays as it is.
    fn fails(&self, because: &str) {
        let before = fs::read(self.out()).ok();
        let output = self.fetch(&["-f"]);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.starts_with("ocsp_fetch: ") && words.contains(because), "{words}");
        assert_eq!(fs::read(self.out()).ok(), before);
        assert!(!self.directory.path().join("proof.der.tmp").exists());
    }
}

fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn age_ahead(path: &std::path::Path) -> Duration {
    fs::metadata(path).unwrap().modified().unwrap().duration_since(SystemTime::now()).unwrap()
}

#[test]
fn a_good_answer_is_written_as_it_came_and_is_not_fetched_again_before_it_is_due() {
    let proof = ca().proof(&ProofSpec { next_update: Some(10 * DAY), ..good("leaf") });
    let bench = Bench::new(Mode::Answer(proof.clone()));
    let words = succeeds(&bench.fetch(&["-v", "-a", ca().path("root.pem").to_str().unwrap()]));
    assert!(words.contains("asking http://127.0.0.1:") && words.contains("due again at"), "{words}");
    assert_eq!(fs::read(bench.out()).unwrap(), proof);
    // ten per cent of ten days before its end
    let ahead = age_ahead(&bench.out()).as_secs();
    assert!((9 * 86_400 - 60..=9 * 86_400).contains(&ahead), "{ahead}");
    assert!(succeeds(&bench.fetch(&["-v"])).contains("not due yet"));
    assert_eq!(bench.responder.asked(), 1);
    succeeds(&bench.fetch(&["-f", "-m", "50"]));
    assert_eq!(bench.responder.asked(), 2);
    assert!(age_ahead(&bench.out()).as_secs() <= 5 * 86_400);
    // its time has passed
    File::options().write(true).open(bench.out()).unwrap().set_modified(SystemTime::now()).unwrap();
    succeeds(&bench.fetch(&[]));
    assert_eq!(bench.responder.asked(), 3);
}

#[test]
fn what_lies_there_is_due_at_once_if_it_is_no_proof_for_the_certificate() {
    let bench = Bench::new(Mode::Answer(ca().proof(&good("leaf"))));
    let long_ahead = SystemTime::now() + Duration::from_secs(20 * 86_400);
    // the certificate was renewed; a file that was spoilt; a time of change that outlived the proof
    let others = [
        ca().proof(&ProofSpec { next_update: Some(19 * DAY), ..good("other") }),
        b"nonsense".to_vec(),
        Vec::new(),
        vec![0x30; 100_000],
        ca().proof(&ProofSpec { next_update: Some(-60), ..good("leaf") }),
    ];
    for (number, other) in others.iter().enumerate() {
        fs::write(bench.out(), other).unwrap();
        File::options().write(true).open(bench.out()).unwrap().set_modified(long_ahead).unwrap();
        let words = succeeds(&bench.fetch(&["-v"]));
        assert!(words.contains("proof.der is of no use: ") && words.contains("due again at"), "{words}");
        assert_eq!(bench.responder.asked(), number + 1);
        assert!(succeeds(&bench.fetch(&["-v"])).contains("not due yet"));
    }
    assert_eq!(bench.responder.asked(), others.len());
}

#[test]
fn letters_may_stand_together_and_a_value_at_its_letter() {
    let bench = Bench::new(Mode::Answer(ca().proof(&good("leaf"))));
    succeeds(&bench.fetch(&["-vm50"]));
    let words = succeeds(&bench.fetch(&["-fv"]));
    assert!(words.contains("asking ") && bench.responder.asked() == 2, "{words}");
}

#[test]
fn a_full_output_does_not_stop_it() {
    let bench = Bench::new(Mode::Answer(ca().proof(&good("leaf"))));
    let mut command = bench.command();
    command.arg("-c").arg(ca().path("leaf.pem")).args(["-v", "-u", &bench.responder.url()]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = command.stdout(full).output().unwrap();
    assert_eq!((output.status.code(), bench.out().exists()), (Some(0), true), "{output:?}");
}

#[test]
fn the_proxy_of_the_environment_is_asked_for_the_whole_url() {
    let bench = Bench::new(Mode::Answer(ca().proof(&good("leaf"))));
    let mut command = bench.command();
    command.env("http_proxy", bench.responder.url());
    succeeds(
        &command
            .arg("-c")
            .arg(ca().path("leaf.pem"))
            .args(["-u", "http://nowhere.invalid/x"])
            .output()
            .unwrap(),
    );
    let question = bench.responder.questions().remove(0);
    assert!(
        question.starts_with(b"GET http://nowhere.invalid/x/M"),
        "{}",
        String::from_utf8_lossy(&question)
    );
}

#[test]
fn a_proof_by_a_delegate_is_due_before_the_delegates_end() {
    // `brief` lives one day
    let spec =
        ProofSpec { signer: "brief", inside: Some("brief"), next_update: Some(10 * DAY), ..good("leaf") };
    let bench = Bench::new(Mode::Answer(ca().proof(&spec)));
    succeeds(&bench.fetch(&[]));
    assert!(age_ahead(&bench.out()).as_secs() <= 86_400 * 9 / 10);
}

#[test]
fn a_proof_by_a_delegate_and_one_in_chunks_are_taken() {
    let spec = ProofSpec { signer: "delegate", inside: Some("delegate"), ..good("leaf") };
    let proof = ca().proof(&spec);
    let bench = Bench::new(Mode::Chunked(proof.clone()));
    succeeds(&bench.fetch(&[]));
    assert_eq!(fs::read(bench.out()).unwrap(), proof);
}

#[test]
fn mode_and_place_of_the_old_file_are_kept() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new(Mode::Answer(ca().proof(&good("leaf"))));
    fs::write(bench.out(), "old").unwrap();
    fs::set_permissions(bench.out(), PermissionsExt::from_mode(0o640)).unwrap();
    succeeds(&bench.fetch(&["-f"]));
    assert_eq!(fs::metadata(bench.out()).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn whatever_the_responder_does_the_old_proof_stays_and_the_reason_is_told() {
    let bench = Bench::new(Mode::Answer(ca().proof(&good("leaf"))));
    succeeds(&bench.fetch(&[]));
    let spec = good("leaf");
    let answers = [
        (ProofSpec { status: Status::Revoked, ..spec.clone() }, "the certificate is revoked (since "),
        (ProofSpec { status: Status::Unknown, ..spec.clone() }, "status unknown"),
        (ProofSpec { next_update: Some(-1), ..spec.clone() }, "expired at "),
        (ProofSpec { next_update: None, ..spec.clone() }, "no nextUpdate"),
        (ProofSpec { this_update: DAY, next_update: Some(2 * DAY), ..spec.clone() }, "not valid before "),
        (ProofSpec { broken: true, ..spec.clone() }, "bad signature"),
        (ProofSpec { subject: "other", ..spec.clone() }, "for another certificate"),
        (ProofSpec { signer: "rogue", inside: Some("rogue"), ..spec.clone() }, "bad signature"),
        (ProofSpec { signer: "powerless", inside: Some("powerless"), ..spec }, "bad signature"),
    ];
    for (spec, because) in answers {
        bench.responder.set(Mode::Answer(ca().proof(&spec)));
        bench.fails(because);
    }
    for (mode, because) in [
        (Mode::Answer(try_later()), "the responder answered tryLater"),
        (Mode::Answer(unauthorized()), "the responder answered unauthorized"),
        (Mode::Answer(Vec::new()), "empty"),
        (Mode::Answer(b"<html>not found</html>".to_vec()), "malformed"),
        (Mode::Status("301 Moved Permanently", "Location: http://127.0.0.1:1/"), "answered 301 Moved"),
        (Mode::Status("404 Not Found", "X: y"), "the server answered 404 Not Found"),
        (Mode::Status("503 Busy", "Retry-After: 60"), "the server answered 503 Busy"),
        (Mode::Huge, "longer than 1048576 bytes"),
        (Mode::CutShort, "in the middle of the answer"),
        (Mode::Reset, "the connection failed"),
    ] {
        bench.responder.set(mode);
        bench.fails(because);
    }
}

#[test]
fn what_is_asked_wrongly_is_refused_before_anybody_is_asked() {
    let bench = Bench::new(Mode::Answer(Vec::new()));
    let usage = bench.command().output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&usage.stderr).starts_with("ocsp_fetch: -c is missing\nusage: "));
    let leaf = ca().path("leaf.pem");
    let fails = |command: &mut Command, because: &str| {
        let output = command.output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.contains(because), "{words}");
    };
    fails(bench.command().arg("-c").arg(&leaf), "the certificate names no responder; -u names one");
    fails(bench.command().arg("-c").arg(&leaf).args(["-u", "https://h/"]), "does not begin with http://");
    fails(bench.command().args(["-c", "/nowhere", "-u", "http://h/"]), "/nowhere: No such file");
    fails(bench.command().arg("-c").arg(ca().path("rogue.pem")), "no certificate in it signed the one in");
    let chain = ca().path("rogue.pem");
    fails(bench.command().arg("-c").arg(&leaf).arg("-a").arg(chain), "stands for the issuer");
    assert_eq!(bench.responder.asked(), 0);
}

#[test]
fn the_responder_is_the_one_that_the_certificate_names() {
    let bench = Bench::new(Mode::Answer(try_later()));
    let named = issue_naming(ca(), &bench, "caIssuers;URI:http://h/x,OCSP;URI:ldap://h/,OCSP;URI:");
    let output = bench.command().arg("-c").arg(named).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("tryLater") && words.contains(&bench.responder.url()), "{words}");
    let question = bench.responder.questions().remove(0);
    assert!(question.starts_with(b"GET /M"), "{}", String::from_utf8_lossy(&question));
}

/// A certificate by `inter` that names the responder after other places.
fn issue_naming(ca: &Ca, bench: &Bench, places: &str) -> PathBuf {
    let path = |name: &str| bench.directory.path().join(name);
    fs::write(path("ext"), format!("authorityInfoAccess={places}{}\n", bench.responder.url())).unwrap();
    let openssl = |arguments: &[&str]| {
        let output =
            Command::new("openssl").args(arguments).current_dir(bench.directory.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let (inter, key, leaf) = (ca.path("inter.pem"), ca.path("inter.key"), ca.path("leaf.key"));
    openssl(&["req", "-new", "-key", leaf.to_str().unwrap(), "-subj", "/CN=aia.test", "-out", "csr"]);
    let (inter, key) = (inter.to_str().unwrap(), key.to_str().unwrap());
    openssl(&[
        "x509", "-req", "-in", "csr", "-CA", inter, "-CAkey", key, "-extfile", "ext", "-days", "9", "-out",
        "aia.pem",
    ]);
    path("aia.pem")
}

#[test]
fn openssls_responder_is_understood_and_openssl_verifies_the_file() {
    let bench = Bench::new(Mode::Silent);
    let path = |name: &str| bench.directory.path().join(name);
    let serial = Command::new("openssl")
        .args(["x509", "-noout", "-serial", "-in"])
        .arg(ca().path("leaf.pem"))
        .output();
    let serial = String::from_utf8(serial.unwrap().stdout).unwrap().trim().replace("serial=", "");
    fs::write(path("index"), format!("V\t400101000000Z\t\t{serial}\tunknown\t/CN=leaf\n")).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut openssl = Command::new("openssl")
        .args(["ocsp", "-index"])
        .arg(path("index"))
        .args(["-port", &port.to_string(), "-nmin", "60", "-nrequest", "1", "-CA"])
        .arg(ca().path("inter.pem"))
        .arg("-rsigner")
        .arg(ca().path("delegate.pem"))
        .arg("-rkey")
        .arg(ca().path("delegate.key"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let url = format!("http://127.0.0.1:{port}");
    // not a connection to see whether it listens: it would end
    let fetched = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        let mut command = bench.command();
        command.arg("-c").arg(ca().path("leaf.pem")).args(["-u", &url]);
        command.output().unwrap().status.success()
    });
    let _ = openssl.kill(); // it ends by itself after one question
    let _ = openssl.wait();
    assert!(fetched);
    let verified = Command::new("openssl")
        .args(["ocsp", "-respin"])
        .arg(bench.out())
        .arg("-issuer")
        .arg(ca().path("inter.pem"))
        .arg("-cert")
        .arg(ca().path("leaf.pem"))
        .arg("-CAfile")
        .arg(ca().path("root.pem"))
        .arg("-verify_other")
        .arg(ca().path("inter.pem"))
        .output()
        .unwrap();
    let words = [verified.stdout, verified.stderr].concat();
    let words = String::from_utf8_lossy(&words).into_owned();
    assert!(words.contains("Response verify OK") && words.contains("leaf.pem: good"), "{words}");
}
