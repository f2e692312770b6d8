//! oxim and other programs at the two ends of a connection: Debian's exim4 both ways, gnutls-cli, openssl, swaks.
#[path = "support/ca.rs"]
mod ca;
#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/s_server.rs"]
mod s_server;

use ca::{DAY, ProofSpec, Status, ca, good};
use daemon::{Daemon, Place, Program, have, have_exim4, have_tool};
use s_server::SServer;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A server that takes mail over STARTTLS and puts it into its Maildir.
fn receiver(program: Program, staple: Option<&[u8]>) -> Daemon {
    let text = "acl_smtp_rcpt = accept\nlog_selector = +tls_certificate_verified +tls_peerdn\n\
                tls_advertise_hosts = *\ntls_certificate = @DIR@/chain.pem\ntls_privatekey = @DIR@/key.pem\n\
                tls_ocsp_file = @DIR@/proof.der\nbegin routers\nall:\n  driver = accept\n  transport = box\n\
                begin transports\nbox:\n  driver = appendfile\n  directory = @DIR@/mail\n  maildir_format\n\
                  user = @USER@\nbegin retry\n* * F,2h,15m\n";
    let place = Place::new(program, text);
    for (from, to) in [("leaf-chain.pem", "chain.pem"), ("leaf.key", "key.pem")] {
        std::fs::write(place.path(to), ca().read(from)).expect("writing");
    }
    if let Some(bytes) = staple {
        std::fs::write(place.path("proof.der"), bytes).expect("writing");
    } else if program == Program::Exim4 {
        // exim4 answers 454 to STARTTLS if the file is not there: its option is left out instead.
        place.configure(&text.replace("tls_ocsp_file = @DIR@/proof.der\n", ""));
    }
    place.daemon()
}

/// A client that sends everything to that port and wants a good staple.
fn sender(program: Program, port: u16, extra: &str) -> Place {
    let selector = if program == Program::Oxim { " +tls_ocsp" } else { "" };
    let text = format!(
        "log_selector = +tls_certificate_verified +tls_peerdn{selector}\nacl_not_smtp = accept\ndisable_ipv6\n\
         begin routers\nall:\n  driver = manualroute\n  route_list = * localhost::{port} byname\n  self = send\n\
           transport = out\nbegin transports\nout:\n  driver = smtp\n  allow_localhost\n  hosts_require_tls = *\n\
           hosts_require_ocsp = *\n  tls_verify_certificates = {}\n  tls_verify_hosts = *\n{extra}\
         begin retry\n* * F,2h,15m\n",
        ca().path("root.pem").display()
    );
    open_to_all();
    Place::new(program, &text)
}

/// The authority's certificates are read by servers that run as other users.
fn open_to_all() {
    use std::os::unix::fs::PermissionsExt;
    let directory = ca().path("");
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).expect("chmod");
}

const MESSAGE: &[u8] = b"From: a@host.test\nTo: b@localhost\nSubject: interop\n\nA line.\n.\n..two dots\n";

