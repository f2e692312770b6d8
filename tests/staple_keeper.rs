//! The staple keeper in the running daemon: proofs that come by themselves, outlive restarts and dead responders, and
//! processes that are killed.
#![cfg(ocsp_stapling)]

#[path = "support/ca.rs"]
mod ca;
#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/kept_proofs.rs"]
mod kept_proofs;
#[path = "support/responder.rs"]
mod responder;
#[path = "support/smtp_client.rs"]
mod smtp_client;

use ca::{DAY, ProofSpec, Status, ca, good};
use daemon::{Daemon, Place, Program, is_root};
use kept_proofs::*;
use oxim::mail::envelope::OcspState;
use responder::{Mode, Responder};
use smtp_client::Smtp;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[test]
fn a_proof_is_fetched_stored_and_stapled_without_anybodys_doing_and_without_a_line_in_the_log() {
    let responder = Responder::start(Mode::Answer(ca().proof(&good("leaf"))));
    let daemon = place("leaf", &text(&responder, "")).daemon();
    wait_until_seen(&daemon, "mx.test", OcspState::Verified);
    wait_until(&daemon.place, "stored", || stored(&daemon.place, "leaf").exists());
    assert_eq!(responder.asked(), 1);
    assert_eq!(told(&daemon.place), [""; 0]);
}

#[test]
fn after_a_restart_with_the_responder_gone_the_first_client_gets_the_stored_proof() {
    let responder = Responder::start(Mode::Answer(ca().proof(&good("leaf"))));
    let daemon = place("leaf", &text(&responder, "")).daemon();
    wait_until(&daemon.place, "stored", || stored(&daemon.place, "leaf").exists());
    drop(responder);
    let daemon = daemon.restarted();
    assert_eq!(seen(daemon.port, "mx.test"), OcspState::Verified);
    // A store that somebody has filled with something else does no harm.
    fs::write(stored(&daemon.place, "leaf"), ca().proof(&good("other"))).unwrap();
    let daemon = daemon.restarted();
    assert_eq!(seen(daemon.port, "mx.test"), OcspState::NoResponse);
}

#[test]
fn a_killed_keeper_stops_neither_stapling_nor_mail_and_the_next_one_goes_on() {
    let responder = Responder::start(each(&["leaf", "other"]));
    let daemon = place("leaf", &text(&responder, "")).daemon();
    wait_until_seen(&daemon, "mx.test", OcspState::Verified);
    let keeper = daemon.role("oxim-keeper").expect("a keeper");
    kill(keeper);
    wait_until(&daemon.place, "gone", || daemon.role("oxim-keeper") != Some(keeper));
    assert_eq!(seen(daemon.port, "mx.test"), OcspState::Verified);
    daemon.place.wait_for_log(&format!(
        "the staple keeper (pid {keeper}) has ended (Signal(9)) and is started again"
    ));
    // What is shown from now on is known to the next one only over a link that was made anew.
    put_certificate(&daemon.place, "other");
    wait_until(&daemon.place, "stored", || stored(&daemon.place, "other").exists());
    wait_until_shown(&daemon, "other");
}

#[test]
fn a_killed_smtp_worker_comes_back_with_its_proofs_and_its_link() {
    let responder = Responder::start(each(&["leaf", "other"]));
    let daemon = place("leaf", &text(&responder, "")).daemon();
    wait_until(&daemon.place, "stored", || stored(&daemon.place, "leaf").exists());
    let (worker, keeper) = (daemon.smtp_worker(), daemon.role("oxim-keeper"));
    kill(worker);
    wait_until(&daemon.place, "back", || daemon.role("oxim-smtp").is_some_and(|pid| pid != worker));
    assert_eq!(seen(daemon.port, "mx.test"), OcspState::Verified);
    assert_eq!(daemon.role("oxim-keeper"), keeper, "the keeper went on");
    put_certificate(&daemon.place, "other");
    wait_until_shown(&daemon, "other");
}

/// The thread of this name of a process.
fn thread(pid: u32, name: &str) -> u32 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let is_it = |entry: &fs::DirEntry| {
        fs::read_to_string(entry.path().join("comm")).is_ok_and(|found| found.trim() == name)
    };
    let found = threads.into_iter().find(is_it).unwrap_or_else(|| panic!("{name} runs in {pid}"));
    found.file_name().to_str().unwrap().parse().unwrap()
}

/// Has the kernel do this to one system call of a thread.
struct Injected {
    strace: std::process::Child,
    seen: PathBuf,
}

