//! TLS in the running daemon: what it says at start, what a handshake costs (row S12), the states that variables and
//! logs show (rows S10, C5), several hosts (row C2), and peers that mean harm.
#![cfg(ocsp_stapling)]

#[path = "support/ca.rs"]
mod ca;
#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/smtp_client.rs"]
mod smtp_client;

use ca::{ProofSpec, ca, good};
use daemon::{Daemon, Place, Program, have, have_tool, is_root};
use smtp_client::openssl;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

const SERVER: &str = "acl_smtp_rcpt = accept\nacl_smtp_mail = mail\nlog_selector = +tls_ocsp\ntls_advertise_hosts = *\n\
     tls_certificate = @DIR@/chain.pem\ntls_privatekey = @DIR@/key.pem\ntls_ocsp_file = @DIR@/proof.der\n\
     begin acl\nmail:\n  accept logwrite = version=$tls_in_ver status=$tls_in_ocsp\n\
     begin routers\nall:\n  driver = accept\n  transport = box\nbegin transports\nbox:\n  driver = appendfile\n  \
     directory = @DIR@/mail\n  maildir_format\n  user = @USER@\nbegin retry\n* * F,2h,15m\n";

/// A server's place with this certificate, and a proof if there is one.
fn server_place(certificate: &str, proof: Option<&ProofSpec>, text: &str) -> Place {
    let place = Place::new(Program::Oxim, text);
    for (from, to) in
        [(format!("{certificate}-chain.pem"), "chain.pem"), (format!("{certificate}.key"), "key.pem")]
    {
        fs::write(place.path(to), ca().read(&from)).unwrap();
    }
    if let Some(proof) = proof {
        fs::write(place.path("proof.der"), ca().proof(proof)).unwrap();
    }
    fs::set_permissions(ca().path(""), fs::Permissions::from_mode(0o755)).unwrap();
    place
}

fn server(proof: Option<&ProofSpec>) -> Daemon {
    server_place("leaf", proof, SERVER).daemon()
}

/// A place that sends everything to these ports of localhost, in this order.
fn sender(ports: &[u16], options: &str) -> Place {
    let hosts: Vec<String> = ports.iter().map(|port| format!("localhost::{port}")).collect();
    let text = format!(
        "log_selector = +tls_ocsp\nacl_not_smtp = accept\nbegin routers\nall:\n  driver = manualroute\n  \
         route_list = * {} byname\n  self = send\n  transport = out\nbegin transports\nout:\n  driver = smtp\n  \
         allow_localhost\n  tls_verify_certificates = {}\n{options}begin retry\n* * F,2h,15m\n",
        hosts.join(":"),
        ca().path("root.pem").display()
    );
    Place::new(Program::Oxim, &text)
}

fn send(place: &Place) -> String {
    let output = place.run(&["-odf", "-oi", "-f", "a@host.test", "b@mx.test"], b"Subject: x\n\nA line.\n");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    place.log()
}

#[test]
fn without_a_certificate_the_daemon_says_so_before_it_says_that_it_started() {
    let text = SERVER.lines().filter(|line| !line.starts_with("tls_cert") && !line.starts_with("tls_priv"));
    let text: Vec<&str> = text.filter(|line| !line.starts_with("tls_ocsp")).collect();
    let daemon = server_place("leaf", None, &format!("{}\n", text.join("\n"))).daemon();
    let log = daemon.place.wait_for_log("daemon started");
    let warning =
        log.find("Warning: No server certificate defined; will use a selfsigned one.\n Suggested action: ");
    assert!(warning.is_some_and(|at| at < log.find("daemon started").unwrap()), "{log}");
    let seen = openssl(daemon.port, "-status", &["QUIT\\r\\n"]);
    assert!(seen.contains("CN = host.test") && seen.contains("no response sent"), "{seen}");
    assert_eq!(daemon.place.log().matches("selfsigned").count(), 1);
}

#[test]
fn a_must_staple_certificate_without_a_proof_is_warned_of_by_the_check_and_told_at_start() {
    let place = server_place("staple", None, SERVER);
    let checked = String::from_utf8(place.run(&["-bV"], b"").stdout).unwrap();
    let warning = checked.lines().find(|line| line.starts_with("Warning: ")).unwrap_or_default();
    assert!(
        warning.contains("proof.der is not stapled: no such file") && warning.contains("must-staple"),
        "{checked}"
    );
    let daemon = place.daemon();
    daemon.place.wait_for_log("daemon started");
    let panic = daemon.place.wait_for_panic_log("must-staple");
    assert!(panic.lines().count() == 1 && panic.contains("must-staple"), "{panic}");
    // With a proof there is nothing to say.
    let place = server_place("staple", Some(&good("staple")), SERVER);
    assert!(!String::from_utf8(place.run(&["-bV"], b"").stdout).unwrap().contains("Warning"));
}

#[test]
fn the_check_of_a_configuration_warns_of_a_required_status_that_nothing_can_satisfy() {
    let place = sender(&[25], "  hosts_require_ocsp = *\n  tls_try_verify_hosts =\n");
    let checked = String::from_utf8(place.run(&["-bV"], b"").stdout).unwrap();
    let warnings: Vec<&str> = checked.lines().filter(|line| line.contains(": Warning: ")).collect();
    assert!(warnings.len() == 2 && warnings[0].contains("/configure:"), "{checked}");
    let place = sender(&[25], "  hosts_require_ocsp = *\n  hosts_require_tls = *\n  tls_verify_hosts = *\n");
    assert!(!String::from_utf8(place.run(&["-bV"], b"").stdout).unwrap().contains("Warning"));
}