fn send(sender: &Place) {
    let output = sender.run(&["-odf", "-oi", "-f", "a@host.test", "b@mx.test"], MESSAGE);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn carries_over(from: Program, to: Program) {
    let server = receiver(to, Some(&ca().proof(&good("leaf"))));
    for (count, version) in ["TLS1.2", "TLS1.3"].into_iter().enumerate() {
        let only = format!("  tls_require_ciphers = NORMAL:-VERS-ALL:+VERS-{version}\n");
        let client = sender(from, server.port, &only);
        send(&client);
        let mail = server.place.wait_for_mail(count + 1);
        assert!(mail.iter().all(|text| text.ends_with("\nA line.\n.\n..two dots\n")), "{mail:?}");
        let log = client.wait_for_log("Completed");
        assert!(log.contains(&format!("X={version}:")) && log.contains(" CV=yes "), "{log}");
        assert_eq!(log.contains("OCSP=verified"), from == Program::Oxim, "{log}");
    }
}

fn defers_without_a_good_staple(from: Program, to: Program, staple: Option<Vec<u8>>) {
    let server = receiver(to, staple.as_deref());
    for version in ["TLS1.2", "TLS1.3"] {
        let only = format!("  tls_require_ciphers = NORMAL:-VERS-ALL:+VERS-{version}\n");
        let client = sender(from, server.port, &only);
        send(&client);
        let log = client.wait_for_log(" == ");
        assert!(log.contains("certificate status check failed"), "{version}: {log}");
        assert_eq!(server.place.mail_count(), 0, "{version}");
    }
    // Without the requirement the same server takes the message, over TLS.
    let easy = sender(from, server.port, "");
    let text = std::fs::read_to_string(easy.path("configure")).expect("reading");
    std::fs::write(easy.path("configure"), text.replace("hosts_require_ocsp = *\n", "")).expect("writing");
    send(&easy);
    assert!(easy.wait_for_log("Completed").contains("X=TLS1.3:"));
    server.place.wait_for_mail(1);
}

#[test]
fn exim_sends_to_oxim_and_requires_its_staple() {
    if have_exim4() {
        carries_over(Program::Exim4, Program::Oxim);
    }
}

#[test]
fn oxim_sends_to_exim_and_requires_its_staple() {
    if have_exim4() {
        carries_over(Program::Oxim, Program::Exim4);
    }
}

#[test]
fn oxim_sends_to_oxim_and_requires_its_staple() {
    carries_over(Program::Oxim, Program::Oxim);
}

#[test]
fn oxim_defers_to_an_exim_that_staples_nothing() {
    if have_exim4() {
        defers_without_a_good_staple(Program::Oxim, Program::Exim4, None);
    }
}

#[test]
fn exim_defers_to_an_oxim_that_has_nothing_to_staple() {
    if have_exim4() {
        defers_without_a_good_staple(Program::Exim4, Program::Oxim, None);
    }
}

#[test]
fn a_revoked_proof_is_never_stapled_and_starttls_goes_on() {
    let revoked = ca::ProofSpec { status: Status::Revoked, ..good("leaf") };
    defers_without_a_good_staple(Program::Oxim, Program::Oxim, Some(ca().proof(&revoked)));
}

fn tool(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).stdin(Stdio::null()).output().expect("starting sh");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn openssl_sees_and_verifies_the_staple_under_both_versions() {
    if !have_tool("openssl") {
        return;
    }
    let server = receiver(Program::Oxim, Some(&ca().proof(&good("leaf"))));
    for version in ["-tls1_2", "-tls1_3"] {
        let root = ca().path("root.pem");
        let text = tool(&format!(
            "printf 'QUIT\\r\\n' | timeout 20 openssl s_client -connect 127.0.0.1:{} -starttls smtp -status {version} \
             -CAfile {} -verify_return_error -quiet -no_ign_eof 2>&1; \
             printf 'QUIT\\r\\n' | timeout 20 openssl s_client -connect 127.0.0.1:{} -starttls smtp -status {version} \
             -CAfile {} 2>&1",
            server.port,
            root.display(),
            server.port,
            root.display()
        ));
        assert!(text.contains("OCSP Response Status: successful"), "{version}: {text}");
        assert!(text.contains("Cert Status: good"), "{version}: {text}");
        assert!(text.contains("Verify return code: 0"), "{version}: {text}");
    }
}

#[test]
fn gnutls_cli_is_content_with_the_staple() {
    if !have_tool("gnutls-cli") {
        return;
    }
    let server = receiver(Program::Oxim, Some(&ca().proof(&good("leaf"))));
    for version in ["TLS1.2", "TLS1.3"] {
        let text = tool(&format!(
            "printf 'QUIT\\r\\n' | timeout 20 gnutls-cli --starttls-proto=smtp --x509cafile={} --port {} \
             --priority NORMAL:-VERS-ALL:+VERS-{version} localhost 2>&1",
            ca().path("root.pem").display(),
            server.port
        ));
        let parts = [
            &format!("Description: ({version}-"),
            "Status: The certificate is trusted",
            "OCSP status request",
        ];
        assert!(parts.iter().all(|part| text.contains(*part)), "{text}");
    }
}

#[test]
fn swaks_delivers_in_clear_over_starttls_and_pipelined() {
    if !have_tool("swaks") {
        return;
    }
    let server = receiver(Program::Oxim, None);
    for extra in ["", "--tls", "--pipeline", "--tls --pipeline"] {
        let text = tool(&format!(
            "timeout 30 swaks --server 127.0.0.1:{} --helo client.test --from a@client.test --to b@mx.test {extra} \
             --body 'a body' 2>&1",
            server.port
        ));
        assert!(text.contains(" 250 OK id="), "{extra}: {text}");
    }
    assert_eq!(server.place.wait_for_mail(4).len(), 4);
}

/// What `openssl ocsp` says of a certificate of `inter`, if it knows of one more (that it has issued or revoked), in a file.
fn responded(certificate: &str, known: &str, state: char) -> PathBuf {
    let serial: String = ca()
        .certificate(known)
        .serial()
        .expect("a number")
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    let revoked = if state == 'R' { "260101000000Z" } else { "" };
    let name = format!("{certificate}-{known}-{state}");
    std::fs::write(
        ca().path(&format!("{name}.index")),
        format!("{state}\t400101000000Z\t{revoked}\t{serial}\tunknown\t/CN=x\n"),
    )
    .expect("writing");
    let file = ca().path(&format!("{name}.der"));
    let said = tool(&format!(
        "cd {} && openssl ocsp -index {name}.index -CA inter.pem -rsigner inter.pem -rkey inter.key -ndays 1 \
         -issuer inter.pem -cert {certificate}.pem -respout {}",
        ca().path("").display(),
        file.display()
    ));
    assert!(file.exists(), "{said}");
    file
}

/// oxim sends to openssl's server, which has this staple, and wants a good one. The log of the client, and what the
/// server has heard.
fn sent_to_openssl(version: &str, staple: Option<&PathBuf>) -> (String, Vec<String>) {
    let server = SServer::start(version, staple.map(PathBuf::as_path));
    let client = sender(Program::Oxim, server.port, "  protocol = smtps\n");
    send(&client);
    (client.log(), server.heard())
}

#[test]
fn oxim_sends_to_an_openssl_server_whose_staple_is_good() {
    if !have_tool("openssl") {
        return;
    }
    let good = responded("leaf", "leaf", 'V');
    for (option, version) in [("-tls1_2", "TLS1.2"), ("-tls1_3", "TLS1.3")] {
        let (log, heard) = sent_to_openssl(option, Some(&good));
        let line =
            log.lines().find(|line| line.contains(" => b@mx.test ")).unwrap_or_else(|| panic!("{log}"));
        let parts = [&format!(" X={version}:"), " CV=yes", " OCSP=verified", " C=\"250 taken\""];
        assert!(parts.iter().all(|part| line.contains(*part)), "{line}");
        let expected =
            ["EHLO host.test", "RCPT TO:<b@mx.test>", "Subject: interop", "...two dots", ".", "QUIT"];
        assert!(expected.iter().all(|line| heard.iter().any(|heard| heard == line)), "{heard:?}");
    }
}

#[test]
fn oxim_refuses_an_openssl_server_with_any_other_staple_before_it_says_a_word() {
    if !have_tool("openssl") {
        return;
    }
    // openssl's program sets no date: this one is ours.
    let expired = ca().path("expired.der");
    let past = ProofSpec { this_update: -2 * DAY, next_update: Some(-DAY), ..good("leaf") };
    std::fs::write(&expired, ca().proof(&past)).expect("writing");
    let failed = "TLS session: (certificate status check failed)\n";
    let revoked = "TLS session: (certificate verification failed): certificate revoked\n";
    let cases = [
        (
            Some(responded("leaf", "leaf", 'R')),
            "the certificate is revoked (since 2026-01-01 00:00:00Z)",
            revoked,
        ),
        (Some(responded("leaf", "other", 'V')), "the responder does not know the certificate", failed),
        (Some(responded("other", "other", 'V')), "for another certificate", failed),
        (Some(expired), "expired at ", failed),
        (None, "", failed),
    ];
    for option in ["-tls1_2", "-tls1_3"] {
        for (staple, reason, words) in &cases {
            let (log, heard) = sent_to_openssl(option, staple.as_ref());
            assert!(log.contains(" == b@mx.test ") && log.contains(words), "{reason} {option}: {log}");
            let told = format!("OCSP staple of localhost not good: {reason}");
            assert_eq!(log.contains(&told), staple.is_some(), "{reason} {option}: {log}");
            assert!(heard.is_empty(), "{reason} {option}: {heard:?}");
        }
    }
}

/// Everything to one Maildir; addresses of `later.test` wait.
const BOX: &str = "acl_not_smtp = accept\nbegin routers\nlater:\n  driver = redirect\n  domains = later.test\n  \
    data = ${if exists{@DIR@/go}{}{:defer: later}}\n  allow_defer\nall:\n  driver = accept\n  transport = box\n\
    begin transports\nbox:\n  driver = appendfile\n  directory = @DIR@/mail\n  maildir_format\n  user = @USER@\n\
    begin retry\n* * F,2h,15m\n";

/// The queue of one becomes the queue of the other.
fn hand_over(from: &Place, to: &Place, owner: &str) {
    let moved = tool(&format!(
        "set -e; rm -rf {0}/spool; cp -a {1}/spool {0}/spool; rm -rf {0}/spool/db; chown -R {owner}:{owner} {0}/spool",
        to.directory.path().display(),
        from.directory.path().display()
    ));
    assert_eq!(moved, "");
}

fn queued(place: &Place) -> String {
    String::from_utf8_lossy(&place.run(&["-bpc"], b"").stdout).trim().to_owned()
}

/// Three messages for two, one of which was tried already and is delivered to the first.
fn fill_queue(place: &Place) {
    for _ in 0..2 {
        place.run(&["-odq", "-oi", "-f", "a@host.test", "b@host.test", "c@host.test"], MESSAGE);
    }
    let odd = "From: \"\u{e9} x\" <a@host.test>\nX-Odd:  two\n\tlines\nSubject:\n\nno line end".as_bytes();
    place.run(&["-odi", "-oi", "-f", "<>", "b@host.test", "c@later.test"], odd);
    assert_eq!(place.wait_for_mail(1).len(), 1);
    place.wait_for_log("== c@later.test");
    assert_eq!(queued(place), "3");
}

fn takes_over_a_queue(from: &Place, to: &Place, owner: &str) {
    fill_queue(from);
    hand_over(from, to, owner);
    std::fs::write(to.path("go"), "").expect("writing");
    assert_eq!(queued(to), "3");
    assert!(to.run(&["-qff"], b"").status.success());
    let mails = to.wait_for_mail(5);
    assert_eq!(mails.len(), 5);
    assert_eq!(queued(to), "0", "{}", to.log());
    assert_eq!(mails.iter().filter(|mail| mail.ends_with("\nA line.\n.\n..two dots\n")).count(), 4);
    let odd: Vec<_> = mails.iter().filter(|mail| mail.ends_with("\n\nno line end\n")).collect();
    assert!(odd.len() == 1 && odd[0].contains("\nX-Odd:  two\n\tlines\n"), "{odd:?}");
    assert!(to.log().contains("=> c <c@later.test>") || to.log().contains("=> c@later.test"), "{}", to.log());
    assert!(!to.path("log/paniclog").exists(), "{}", to.log());
}

#[test]
fn a_queue_that_exim_left_is_delivered_by_oxim() {
    if have_exim4() {
        takes_over_a_queue(&Place::new(Program::Exim4, BOX), &Place::new(Program::Oxim, BOX), "oxim");
    }
}

/// A second build of the program costs minutes, so only `.ci/run` makes it.
#[test]
fn a_queue_that_oxim_wrote_with_short_ids_is_delivered_by_exim() {
    let is_built = std::env::var_os("OXIM_SHORT_PROGRAM").is_some();
    if !(have("OXIM_SHORT_PROGRAM, a program built with MESSAGE_IDS=short,", is_built) && have_exim4()) {
        return;
    }
    let oxim = Place::new(Program::OximShort, BOX);
    takes_over_a_queue(&oxim, &Place::new(Program::Exim4, BOX), "Debian-exim");
    let log = oxim.log();
    let is_short = |id: &str| id.len() == 16 && id.as_bytes()[6] == b'-' && id.as_bytes()[13] == b'-';
    let ids: Vec<_> = log.lines().filter(|line| line.contains(" <= ")).map(|line| &line[20..36]).collect();
    assert!(ids.len() == 3 && ids.iter().all(|id| is_short(id)), "{log}");
}