impl Injected {
    /// Lets go of the thread; true if it was done.
    fn end(mut self) -> bool {
        self.strace.kill().unwrap();
        self.strace.wait().unwrap();
        fs::read_to_string(&self.seen).unwrap().contains("(INJECTED)")
    }
}

fn inject(place: &Place, thread: u32, what: &str) -> Injected {
    let calls = what.split(':').next().unwrap();
    let seen = place.path(&format!("strace-{thread}"));
    let mut strace = std::process::Command::new("strace")
        .args(["-qq", "-e", &format!("trace={calls}"), "-e", &format!("inject={what}")])
        .args(["-p", &thread.to_string(), "-o"])
        .arg(&seen)
        .spawn()
        .unwrap();
    let end = Instant::now() + PATIENCE;
    let status = format!("/proc/{thread}/status");
    while fs::read_to_string(&status).unwrap().contains("TracerPid:\t0\n") {
        assert!(Instant::now() < end && strace.try_wait().unwrap().is_none(), "strace does not attach");
        std::thread::sleep(Duration::from_millis(20));
    }
    Injected { strace, seen }
}

#[test]
fn a_link_that_either_side_cuts_returns_by_itself() {
    if !daemon::have("root, to look into processes", is_root()) || !daemon::have_tool("strace") {
        return;
    }
    let responder = Responder::start(each(&["leaf", "other", "staple"]));
    let daemon = place("leaf", &text(&responder, "")).daemon();
    wait_until_seen(&daemon, "mx.test", OcspState::Verified);
    let (keeper, worker) = (daemon.role("oxim-keeper").unwrap(), daemon.smtp_worker());
    // The worker hears a packet that is none.
    let strace = inject(&daemon.place, thread(worker, "keeper-link"), "recvmsg:retval=3:when=1");
    put_certificate(&daemon.place, "other");
    let log = daemon.place.wait_for_log("the staple keeper talks nonsense");
    assert!(strace.end());
    assert!(log.contains("a new link is asked for in 5 s; proofs that are there are still used"), "{log}");
    assert_eq!(seen(daemon.port, "leaf.test"), OcspState::NoResponse, "of the new certificate");
    wait_until_shown(&daemon, "other");
    daemon.place.wait_for_log("the staple keeper is heard again");
    // The keeper cannot send, and hangs up.
    let strace = inject(&daemon.place, keeper, "sendmsg:error=EPIPE:when=1");
    put_certificate(&daemon.place, "staple");
    wait_until(&daemon.place, "stored", || stored(&daemon.place, "staple").exists());
    wait_until_shown(&daemon, "staple");
    assert!(strace.end());
    assert_eq!((daemon.role("oxim-keeper"), daemon.smtp_worker()), (Some(keeper), worker), "nobody died");
    let lines = told(&daemon.place);
    assert_eq!(lines.iter().filter(|line| line.contains("internal error")).count(), 0, "{lines:#?}");
    let heard = daemon.place.log().matches("the staple keeper is heard again").count();
    assert_eq!(heard, 1, "once for each time that it was told not to be");
}

#[test]
fn a_responder_that_is_dead_at_renewal_costs_nothing_before_the_proof_ends_and_each_change_has_its_line() {
    let responder = Responder::start(Mode::Answer(Vec::new()));
    let place = place("leaf", &text(&responder, ""));
    // What an earlier run has left is long past half of its life.
    let daemon = place.daemon();
    let spec = ProofSpec { this_update: -DAY, next_update: Some(9), ..good("leaf") };
    fs::write(stored(&daemon.place, "leaf"), ca().proof(&spec)).unwrap();
    fs::set_permissions(stored(&daemon.place, "leaf"), fs::Permissions::from_mode(0o644)).unwrap();
    responder.set(Mode::Status("503 Service Unavailable", "X-Why: down"));
    let daemon = daemon.restarted();
    assert_eq!(seen(daemon.port, "mx.test"), OcspState::Verified);
    let log = daemon.place.wait_for_log("): no new proof (");
    assert!(log.contains(&format!(
        "({}: the server answered 503 Service Unavailable); the one in hand",
        responder.url()
    )));
    assert_eq!(seen(daemon.port, "mx.test"), OcspState::Verified, "usable is not due");
    wait_until_seen(&daemon, "mx.test", OcspState::NoResponse);
    daemon.place.wait_for_log("): its proof ran out at ");
    let lines = told(&daemon.place);
    for words in ["no new proof", "ran out"] {
        assert_eq!(lines.iter().filter(|line| line.contains(words)).count(), 1, "{lines:#?}");
    }
}