#[test]
fn the_state_of_the_status_is_in_variables_and_lines_under_both_versions() {
    let stapling = server(Some(&good("leaf")));
    let bare = server(None);
    for (option, version) in [("-tls1_2", "TLS1.2"), ("-tls1_3", "TLS1.3")] {
        for (daemon, ask, status) in [(&stapling, "", 0), (&stapling, "-status", 4), (&bare, "-status", 1)] {
            let lines = ["EHLO x\\r\\n", "MAIL FROM:<a@b.test>\\r\\n", "QUIT\\r\\n"];
            openssl(daemon.port, &format!("-quiet {option} {ask}"), &lines);
            daemon.place.wait_for_log(&format!("version={version} status={status}"));
        }
    }
    for version in ["1.2", "1.3"] {
        for (daemon, ask, status, word) in
            [(&stapling, "*", 4, "verified"), (&stapling, "", 0, "none"), (&bare, "*", 1, "none")]
        {
            let place = sender(
                &[daemon.port],
                &format!(
                    "  hosts_request_ocsp = {ask}\n  headers_add = X-Status: $tls_out_ocsp\n  \
                     tls_require_ciphers = NORMAL:-VERS-ALL:+VERS-TLS{version}\n"
                ),
            );
            let log = send(&place);
            let line = log.lines().find(|line| line.contains(" => ")).unwrap_or_else(|| panic!("{log}"));
            assert!(
                line.contains(&format!("X=TLS{version}:")) && line.contains(&format!(" OCSP={word}")),
                "{line}"
            );
            daemon.place.wait_for_log("Completed");
            let mail = daemon.place.wait_for_mail(1).join("\n");
            assert!(mail.contains(&format!("X-Status: {status}\n")), "{status}: {mail}");
            fs::read_dir(daemon.place.path("mail/new"))
                .unwrap()
                .flatten()
                .for_each(|f| fs::remove_file(f.path()).unwrap());
        }
    }
    let arrivals = stapling.place.log();
    let arrivals: Vec<&str> = arrivals.lines().filter(|line| line.contains(" <= ")).collect();
    assert!(arrivals[0].contains(" OCSP=verified") && arrivals[1].contains(" OCSP=none"), "{arrivals:?}");
}

#[test]
fn a_host_without_a_good_staple_is_passed_over_for_the_next_and_nothing_goes_in_clear() {
    let (bare, stapling) = (server(None), server(Some(&good("leaf"))));
    let log = send(&sender(&[bare.port, stapling.port], "  hosts_require_ocsp = *\n"));
    // As with Exim, only an address's own line tells of a failed TLS session.
    bare.place.wait_for_log("TLS error on connection");
    assert!(log.contains(" => b@mx.test") && log.contains("OCSP=verified"), "{log}");
    stapling.place.wait_for_mail(1);
    let alone = send(&sender(&[bare.port], "  hosts_require_ocsp = *\n"));
    let words = "== b@mx.test R=all T=out defer (-37) H=localhost [127.0.0.1]: TLS session: (certificate status check failed)";
    assert!(alone.contains(words) && !alone.contains("unencrypted"), "{alone}");
    // Neither a server that offers no TLS, nor one that refuses it, gets the message.
    let text = SERVER.replace("tls_advertise_hosts = *", "tls_advertise_hosts =");
    let clear = server_place("leaf", None, &text).daemon();
    let refused = send(&sender(&[clear.port], "  hosts_require_ocsp = *\n"));
    assert!(
        refused.contains("a TLS session is required, but the server did not offer TLS support"),
        "{refused}"
    );
    for daemon in [&bare, &clear] {
        assert!(!daemon.place.log().contains(" <= "), "{}", daemon.place.log());
    }
}

#[test]
fn after_the_first_a_handshake_touches_neither_disk_nor_network() {
    if !have("root", is_root()) || !have_tool("strace") {
        return;
    }
    let daemon = server(Some(&good("leaf")));
    let shake = || openssl(daemon.port, "-status", &["QUIT\\r\\n"]);
    assert!(shake().contains("Cert Status: good"));
    let worker = daemon.smtp_worker();
    let trace = daemon.place.path("trace");
    let mut strace = Command::new("strace")
        .args([
            "-f",
            "-e",
            "trace=%file,read,pread64,connect,socket,recvfrom",
            "-p",
            &worker.to_string(),
            "-o",
        ])
        .arg(&trace)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It says that it is attached.
    let mut said = BufReader::new(strace.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains("attached"), "{line}");
    for _ in 0..5 {
        assert!(shake().contains("Cert Status: good"));
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(strace.id().cast_signed()), nix::sys::signal::SIGINT)
        .unwrap();
    strace.wait().unwrap();
    let watcher = fs::read_dir(format!("/proc/{worker}/task")).unwrap().flatten().find_map(|task| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        (name.trim() == oxim::tls::cache::WATCHER).then(|| task.file_name().to_string_lossy().into_owned())
    });
    let watcher = watcher.expect("the thread that watches files");
    let text = fs::read_to_string(trace).unwrap();
    let (watched, others): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.split_whitespace().next() == Some(&watcher));
    assert!(watched.iter().any(|line| line.contains("proof.der")), "{text}");
    let files = ["chain.pem", "key.pem", "proof.der", "/etc/ssl", "connect(", "socket("];
    let touching: Vec<_> =
        others.iter().filter(|line| files.iter().any(|file| line.contains(file))).collect();
    assert!(touching.is_empty(), "{touching:?}");
    let heard = others.iter().filter(|line| line.contains("recvfrom(")).count();
    assert!(heard > 5 * 4, "the sessions were not seen: {heard} calls");
}
