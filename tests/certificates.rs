//! What the administrator is told of certificates and revocation lists, by `--certificates` and among the numbers.

#[path = "support/ca.rs"]
mod ca;
#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/json.rs"]
mod json;
#[path = "support/lists.rs"]
mod lists;
#[path = "support/openmetrics.rs"]
mod openmetrics;
#[cfg(ocsp_stapling)]
#[path = "support/responder.rs"]
mod responder;
#[path = "support/seen.rs"]
mod seen;
#[path = "support/smtp_client.rs"]
mod smtp_client;

use ca::{DAY, ca};
use daemon::{have, is_root};
use json::Json;
use lists::{ListSpec, list_of_inter, list_of_root};
use nix::sys::signal::Signal;
use seen::{ask, certificates, free_port, in_json, is_time, numbers, place, signal, started};
use smtp_client::openssl;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn revocation_lists_in_use_are_listed_and_counted_down() {
    let port = free_port();
    let place = place(&format!("openmetrics_listen = 127.0.0.1:{port}\ntls_crl = @DIR@/lists.pem"));
    let old = ListSpec { this_update: -2 * DAY, next_update: Some(-DAY), ..list_of_root(&[]) };
    let endless = ListSpec { next_update: None, ..list_of_root(&["inter"]) };
    let all = [list_of_inter(&["other"]).pem(), old.pem(), endless.pem()].concat();
    fs::write(place.path("lists.pem"), all).unwrap();
    let daemon = started(place);
    openssl(daemon.port, "", &["QUIT\\r\\n"]);
    let told = in_json(&daemon.place);
    let lists: Vec<_> = told
        .get("crls")
        .list()
        .iter()
        .map(|list| (list.get("issuer").text().to_owned(), list.get("status").text().to_owned()))
        .collect();
    let own = |issuer: &str, status: &str| (format!("O=oxim test,CN={issuer}"), status.to_owned());
    assert_eq!(lists, [own("inter.test", "good"), own("root", "unusable"), own("root", "expired")]);
    let first = &told.get("crls").list()[0];
    let path = daemon.place.path("lists.pem");
    assert_eq!((first.get("source").text(), first.get("place").text()), ("file", path.to_str().unwrap()));
    assert!(is_time(first.get("this_update")) && is_time(first.get("next_update")), "{first:?}");
    assert_eq!(told.get("crls").list()[1].get("last_error").text(), "no nextUpdate");
    let table = String::from_utf8(ask(&daemon.place, &[]).stdout).unwrap();
    assert!(table.contains("\n\nCRL-ISSUER") && table.contains("O=oxim test,CN=inter.test  good"), "{table}");

    let seen = numbers(port);
    let of = |name: &str, issuer: &str| seen.find(name, &[("issuer", &format!("O=oxim test,CN={issuer}"))]);
    assert_eq!(of("oxim_crl_usable", "inter.test")[0].value, 1.0);
    let left = of("oxim_crl_remaining_seconds", "inter.test")[0].value;
    assert!((86_000.0..=86_400.0).contains(&left), "{left}");
    assert_eq!(of("oxim_crl_usable", "root")[0].value, 0.0);
}

#[test]
fn subjects_with_quotes_backslashes_and_ends_of_lines_stay_within_their_labels_and_strings() {
    let subject = "/O=oxim test/CN=a\"b\\\\c{d}\u{20}=1,\n# EOF\n\u{e9}";
    ca().issue_as("odd", subject, "inter", "subjectAltName=DNS:odd.test");
    let port = free_port();
    let place = place(&format!("openmetrics_listen = 127.0.0.1:{port}"));
    let chain = [ca().read("odd.pem"), ca().read("inter.pem")].concat();
    fs::write(place.path("odd-chain.pem"), chain).unwrap();
    fs::write(place.path("odd.key"), ca().read("odd.key")).unwrap();
    let daemon = started(place);
    openssl(daemon.port, "-servername odd", &["QUIT\\r\\n"]);
    let serial: String =
        ca().certificate("odd").serial().unwrap().iter().map(|byte| format!("{byte:02X}")).collect();
    let all = certificates(&daemon.place);
    let told = all.iter().find(|one| one.get("serial").text() == serial).expect("the certificate");
    let name = told.get("subject").text();
    assert!(name.contains("b") && name.contains('"') && name.contains('\\'), "{name:?}");
    // A strict reader finds the whole of it again.
    let found = numbers(port);
    let samples = found.find("oxim_certificate_remaining_seconds", &[("serial", &serial)]);
    assert_eq!((samples.len(), samples[0].labels["subject"].as_str()), (1, name));
    // For people it is one line, whatever it says.
    let table = String::from_utf8(ask(&daemon.place, &[]).stdout).unwrap();
    assert_eq!(table.lines().filter(|line| line.contains(&serial)).count(), 1, "{table}");
}