#[test]
fn a_worker_that_retires_staples_its_proof_to_its_end_and_not_a_moment_longer() {
    let life = Duration::from_secs(12);
    let ends = Instant::now() + life;
    let brief = ca().proof(&ProofSpec { next_update: Some(12), ..good("leaf") });
    let responder = Responder::start(Mode::Answer(brief));
    let daemon = place("leaf", &text(&responder, "")).daemon();
    wait_until_seen(&daemon, "mx.test", OcspState::Verified);
    let old = daemon.smtp_worker();
    let greeted = || {
        let mut smtp = Smtp::connect(daemon.port);
        smtp.say("EHLO client.test\r\n");
        smtp
    };
    let start = |mut smtp: Smtp| {
        assert!(smtp.say("STARTTLS\r\n").starts_with("220 "));
        smtp.into_socket()
    };
    let (first, second, third) = (greeted(), greeted(), start(greeted()));
    reload(&daemon);
    wait_until(&daemon.place, "a new worker", || daemon.roles("oxim-smtp").iter().any(|pid| *pid != old));
    let said = shake_on(start(first), "mx.test").ocsp;
    if Instant::now() < ends {
        assert_eq!(said, OcspState::Verified, "by the old worker");
    }
    std::thread::sleep((ends + Duration::from_secs(2)).saturating_duration_since(Instant::now()));
    assert!(Path::new(&format!("/proc/{old}")).exists(), "it has sessions still");
    assert_eq!(shake_on(start(second), "mx.test").ocsp, OcspState::NoResponse);
    // One that was promised TLS before the end says hello after it.
    assert_eq!(shake_on(third, "mx.test").ocsp, OcspState::NoResponse);
}

#[test]
fn the_proof_of_a_replaced_certificate_is_never_shown_with_the_new_one() {
    let responder = Responder::start(Mode::Answer(ca().proof(&good("leaf"))));
    let daemon = place("leaf", &text(&responder, "")).daemon();
    wait_until_seen(&daemon, "mx.test", OcspState::Verified);
    // The responder goes on about the old one for now.
    put_certificate(&daemon.place, "other");
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        // A client that gets the proof of another certificate says so.
        let state = seen(daemon.port, "other.test");
        assert!([OcspState::Verified, OcspState::NoResponse].contains(&state), "{state:?}");
    }
    assert_eq!(seen(daemon.port, "other.test"), OcspState::NoResponse);
    daemon.place.wait_for_log("the answer is not used: for another certificate");
}

#[test]
fn listed_files_have_their_proofs_before_the_first_client_names_them() {
    let responder = Responder::start(each(&["leaf", "staple", "other"]));
    let place = place_of_hosts(&responder, "@DIR@/hosts/*/chain.pem");
    let daemon = place.daemon();
    for name in ["staple", "other"] {
        wait_until(&daemon.place, name, || stored(&daemon.place, name).exists());
    }
    assert_eq!(responder.asked(), 2, "nobody has asked for the default certificate yet");
    for name in ["staple.test", "other.test"] {
        assert_eq!(seen(daemon.port, name), OcspState::Verified, "{name}");
    }
    wait_until_seen(&daemon, "", OcspState::Verified);
    assert_eq!(told(&daemon.place), [""; 0]);
}

#[test]
fn a_directory_of_listed_files_that_may_not_be_looked_into_is_named() {
    let place = place_of_hosts(&Responder::start(Mode::Silent), "@DIR@/hosts/*/chain.pem");
    fs::set_permissions(place.path("hosts"), fs::Permissions::from_mode(0o300)).unwrap();
    let closed = format!("(tls_ocsp_fetch): {}: Permission denied", place.path("hosts").display());
    place.daemon().place.wait_for_log(&closed);
}

#[test]
fn a_certificate_that_demands_a_proof_has_it_before_the_first_connection_is_served() {
    let responder = Responder::start(Mode::Answer(ca().proof(&good("staple"))));
    let daemon = place("staple", &text(&responder, "")).daemon();
    assert_eq!(seen(daemon.port, "mx.test"), OcspState::Verified);
    assert_eq!(told(&daemon.place), [""; 0]);
    // One that has none to be had does not keep mail out for long, and the panic log hears of it.
    let silent = Responder::start(Mode::Silent);
    let begun = Instant::now();
    let daemon = place("staple", &text(&silent, "")).daemon();
    assert_eq!(seen(daemon.port, "mx.test"), OcspState::NoResponse);
    assert!(begun.elapsed() < Duration::from_secs(20));
    daemon.place.wait_for_panic_log("demands a stapled OCSP proof (must-staple)");
}

#[test]
fn the_first_client_of_a_virtual_host_that_demands_a_proof_has_it_though_nobody_listed_the_host() {
    let responder = Responder::start(each(&["leaf", "staple", "other"]));
    let daemon = place_of_hosts(&responder, "true").daemon();
    assert_eq!(seen(daemon.port, "staple.test"), OcspState::Verified);
    assert_eq!((told(&daemon.place), daemon.place.panic_log()), (vec![], String::new()));
}

#[test]
fn the_first_client_of_a_replaced_certificate_that_demands_a_proof_has_it() {
    let responder = Responder::start(each(&["leaf", "staple"]));
    let daemon = place("leaf", &text(&responder, "")).daemon();
    wait_until_shown(&daemon, "leaf");
    let der = ca().certificate("staple").der().unwrap();
    put_certificate(&daemon.place, "staple");
    wait_until(&daemon.place, "the new certificate", || {
        let info = shake(daemon.port, "");
        assert_eq!(info.ocsp, OcspState::Verified, "{}", daemon.place.log());
        info.peer_certificate == der
    });
    assert_eq!(daemon.place.panic_log(), "");
}

#[test]
fn a_dead_responder_costs_the_first_clients_of_a_host_that_demands_a_proof_a_moment_and_nobody_else_anything()
{
    let silent = Responder::start(Mode::Silent);
    let daemon = place_of_hosts(&silent, "true").daemon();
    let port = daemon.port;
    let timed = move |name: &str| {
        let begun = Instant::now();
        assert_eq!(seen(port, name), OcspState::NoResponse, "{name}");
        begun.elapsed()
    };
    timed("other.test");
    let first: Vec<_> = (0..8).map(|_| std::thread::spawn(move || timed("staple.test"))).collect();
    wait_until(&daemon.place, "asked", || silent.asked() >= 2);
    assert!(timed("other.test") < Duration::from_secs(2), "held up by another host");
    let first = first.into_iter().map(|one| one.join().unwrap()).max().unwrap();
    assert!(first > Duration::from_secs(4) && first < Duration::from_secs(8), "{first:?}");
    assert!(timed("staple.test") < Duration::from_secs(2), "once is enough");
    let panic = daemon.place.wait_for_panic_log("demands a stapled OCSP proof (must-staple)");
    assert_eq!(panic.lines().count(), 1, "{panic}");
}

#[test]
fn a_revoked_certificate_is_told_to_the_panic_log_once_and_nothing_is_stapled() {
    let revoked = ca().proof(&ProofSpec { status: Status::Revoked, ..good("leaf") });
    let responder = Responder::start(Mode::Answer(revoked));
    let daemon = place("leaf", &text(&responder, "")).daemon();
    daemon.place.wait_for_log("): the certificate is revoked (since ");
    for _ in 0..3 {
        assert_eq!(seen(daemon.port, "mx.test"), OcspState::NoResponse);
    }
    let panic = daemon.place.wait_for_panic_log("is revoked");
    assert_eq!(panic.lines().filter(|line| line.contains("is revoked")).count(), 1, "{panic}");
}

#[test]
fn without_a_url_nobody_is_asked_and_nothing_is_said() {
    let responder = Responder::start(Mode::Silent);
    let text = text(&responder, "")
        .lines()
        .filter(|line| !line.contains("responder"))
        .collect::<Vec<_>>()
        .join("\n");
    let daemon = place("leaf", &format!("{text}\n")).daemon();
    for _ in 0..3 {
        assert_eq!(seen(daemon.port, "mx.test"), OcspState::NoResponse);
    }
    assert!(daemon.role("oxim-keeper").is_some());
    assert_eq!((told(&daemon.place), responder.asked()), (vec![], 0));
}