#[test]
fn certificates_are_listed_once_they_were_shown() {
    let daemon = started(place(""));
    assert_eq!(certificates(&daemon.place), []);
    let nothing = String::from_utf8(ask(&daemon.place, &[]).stdout).unwrap();
    assert_eq!(nothing, "no certificate has been loaded yet\n");
    for _ in 0..2 {
        openssl(daemon.port, "", &["QUIT\\r\\n"]);
    }
    let all = certificates(&daemon.place);
    let subjects: Vec<&str> = all.iter().map(|one| one.get("subject").text()).collect();
    assert_eq!(subjects, ["O=oxim test,CN=inter.test", "O=oxim test,CN=leaf.test"]);
    let serial = ca().certificate("leaf").serial().unwrap();
    let serial: String = serial.iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(all[1].get("serial").text(), serial);
    assert_eq!(all[1].get("issuer").text(), "O=oxim test,CN=inter.test");
    assert_eq!(all[1].get("must_staple"), &Json::Bool(false));
    assert!(is_time(all[1].get("not_after")), "{:?}", all[1]);
    for unknown in ["responder", "next_attempt", "successes", "failures"] {
        assert_eq!(all[1].get(unknown), &Json::Null, "nobody fetches: {unknown}");
    }
    let table = String::from_utf8(ask(&daemon.place, &[]).stdout).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[0].starts_with("SUBJECT") && lines[2].starts_with("O=oxim test,CN=leaf.test"), "{table}");
    assert_eq!(lines[0].find("SERIAL"), lines[2].find(&serial), "{table}");
}

/// What could not be loaded: file, side, option, whether the former goes on, and why.
fn unusable(place: &daemon::Place) -> Vec<(String, String, String, bool, String)> {
    let told = in_json(place);
    assert_eq!(told.get("unusable_files_left_out"), &Json::Number(0.0));
    let one = |file: &Json| {
        let of = |name: &str| file.get(name).text().to_owned();
        (of("file"), of("side"), of("option"), file.get("former_in_use") == &Json::Bool(true), of("error"))
    };
    told.get("unusable_files").list().iter().map(one).collect()
}

fn wait_for_unusable(place: &daemon::Place, count: usize) -> Vec<(String, String, String, bool, String)> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let found = unusable(place);
        if found.len() == count {
            return found;
        }
        assert!(Instant::now() < end, "{count} expected: {found:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_file_that_could_not_be_loaded_is_named_with_what_is_wrong_until_it_is_mended() {
    let port = free_port();
    let place = place(&format!("openmetrics_listen = 127.0.0.1:{port}\ntls_crl = @DIR@/lists"));
    fs::create_dir(place.path("lists")).unwrap();
    fs::write(place.path("lists/good.pem"), list_of_inter(&["other"]).pem()).unwrap();
    fs::write(place.path("lists/bad.pem"), "nonsense").unwrap();
    fs::write(place.path("staple.key"), ca().read("other.key")).unwrap();
    let daemon = started(place);
    let place = &daemon.place;
    for name in ["leaf", "staple", "missing"] {
        openssl(daemon.port, &format!("-servername {name}"), &["QUIT\\r\\n"]);
    }
    let path = |name: &str| place.path(name).to_str().unwrap().to_owned();
    let found = wait_for_unusable(place, 3);
    let expected = [
        ("lists/bad.pem", "tls_crl", "no revocation list in it"),
        ("missing-chain.pem", "tls_certificate", "No such file or directory"),
        ("staple.key", "tls_privatekey", "do not match"),
    ];
    for ((file, side, option, former, error), (name, of, why)) in found.iter().zip(expected) {
        assert_eq!((file, side.as_str(), option.as_str(), *former), (&path(name), "server", of, false));
        assert!(error.contains(why), "{name}: {error}");
    }
    assert_eq!(numbers(port).get("oxim_tls_unusable_files", &[("side", "server")]), 3.0);
    let table = String::from_utf8(ask(place, &[]).stdout).unwrap();
    assert!(table.contains("\n\nUNUSABLE-FILE"), "{table}");
    let row = table.lines().find(|line| line.starts_with(&path("missing-chain.pem"))).expect("a row");
    assert!(row.ends_with("server  tls_certificate  nothing  No such file or directory"), "{row}");

    // What goes on in the place of a file that was spoilt is told too.
    fs::write(place.path("new"), "nonsense").unwrap();
    fs::rename(place.path("new"), place.path("leaf-chain.pem")).unwrap();
    let found = wait_for_unusable(place, 4);
    let spoilt =
        found.iter().find(|file| file.0 == path("leaf-chain.pem")).unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!((spoilt.2.as_str(), spoilt.3), ("tls_certificate", true));
    let table = String::from_utf8(ask(place, &[]).stdout).unwrap();
    assert!(table.contains("  former   "), "{table}");
    // Mended, they are not named any more, though nobody has asked for them since.
    for (name, text) in [
        ("leaf-chain.pem", ca().read("leaf-chain.pem")),
        ("staple.key", ca().read("staple.key")),
        ("missing-chain.pem", ca().read("other-chain.pem")),
    ] {
        fs::write(place.path("new"), text).unwrap();
        fs::rename(place.path("new"), place.path(name)).unwrap();
    }
    fs::remove_file(place.path("lists/bad.pem")).unwrap();
    assert_eq!(wait_for_unusable(place, 0), []);
    assert_eq!(
        seen::wait_for(port, "none", |numbers| {
            numbers.get("oxim_tls_unusable_files", &[("side", "server")]) == 0.0
        })
        .get("oxim_tls_unusable_files", &[("side", "client")]),
        0.0
    );
}

#[test]
fn a_file_that_a_delivery_could_not_load_is_named_as_the_clients() {
    let server = started(place(""));
    // Each has a host of its own: what fails first makes a retry record of its host.
    let each = |name: &str, host: &str, what: &str| {
        let router = format!(
            "{name}:\n  driver = manualroute\n  local_parts = {name}\n  route_list = * {host}::{} byname\n  \
             self = send\n  transport = {name}\n",
            server.port
        );
        let transport =
            format!("{name}:\n  driver = smtp\n  allow_localhost\n  hosts_require_tls = *\n  {what}\n");
        (router, transport)
    };
    let all = [
        each("lists", "localhost", "tls_crl = @DIR@/none.pem"),
        each("own", "127.0.0.1", "tls_certificate = @DIR@/own.pem"),
    ];
    let [routers, transports] = [0, 1].map(|part| {
        all.iter().map(|pair| if part == 0 { pair.0.as_str() } else { pair.1.as_str() }).collect::<String>()
    });
    let text = format!(
        "acl_smtp_rcpt = accept\ntls_advertise_hosts =\nbegin routers\n{routers}begin transports\n{transports}\
         begin retry\n* * F,2h,15m\n"
    );
    let place = daemon::Place::new(daemon::Program::Oxim, &text);
    fs::write(place.path("own.pem"), ca().read("leaf-chain.pem")).unwrap();
    let sender = started(place);
    assert_eq!(unusable(&sender.place), []);
    seen::send(sender.port, "lists@host.test");
    seen::send(sender.port, "own@host.test");
    let found = wait_for_unusable(&sender.place, 2);
    let path = |name: &str| sender.place.path(name).to_str().unwrap().to_owned();
    let told: Vec<_> =
        found.iter().map(|(file, side, option, ..)| (file.clone(), side.as_str(), option.as_str())).collect();
    assert_eq!(
        told,
        [(path("none.pem"), "client", "tls_crl"), (path("own.pem"), "client", "tls_certificate")]
    );
    assert_eq!(found[0].4, "No such file or directory");
    // As soon as it could be loaded it is not named.
    fs::write(path("none.pem"), list_of_inter(&["other"]).pem()).unwrap();
    assert_eq!(wait_for_unusable(&sender.place, 1)[0].0, path("own.pem"));
}