#[test]
fn a_reload_turns_it_on_and_off_and_the_proxy_of_the_environment_reaches_the_keeper() {
    // The responder's name leads nowhere: only the proxy, which answers for it, can be asked.
    let proxy = Responder::start(Mode::Answer(ca().proof(&good("leaf"))));
    let on = text(&proxy, "").replace(&proxy.url(), "http://responder.invalid/");
    let off = on.replace("tls_ocsp_fetch = true", "tls_ocsp_fetch = false");
    let mut place = place("leaf", &off);
    place.environment.push(("http_proxy", format!("127.0.0.1:{}", proxy.port)));
    let daemon = place.daemon();
    daemon.place.wait_for_log("daemon started");
    assert_eq!((seen(daemon.port, "mx.test"), daemon.role("oxim-keeper")), (OcspState::NoResponse, None));
    daemon.place.configure(&on);
    reload(&daemon);
    wait_until_seen(&daemon, "mx.test", OcspState::Verified);
    let asked = String::from_utf8_lossy(&proxy.questions()[0]).into_owned();
    assert!(asked.starts_with("GET http://responder.invalid/"), "{asked}");
    let first = daemon.role("oxim-keeper");
    reload(&daemon);
    wait_until(&daemon.place, "another keeper", || {
        daemon.role("oxim-keeper").is_some_and(|pid| Some(pid) != first)
    });
    daemon.place.configure(&off);
    reload(&daemon);
    wait_until(&daemon.place, "no keeper", || daemon.role("oxim-keeper").is_none());
    wait_until_seen(&daemon, "mx.test", OcspState::NoResponse);
}

#[test]
fn as_root_the_keeper_has_a_uid_of_its_own_without_groups_and_only_its_store_is_its() {
    if !daemon::have("root", is_root()) {
        return;
    }
    let responder = Responder::start(Mode::Answer(ca().proof(&good("leaf"))));
    let daemon = place("leaf", &text(&responder, "")).daemon();
    wait_until(&daemon.place, "stored", || stored(&daemon.place, "leaf").exists());
    let status = |pid: u32, field: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.split_whitespace().map(|number| number.parse::<u32>().unwrap()).collect::<Vec<_>>()
    };
    let keeper = daemon.role("oxim-keeper").expect("a keeper");
    let (uids, gids) = (status(keeper, "Uid:"), status(keeper, "Gid:"));
    let oxim = status(daemon.smtp_worker(), "Uid:")[0];
    assert!(uids.iter().all(|uid| *uid == uids[0]) && uids[0] != 0 && uids[0] != oxim, "{uids:?}");
    assert!(gids.iter().all(|gid| *gid == gids[0]) && status(keeper, "Groups:") == [gids[0]]);
    let (store, file) = (daemon.place.path("spool/ocsp"), stored(&daemon.place, "leaf"));
    let worker_gid = status(daemon.smtp_worker(), "Gid:")[0];
    for (path, mode) in [(store, 0o42_750), (file, 0o100_640)] {
        let about = fs::metadata(&path).unwrap();
        assert_eq!(
            (about.uid(), about.gid(), about.mode()),
            (uids[0], worker_gid, mode),
            "{}",
            path.display()
        );
    }
    // Nothing else of the spool or the logs is its, and of none of it others may write anything.
    let found = std::process::Command::new("find")
        .args([daemon.place.path("spool"), daemon.place.path("log")])
        .args(["-not", "-path", "*/ocsp*", "(", "-uid", &uids[0].to_string(), "-o", "-perm", "/002", ")"])
        .args(["-not", "-type", "s"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    // It has neither the configuration nor a socket but its links. (Where the test writes to, it may write too.)
    let is_standard = |entry: &fs::DirEntry| ["0", "1", "2"].iter().any(|fd| entry.file_name() == *fd);
    let open: Vec<PathBuf> = fs::read_dir(format!("/proc/{keeper}/fd"))
        .unwrap()
        .flatten()
        .filter(|entry| !is_standard(entry))
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .collect();
    let is_file = |path: &&PathBuf| path.is_absolute() && path.as_path() != Path::new("/dev/null");
    let files: Vec<&PathBuf> =
        open.iter().filter(is_file).filter(|path| !path.starts_with("/memfd:")).collect();
    assert!(files.is_empty(), "{files:?}");
}

#[test]
fn without_its_user_mail_flows_and_the_daemon_says_what_to_do() {
    if !daemon::have("root", is_root()) {
        return;
    }
    let responder = Responder::start(Mode::Answer(ca().proof(&good("leaf"))));
    let place = Place::new(Program::Oxim, &text(&responder, "tls_crl_fetch\n")).without_keepers_user();
    put_certificate(&place, "leaf");
    let user = format!("there is no user \"{}\"", oxim::config::build_settings::KEEPER_USER);
    let cure = [&user, "make it (useradd --system", "and start the daemon again"];
    // Nothing is fetched, TLS and mail work, and both logs have the reason and the cure, once.
    let daemon = place.daemon();
    daemon.place.wait_for_log("daemon started");
    for log in [daemon.place.wait_for_log("are not fetched"), daemon.place.wait_for_panic_log("not fetched")]
    {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("not fetched")).collect();
        assert!(lines.len() == 1 && cure.iter().all(|words| lines[0].contains(words)), "{log}");
        assert!(lines[0].contains("(tls_ocsp_fetch, tls_crl_fetch), mail flows without: "), "{log}");
    }
    assert_eq!(daemon.role("oxim-keeper"), None);
    assert_eq!(seen(daemon.port, "mx.test"), OcspState::NoResponse);
    let mut smtp = Smtp::connect(daemon.port);
    for line in ["HELO x\r\n", "MAIL FROM:<>\r\n", "RCPT TO:<x@host.test>\r\n", "DATA\r\n"] {
        let reply = smtp.say(line);
        assert!(reply.starts_with(['2', '3']), "{line}: {reply}");
    }
    assert!(smtp.say("Subject: x\r\n\r\nText\r\n.\r\n").starts_with("250 OK id="));
    // Whoever starts a daemon hears it too (this one finds that its address is no address of this host).
    let started = daemon.place.run(&["-bd", "-oX", "192.0.2.1.1025", "-oP", "/dev/null/pid"], b"");
    let said = String::from_utf8_lossy(&started.stderr).into_owned();
    assert!(cure.iter().all(|words| said.contains(words)), "{said}");
}