#[test]
fn only_an_administrator_is_told_and_only_by_a_daemon() {
    let place = place("");
    let output = ask(&place, &[]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && told.contains("no daemon of this build takes calls for the spool"),
        "{told}"
    );
    if !have("root, to be somebody else", is_root()) {
        return;
    }
    let daemon = started(place);
    let program = daemon.place.path("oxim");
    // By another process: one that a test beside this one forks would have the copy open for writing.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_oxim")).arg(&program).status();
    assert!(copied.unwrap().success());
    let configuration = daemon.place.path("configure");
    let by_nobody = || {
        let mut command = Command::new(&program);
        command.arg("-C").arg(&configuration).arg("--certificates").uid(65_534).gid(65_534).env_clear();
        command.output().unwrap()
    };
    let refused = by_nobody();
    assert_eq!(String::from_utf8_lossy(&refused.stderr), "exim: permission denied\n");
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
    // The program decides on what it is told; the daemon on what the kernel tells, whatever the caller's program says.
    let text = fs::read_to_string(&configuration).unwrap();
    let own = format!("admin_groups = 65534\n{text}");
    fs::write(daemon.place.path("lenient"), own).unwrap();
    let _ = fs::remove_file(daemon.place.path("configure.kept"));
    fs::rename(&configuration, daemon.place.path("configure.kept")).unwrap();
    fs::rename(daemon.place.path("lenient"), &configuration).unwrap();
    let refused = by_nobody();
    assert_eq!(String::from_utf8_lossy(&refused.stderr), "exim: permission denied\n");
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
    // Once the daemon has read it too, members of the group are administrators.
    signal(daemon.pid(), Signal::SIGHUP);
    let end = Instant::now() + Duration::from_secs(30);
    while !by_nobody().status.success() {
        assert!(Instant::now() < end, "{:?}", by_nobody());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(ocsp_stapling)]
mod with_status {
    use super::*;
    use crate::daemon::{Daemon, Place, Program};
    use crate::openmetrics::Numbers;
    use crate::seen::{SERVER, send, wait_for};
    use ca::{ProofSpec, Status, good};
    use responder::{Mode, Responder};
    use std::os::unix::fs::PermissionsExt;

    /// A daemon that fetches the proof of `leaf` from here, and nothing else.
    fn fetching(responder: &Responder) -> (Daemon, u16) {
        let port = free_port();
        let more = format!(
            "openmetrics_listen = 127.0.0.1:{port}\ntls_ocsp_fetch = true\ntls_ocsp_responder = {}",
            responder.url()
        );
        let place = place(&more).with_keepers_user();
        place.configure(&SERVER.replace("@OCSP@", "").replace("@MORE@", &more));
        let daemon = started(place);
        openssl(daemon.port, "-status -servername leaf", &["QUIT\\r\\n"]);
        (daemon, port)
    }

    fn fetches(numbers: &Numbers, result: &str) -> f64 {
        numbers.get("oxim_status_fetches_total", &[("kind", "ocsp"), ("result", result)])
    }

    #[test]
    fn what_the_keeper_fetched_is_told_with_its_attempts_and_counted_over_its_death() {
        let responder = Responder::start(Mode::Answer(ca().proof(&good("leaf"))));
        let (daemon, port) = fetching(&responder);
        let usable = [("subject", "O=oxim test,CN=leaf.test")];
        let seen = wait_for(port, "the proof", |numbers| {
            numbers.find("oxim_staple_usable", &usable).iter().any(|sample| sample.value == 1.0)
                && numbers.find("oxim_staple_fetches_total", &usable).iter().any(|sample| sample.value == 1.0)
        });
        assert_eq!((fetches(&seen, "success"), fetches(&seen, "failure")), (1.0, 0.0));
        let next = seen.get("oxim_staple_next_attempt_timestamp_seconds", &usable);
        assert!(next > seen.get("oxim_start_time_seconds", &[]) + 3600.0, "{next}");
        let all = certificates(&daemon.place);
        let leaf = all.iter().find(|one| one.get("subject").text().ends_with("leaf.test")).unwrap();
        assert_eq!((leaf.get("status").text(), leaf.get("source").text()), ("good", "keeper"));
        assert_eq!(leaf.get("responder").text(), responder.url());
        assert_eq!((leaf.get("successes"), leaf.get("failures")), (&Json::Number(1.0), &Json::Number(0.0)));
        assert!(is_time(leaf.get("next_attempt")) && is_time(leaf.get("this_update")), "{leaf:?}");
        assert_eq!((leaf.get("file"), leaf.get("last_error")), (&Json::Null, &Json::Null));

        signal(daemon.role("oxim-keeper").unwrap(), Signal::SIGKILL);
        daemon.place.wait_for_log("the staple keeper (pid ");
        let later = wait_for(port, "the counts", |numbers| fetches(numbers, "success") >= 1.0);
        assert_eq!(later.get("oxim_staple_usable", &usable), 1.0);
    }

    #[test]
    fn a_responder_that_fails_is_told_with_its_reason_and_counted() {
        let responder = Responder::start(Mode::Answer(ca::try_later()));
        let (daemon, port) = fetching(&responder);
        let seen = wait_for(port, "a failure", |numbers| {
            fetches(numbers, "failure") >= 1.0
                && numbers.find("oxim_staple_fetches_total", &[("result", "failure")])[0].value >= 1.0
        });
        assert_eq!(fetches(&seen, "success"), 0.0);
        let all = certificates(&daemon.place);
        let leaf = all.iter().find(|one| one.get("subject").text().ends_with("leaf.test")).unwrap();
        assert_eq!((leaf.get("status").text(), leaf.get("source").text()), ("none", "keeper"));
        assert!(leaf.get("last_error").text().contains("tryLater"), "{leaf:?}");
    }

    /// The numbers as they are sent.
    fn raw_numbers(port: u16) -> String {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    #[test]
    fn every_number_that_was_promised_is_there_with_its_type_and_unit_and_a_value_that_moves() {
        let port = free_port();
        let daemon = shown(&format!("openmetrics_listen = 127.0.0.1:{port}"));
        let text = raw_numbers(port);
        for (name, kind, unit) in [
            ("oxim_staple_age_seconds", "gauge", "seconds"),
            ("oxim_staple_remaining_seconds", "gauge", "seconds"),
            ("oxim_staple_usable", "gauge", ""),
            ("oxim_staple_fetches", "counter", ""),
            ("oxim_status_fetches", "counter", ""),
            ("oxim_tls_handshakes", "counter", ""),
            ("oxim_tls_handshake_failures", "counter", ""),
            ("oxim_tls_statuses", "counter", ""),
            ("oxim_queue_messages", "gauge", ""),
            ("oxim_messages_received", "counter", ""),
            ("oxim_received_bytes", "counter", "bytes"),
            ("oxim_deliveries", "counter", ""),
            ("oxim_messages_attempted", "counter", ""),
            ("oxim_certificate_remaining_seconds", "gauge", "seconds"),
            ("oxim_crl_remaining_seconds", "gauge", "seconds"),
            ("oxim_tls_unusable_files", "gauge", ""),
        ] {
            let unit = if unit.is_empty() { String::new() } else { format!("# UNIT {name} {unit}\n") };
            let head = format!("# TYPE {name} {kind}\n{unit}# HELP {name} ");
            assert!(text.contains(&head), "{head} is not in\n{text}");
        }
        let before = openmetrics::read(&text).unwrap();
        let all = [
            ("oxim_messages_received_total", ("protocol", "smtp"), 3.0),
            ("oxim_deliveries_total", ("result", "local"), 2.0), // the bounce too
            ("oxim_deliveries_total", ("result", "deferred"), 1.0),
            ("oxim_deliveries_total", ("result", "failed"), 1.0),
            ("oxim_messages_attempted_total", ("result", "deferred"), 1.0),
        ];
        assert!(all.iter().all(|(name, label, _)| before.get(name, &[*label]) == 0.0), "{text}");
        for recipient in ["ann@host.test", "defer@host.test", "fail@host.test"] {
            send(daemon.port, recipient);
        }
        wait_for(port, "messages in, out, deferred", |numbers| {
            all.iter().all(|(name, label, count)| numbers.get(name, &[*label]) == *count)
                && numbers.get("oxim_queue_messages", &[]) == 1.0
        });
        openssl(daemon.port, "-tls1_2 -status -servername leaf", &["QUIT\\r\\n"]);
        wait_for(port, "the handshake", |numbers| {
            let of = |name, label| {
                numbers.get(name, &[("side", "in"), label]) - before.get(name, &[("side", "in"), label])
            };
            of("oxim_tls_handshakes_total", ("version", "TLS1.2")) == 1.0
                && of("oxim_tls_handshakes_total", ("version", "TLS1.3")) == 0.0
                && of("oxim_tls_statuses_total", ("verdict", "verified")) == 1.0
        });
    }

    #[test]
    fn a_listed_file_that_cannot_be_read_is_named() {
        let responder = Responder::start(Mode::Answer(ca().proof(&good("leaf"))));
        let more = format!(
            "tls_ocsp_fetch = @DIR@/leaf-chain.pem : @DIR@/none.pem : @DIR@/leaf.key\ntls_ocsp_responder = {}",
            responder.url()
        );
        let daemon = started(place(&more).with_keepers_user());
        let found = wait_for_unusable(&daemon.place, 2);
        let path = |name: &str| daemon.place.path(name).to_str().unwrap().to_owned();
        let told: Vec<_> = found
            .iter()
            .map(|(file, side, option, ..)| (file.clone(), side.as_str(), option.as_str()))
            .collect();
        let option = "tls_ocsp_fetch";
        assert_eq!(told, [(path("leaf.key"), "server", option), (path("none.pem"), "server", option)]);
        assert_eq!(found[1].4, "there is no such file");
    }

    /// Good, expired and revoked, shown by three virtual hosts.
    fn shown(more: &str) -> Daemon {
        let place = place(more);
        let expired = ProofSpec { this_update: -2 * DAY, next_update: Some(-DAY), ..good("staple") };
        let revoked = ProofSpec { status: Status::Revoked, ..good("other") };
        for spec in [good("leaf"), expired, revoked] {
            fs::write(place.path(&format!("{}.der", spec.subject)), ca().proof(&spec)).unwrap();
        }
        let daemon = started(place);
        for name in ["leaf", "staple", "other"] {
            openssl(daemon.port, &format!("-status -servername {name}"), &["QUIT\\r\\n"]);
        }
        daemon
    }

    #[test]
    fn each_certificate_is_told_with_its_proof_or_why_there_is_none() {
        let daemon = shown("");
        let all = certificates(&daemon.place);
        let of = |name: &str| {
            let subject = format!("O=oxim test,CN={name}.test");
            let found: Vec<_> = all.iter().filter(|one| one.get("subject").text() == subject).collect();
            assert_eq!(found.len(), 1, "{name}: {found:#?}");
            found[0]
        };
        for (name, status, file) in [
            ("leaf", "good", "leaf.der"),
            ("staple", "expired", "staple.der"),
            ("other", "revoked", "other.der"),
        ] {
            let told = of(name);
            assert_eq!((told.get("status").text(), told.get("source").text()), (status, "file"), "{name}");
            assert_eq!(told.get("file").text(), daemon.place.path(file).to_str().unwrap());
        }
        assert!(is_time(of("leaf").get("this_update")) && is_time(of("leaf").get("next_update")));
        assert_eq!(of("staple").get("must_staple"), &Json::Bool(true));
        assert_eq!(of("leaf").get("revoked_since"), &Json::Null);
        assert!(is_time(of("other").get("revoked_since")));
        assert_eq!(of("inter").get("status").text(), "none");
        // A proof that goes bad is told so, and why.
        fs::write(daemon.place.path("new.der"), b"nonsense").unwrap();
        fs::rename(daemon.place.path("new.der"), daemon.place.path("leaf.der")).unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            openssl(daemon.port, "-status -servername leaf", &["QUIT\\r\\n"]);
            let all = certificates(&daemon.place);
            let leaf = all.iter().find(|one| one.get("subject").text().ends_with("leaf.test")).unwrap();
            if leaf.get("status").text() == "unusable" {
                assert!(leaf.get("last_error").text().starts_with("malformed"), "{leaf:?}");
                break;
            }
            assert!(Instant::now() < end, "{leaf:?}");
        }
    }

    #[test]
    fn deliveries_over_tls_are_counted_by_version_and_verdict_too() {
        let server = shown("");
        let port = free_port();
        let text = format!(
            "openmetrics_listen = 127.0.0.1:{port}\nacl_smtp_rcpt = accept\ntls_advertise_hosts =\n\
             begin routers\nall:\n  driver = manualroute\n  route_list = * localhost::{} byname\n  self = send\n  \
             transport = out\nbegin transports\nout:\n  driver = smtp\n  allow_localhost\n  hosts_require_tls = *\n  \
             hosts_require_ocsp = *\n  tls_verify_certificates = {}\n  tls_sni = @SNI@\nbegin retry\n* * F,2h,15m\n",
            server.port,
            ca().path("root.pem").display()
        );
        fs::set_permissions(ca().path(""), fs::Permissions::from_mode(0o755)).unwrap();
        let sni = "${if eq{$local_part}{bad}{other}{leaf}}";
        let sender = started(Place::new(Program::Oxim, &text.replace("@SNI@", sni)));
        send(sender.port, "good@host.test");
        send(sender.port, "bad@host.test");
        let of = |numbers: &Numbers, name, what: (&str, &str)| numbers.get(name, &[("side", "out"), what]);
        let seen = wait_for(port, "the deliveries", |numbers| {
            of(numbers, "oxim_tls_statuses_total", ("verdict", "verified")) == 1.0
                && numbers.get("oxim_tls_handshake_failures_total", &[("side", "out")]) >= 1.0
                && numbers.get("oxim_deliveries_total", &[("result", "remote")]) == 1.0
                && numbers.get("oxim_deliveries_total", &[("result", "deferred")]) >= 1.0
        });
        assert_eq!(of(&seen, "oxim_tls_handshakes_total", ("version", "TLS1.3")), 1.0);
        assert!(of(&seen, "oxim_smtp_connections_total", ("result", "opened")) >= 2.0);
    }

    #[test]
    fn the_numbers_have_each_certificates_proof_and_the_verdicts_of_handshakes() {
        let port = free_port();
        let _daemon = shown(&format!("openmetrics_listen = 127.0.0.1:{port}"));
        let seen = numbers(port);
        let of =
            |name: &str, host: &str| seen.get(name, &[("subject", &format!("O=oxim test,CN={host}.test"))]);
        let usable = ["leaf", "staple", "other"].map(|host| of("oxim_staple_usable", host));
        assert_eq!(usable, [1.0, 0.0, 0.0]);
        let age = of("oxim_staple_age_seconds", "leaf");
        assert!((3600.0..3900.0).contains(&age), "{age}");
        let left = of("oxim_staple_remaining_seconds", "leaf");
        assert!((86_000.0..=86_400.0).contains(&left), "{left}");
        assert_eq!(of("oxim_certificate_must_staple", "staple"), 1.0);
        assert!(of("oxim_certificate_remaining_seconds", "other") > 19.0 * 86_400.0);
        let info = |host: &str, status| {
            let subject = format!("O=oxim test,CN={host}.test");
            seen.find("oxim_staple_info", &[("subject", &subject), ("status", status)]).len()
        };
        assert_eq!((info("leaf", "good"), info("staple", "expired"), info("other", "revoked")), (1, 1, 1));
        let status = |verdict| seen.get("oxim_tls_statuses_total", &[("side", "in"), ("verdict", verdict)]);
        assert_eq!((status("verified"), status("no_response")), (1.0, 2.0));
    }
}