#[test]
fn a_store_that_cannot_be_used_stops_neither_mail_nor_stapling_and_the_daemon_says_what_to_do() {
    if !daemon::have("root", is_root()) {
        return;
    }
    let responder = Responder::start(Mode::Answer(ca().proof(&good("leaf"))));
    let elsewhere = tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o777)).tempdir().unwrap();
    // After a `chown -R`, a restored backup, a hand that was too strict; or a trap.
    type Spoil<'a> = &'a dyn Fn(&Place);
    let of_another: Spoil = &|place| fs::create_dir(place.path("spool/ocsp")).unwrap();
    let a_link: Spoil =
        &|place| std::os::unix::fs::symlink(elsewhere.path(), place.path("spool/ocsp")).unwrap();
    let closed: Spoil =
        &|place| fs::set_permissions(place.path("spool"), fs::Permissions::from_mode(0o700)).unwrap();
    for (spoil, cure) in [
        (of_another, "it must be a directory with owner "),
        (a_link, "it must be a directory with owner "),
        (closed, "must let that user pass (chmod o+x)"),
    ] {
        let place = place("leaf", &text(&responder, ""));
        spoil(&place);
        let daemon = place.daemon();
        wait_until_seen(&daemon, "mx.test", OcspState::Verified);
        for log in [daemon.place.wait_for_log("not stored"), daemon.place.wait_for_panic_log("not stored")] {
            let lines: Vec<&str> = log.lines().filter(|line| line.contains("stored")).collect();
            assert!(lines.len() == 1 && lines[0].contains(cure), "{log}");
        }
        // Once it is mended a reload brings it back.
        let store = daemon.place.path("spool/ocsp");
        let _ = fs::remove_dir(&store).or_else(|_| fs::remove_file(&store));
        fs::set_permissions(daemon.place.path("spool"), fs::Permissions::from_mode(0o751)).unwrap();
        reload(&daemon);
        wait_until(&daemon.place, "stored", || stored(&daemon.place, "leaf").exists());
    }
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0, "a link in its place was followed");
}

#[test]
fn a_keeper_that_begins_anew_and_finds_its_store_gone_goes_on_without() {
    let responder = Responder::start(Mode::Answer(ca().proof(&good("leaf"))));
    let daemon = place("leaf", &text(&responder, "")).daemon();
    wait_until(&daemon.place, "stored", || stored(&daemon.place, "leaf").exists());
    fs::remove_dir_all(daemon.place.path("spool/ocsp")).unwrap();
    kill(daemon.role("oxim-keeper").expect("a keeper"));
    daemon.place.wait_for_log("OCSP: fetched proofs cannot be stored: ");
    put_certificate(&daemon.place, "other");
    responder.set(each(&["other"]));
    wait_until_shown(&daemon, "other");
}

fn kill(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

fn reload(daemon: &Daemon) {
    let started = daemon.place.log().matches("daemon started").count();
    let pid = nix::unistd::Pid::from_raw(daemon.pid().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
    wait_until(&daemon.place, "reloaded", || daemon.place.log().matches("daemon started").count() > started);
}
