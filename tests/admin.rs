//! What the administrator sees of a running daemon: the numbers at `openmetrics_listen`. (`tests/certificates.rs` has what
//! is told of certificates, there and by `--certificates`.)

#[path = "support/ca.rs"]
mod ca;
#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/json.rs"]
mod json;
#[path = "support/long.rs"]
mod long;
#[path = "support/openmetrics.rs"]
mod openmetrics;
#[path = "support/seen.rs"]
mod seen;
#[path = "support/smtp_client.rs"]
mod smtp_client;

use nix::sys::signal::Signal;
use openmetrics::{Numbers, scrape};
use seen::{free_port, numbers, place, send, signal, started, wait_for, with_port};
use smtp_client::openssl;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[test]
fn the_reader_of_the_tests_refuses_what_breaks_the_format() {
    let good =
        "# TYPE a counter\n# HELP a A \\\"b\\\".\na_total{x=\"\\\\\\n\"} 1\na_total{x=\"\"} 1e3\n# EOF\n";
    assert_eq!(openmetrics::read(good).unwrap().find("a_total", &[("x", "\\\n")]).len(), 1);
    for (from, to) in [
        ("# EOF\n", ""),
        ("# EOF\n", "\n# EOF\n"),
        ("# EOF\n", "# EOF\nb 1\n"),
        ("} 1\n", "} x\n"),
        ("} 1\n", "}  1\n"),
        ("} 1\n", "} -1\n"),
        ("a_total{x=\"\"}", "a{x=\"\"}"),
        ("a_total{x=\"\"}", "a_total{x=\"\\\\\\n\"}"),
        ("a_total{x=\"\"}", "a_total{x=\"\",x=\"\"}"),
        ("a_total{x=\"\"}", "a_total{x=\"\",}"),
        ("a_total{x=\"\"}", "a_total{x=\"\\t\"}"),
        ("a_total{x=\"\"}", "a_total{x=\"}"),
        ("# HELP a A \\\"b\\\".\n", "# HELP a A \"b\".\n"),
        ("# HELP a A \\\"b\\\".\n", ""),
        ("# HELP a", "# UNIT a seconds\n# HELP a"),
        ("a_total{x=\"\"}", "# HELP a B\na_total{x=\"\"}"),
        ("# EOF", "# TYPE a counter\n# EOF"),
        ("counter", "number"),
        ("# EOF", "# TYPE a_total gauge\n# EOF"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert!(bad != good && openmetrics::read(&bad).is_err(), "{bad}");
    }
    assert!(json::read("{\"a\":[1,null,\"\\u0041\\n\"]}").is_ok());
    for bad in ["{\"a\":1,}", "[1,]", "{\"a\":1,\"a\":2}", "\"\n\"", "[01]", "{a:1}", "[1] x", "\"\\x\""] {
        assert!(json::read(bad).is_err(), "{bad}");
    }
}

#[test]
fn messages_are_counted_and_the_counts_outlive_workers_and_reloads() {
    let (daemon, port) = with_port();
    let first = numbers(port);
    for (name, labels) in [
        ("oxim_messages_received_total", [("protocol", "smtp")]),
        ("oxim_deliveries_total", [("result", "local")]),
        ("oxim_deliveries_total", [("result", "failed")]),
        ("oxim_messages_attempted_total", [("result", "deferred")]),
    ] {
        assert_eq!(first.get(name, &labels), 0.0, "{name}");
    }
    let build = first.find("oxim_build_info", &[("version", env!("CARGO_PKG_VERSION"))]);
    assert_eq!(build[0].labels["ocsp"], if oxim::tls::OCSP { "yes" } else { "no" });
    send(daemon.port, "ann@host.test");
    send(daemon.port, "defer@host.test");
    send(daemon.port, "fail@host.test");
    // Of the third message only the bounce is delivered.
    let counted = |numbers: &Numbers| {
        numbers.get("oxim_messages_received_total", &[("protocol", "smtp")]) == 3.0
            && numbers.get("oxim_messages_received_total", &[("protocol", "local")]) == 1.0
            && numbers.get("oxim_recipients_received_total", &[]) == 4.0
            && numbers.get("oxim_received_bytes_total", &[]) > 100.0
            && numbers.get("oxim_deliveries_total", &[("result", "local")]) == 2.0
            && numbers.get("oxim_deliveries_total", &[("result", "deferred")]) == 1.0
            && numbers.get("oxim_deliveries_total", &[("result", "failed")]) == 1.0
            && numbers.get("oxim_bounces_total", &[]) == 1.0
            && numbers.get("oxim_messages_attempted_total", &[("result", "completed")]) == 3.0
            && numbers.get("oxim_messages_attempted_total", &[("result", "deferred")]) == 1.0
    };
    let before = wait_for(port, "the counts", counted);
    let served = before.get("oxim_smtp_connections_total", &[("side", "in"), ("result", "served")]);
    assert!(served >= 3.0, "{served}");

    signal(daemon.smtp_worker(), Signal::SIGKILL);
    daemon.place.wait_for_log("the smtp worker (pid ");
    let after_death = wait_for(port, "the next worker", counted);
    signal(daemon.pid(), Signal::SIGHUP);
    daemon.place.wait_for_log("SIGHUP received");
    let after_reload = wait_for(port, "the numbers after a reload", counted);
    for later in [after_death, after_reload] {
        for sample in before.0.iter().filter(|sample| sample.name.ends_with("_total")) {
            let labels: Vec<_> = sample.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert!(later.get(&sample.name, &labels) >= sample.value, "{sample:?}");
        }
        let start = |numbers: &Numbers| numbers.get("oxim_start_time_seconds", &[]);
        assert_eq!(start(&later), start(&before), "the daemon is the same");
    }
    // The first look at the queue may be that of the next ten seconds.
    let queued = wait_for(port, "the queue", |numbers| numbers.get("oxim_queue_messages", &[]) == 1.0);
    assert_eq!(queued.get("oxim_queue_frozen_messages", &[]), 0.0);
    assert!(queued.get("oxim_queue_oldest_age_seconds", &[]) < 300.0);
}

#[test]
fn the_queue_is_counted_with_its_frozen_messages() {
    let port = free_port();
    let place = place(&format!("openmetrics_listen = 127.0.0.1:{port}"));
    for _ in 0..3 {
        let queued =
            place.run(&["-odq", "-oi", "-f", "a@host.test", "defer@host.test"], b"Subject: x\n\nText\n");
        assert!(queued.status.success(), "{queued:?}");
    }
    let ids = String::from_utf8(place.run(&["-bpi"], b"").stdout).unwrap();
    let frozen = place.run(&["-Mf", ids.lines().next().unwrap()], b"");
    assert!(frozen.status.success(), "{frozen:?}");
    let _daemon = started(place);
    let seen = numbers(port);
    assert_eq!(seen.get("oxim_queue_messages", &[]), 3.0);
    assert_eq!(seen.get("oxim_queue_frozen_messages", &[]), 1.0);
}

#[test]
fn handshakes_are_counted_by_version_and_by_what_came_of_them() {
    let (daemon, port) = with_port();
    let handshakes = |numbers: &Numbers, version| {
        numbers.get("oxim_tls_handshakes_total", &[("side", "in"), ("version", version)])
    };
    openssl(daemon.port, "-tls1_2", &["QUIT\\r\\n"]);
    openssl(daemon.port, "-tls1_3", &["QUIT\\r\\n"]);
    openssl(daemon.port, "-tls1_3", &["QUIT\\r\\n"]);
    smtp_client::shake(daemon.port, true);
    let seen = wait_for(port, "the handshakes", |numbers| {
        (handshakes(numbers, "TLS1.2"), handshakes(numbers, "TLS1.3")) == (1.0, 2.0)
            && numbers.get("oxim_tls_handshake_failures_total", &[("side", "in")]) == 1.0
    });
    let status = |verdict| seen.get("oxim_tls_statuses_total", &[("side", "in"), ("verdict", verdict)]);
    assert_eq!((status("not_requested"), status("verified")), (3.0, 0.0));
}

#[test]
fn a_reload_never_leaves_a_collector_without_an_answer() {
    let port = free_port();
    for value in [format!("127.0.0.1:{port}"), "@DIR@/run/metrics".to_owned()] {
        let place = place(&format!("openmetrics_listen = {value}"));
        fs::create_dir(place.path("run")).unwrap();
        fs::set_permissions(place.path("run"), fs::Permissions::from_mode(0o777)).unwrap();
        let daemon = started(place);
        let socket = daemon.place.path("run/metrics");
        let ask = || match value.starts_with('@') {
            true => UnixStream::connect(&socket).map_err(|e| e.to_string()).and_then(scrape),
            false => TcpStream::connect(("127.0.0.1", port)).map_err(|e| e.to_string()).and_then(scrape),
        };
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let asker = scope.spawn(|| {
                let mut answers = 0;
                while !done.load(Ordering::Relaxed) {
                    ask().unwrap_or_else(|error| panic!("after {answers} answers: {error}"));
                    answers += 1;
                }
                answers
            });
            for reload in 2..5 {
                let before = daemon.smtp_worker();
                signal(daemon.pid(), Signal::SIGHUP);
                let end = Instant::now() + Duration::from_secs(30);
                while fs::exists(format!("/proc/{before}")).unwrap() && !is_zombie(before) {
                    assert!(Instant::now() < end || asker.is_finished(), "reload {reload} does not end");
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            done.store(true, Ordering::Relaxed);
            assert!(asker.join().unwrap() > 3);
        });
        if value.starts_with('@') {
            let about = fs::metadata(&socket).unwrap();
            assert_eq!(about.permissions().mode() & 0o777, 0o660);
            assert_eq!(
                fs::read_dir(daemon.place.path("run")).unwrap().count(),
                1,
                "nothing is left beside it"
            );
        }
    }
}

/// A daemon that shows its numbers at a socket in `run`.
fn with_socket() -> daemon::Place {
    let place = place("openmetrics_listen = @DIR@/run/metrics");
    fs::create_dir(place.path("run")).unwrap();
    fs::set_permissions(place.path("run"), fs::Permissions::from_mode(0o777)).unwrap();
    place
}

/// Ends the daemon, and waits for its last act.
fn stop(daemon: &daemon::Daemon) {
    signal(daemon.pid(), Signal::SIGTERM);
    let end = Instant::now() + Duration::from_secs(30);
    while daemon.place.path("pid").exists() {
        assert!(Instant::now() < end, "the daemon does not end; log:\n{}", daemon.place.log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_stopped_daemon_leaves_no_socket_and_takes_nothing_that_is_none() {
    let daemon = started(with_socket());
    let path = |name: &str| daemon.place.path("run").join(name);
    scrape(UnixStream::connect(path("metrics")).unwrap()).unwrap();
    // The numbers move to another place: nothing stays behind at the old one.
    let text = fs::read_to_string(daemon.place.path("configure")).unwrap();
    fs::write(daemon.place.path("configure"), text.replace("run/metrics", "run/other")).unwrap();
    signal(daemon.pid(), Signal::SIGHUP);
    let end = Instant::now() + Duration::from_secs(30);
    while path("metrics").exists() || !path("other").exists() {
        assert!(Instant::now() < end, "log:\n{}", daemon.place.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    scrape(UnixStream::connect(path("other")).unwrap()).unwrap();
    stop(&daemon);
    assert_eq!(fs::read_dir(daemon.place.path("run")).unwrap().count(), 0);

    let daemon = started(with_socket());
    let socket = daemon.place.path("run/metrics");
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "somebody's").unwrap();
    stop(&daemon);
    assert_eq!(fs::read(&socket).unwrap(), b"somebody's");
}

#[test]
fn a_socket_that_a_killed_daemon_has_left_stops_no_start() {
    let daemon = started(with_socket());
    let socket = daemon.place.path("run/metrics");
    let worker = daemon.smtp_worker();
    signal(daemon.pid(), Signal::SIGKILL);
    let end = Instant::now() + Duration::from_secs(30);
    while fs::exists(format!("/proc/{worker}")).unwrap() {
        assert!(Instant::now() < end, "the worker outlives the master");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(socket.exists() && UnixStream::connect(&socket).is_err());
    // One that was killed while it made the socket has left another name.
    fs::rename(&socket, daemon.place.path("run/metrics.new")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    if daemon::is_root() {
        let oxim = nix::unistd::User::from_name("oxim").unwrap().unwrap();
        nix::unistd::chown(&socket, Some(oxim.uid), Some(oxim.gid)).unwrap();
    }
    let daemon = daemon.restarted();
    let end = Instant::now() + Duration::from_secs(30);
    while UnixStream::connect(&socket).map_err(|error| error.to_string()).and_then(scrape).is_err() {
        assert!(Instant::now() < end, "log:\n{}", daemon.place.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(fs::read_dir(daemon.place.path("run")).unwrap().count(), 1);
}

#[test]
fn a_daemon_that_only_runs_the_queue_shows_its_numbers_too() {
    let port = free_port();
    for value in [format!("127.0.0.1:{port}"), "@DIR@/run/metrics".to_owned()] {
        let place = place(&format!("openmetrics_listen = {value}"));
        fs::create_dir(place.path("run")).unwrap();
        fs::set_permissions(place.path("run"), fs::Permissions::from_mode(0o777)).unwrap();
        for name in ["ann", "defer"] {
            let recipient = format!("{name}@host.test");
            let queued =
                place.run(&["-odq", "-oi", "-f", "a@host.test", &recipient], b"Subject: x\n\nText\n");
            assert!(queued.status.success(), "{queued:?}");
        }
        let daemon = daemon::QueueDaemon::start(place, &["-q30m"]);
        let socket = daemon.place.path("run/metrics");
        let ask = || match value.starts_with('@') {
            true => UnixStream::connect(&socket).map_err(|e| e.to_string()).and_then(scrape),
            false => TcpStream::connect(("127.0.0.1", port)).map_err(|e| e.to_string()).and_then(scrape),
        };
        let until = |what: &str, good: &dyn Fn(&Numbers) -> bool| {
            let end = Instant::now() + Duration::from_secs(30);
            loop {
                match ask() {
                    Ok(numbers) if good(&numbers) => return,
                    told => assert!(Instant::now() < end, "{what}: {told:#?}\n{}", daemon.place.log()),
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        let counted = |numbers: &Numbers| {
            numbers.get("oxim_deliveries_total", &[("result", "local")]) == 1.0
                && numbers.get("oxim_messages_attempted_total", &[("result", "deferred")]) >= 1.0
        };
        until("the deliveries", &counted);
        until("the queue", &|numbers| numbers.get("oxim_queue_messages", &[]) == 1.0);
        let before = daemon.place.log().matches("daemon started").count();
        signal(daemon.pid(), Signal::SIGHUP);
        let end = Instant::now() + Duration::from_secs(30);
        while daemon.place.log().matches("daemon started").count() == before {
            ask().expect("a reload leaves nobody without an answer");
            assert!(Instant::now() < end, "log:\n{}", daemon.place.log());
        }
        until("the same counts", &counted);
        let place = daemon.place.path("");
        signal(daemon.pid(), Signal::SIGTERM);
        while place.join("pid").exists() {
            assert!(Instant::now() < end, "log:\n{}", daemon.place.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!socket.exists() && ask().is_err());
    }
}

fn is_zombie(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| status.contains("State:\tZ"))
}

/// A client of the numbers that says nothing, drips, or asks and never reads.
fn hostile(number: usize, mut stream: impl std::io::Write) -> impl std::io::Write {
    match number % 3 {
        0 => {}
        1 => stream.write_all(b"GET /metr").unwrap(),
        _ => stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap(),
    }
    stream
}

#[test]
fn a_crowd_of_hostile_clients_of_the_numbers_holds_nothing_up() {
    use std::io::Write;
    oxim::sys::limits::raise_open_files(4096).unwrap();
    let port = free_port();
    for value in [format!("127.0.0.1:{port}"), "@DIR@/run/metrics".to_owned()] {
        let is_socket = value.starts_with('@');
        let place = place(&format!("openmetrics_listen = {value}"));
        fs::create_dir(place.path("run")).unwrap();
        fs::set_permissions(place.path("run"), fs::Permissions::from_mode(0o777)).unwrap();
        let daemon = started(place);
        let socket = daemon.place.path("run/metrics");
        let worker = daemon.smtp_worker();
        // Only root may look at the descriptors of such a process.
        let count = |what: &str| fs::read_dir(format!("/proc/{worker}/{what}")).map_or(0, Iterator::count);
        let before = (count("task"), count("fd"));
        // A port's queue has room for few, and who does not get in at once comes a second later.
        let many = if is_socket { long::short_or_long(400, 1000) } else { long::short_or_long(60, 200) };
        let mut clients: Vec<Box<dyn Write>> = Vec::new();
        for number in 0..many {
            clients.push(match is_socket {
                true => Box::new(hostile(number, UnixStream::connect(&socket).unwrap())),
                false => Box::new(hostile(number, TcpStream::connect(("127.0.0.1", port)).unwrap())),
            });
        }
        let took = |what: &str, longest: u64, act: &dyn Fn()| {
            let begun = Instant::now();
            act();
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(longest), "{what} took {took:?} beside {value}");
        };
        for round in 0..3 {
            // Those that drip go on; some were sent away.
            clients.iter_mut().for_each(|client| drop(client.write(b"i")));
            took("mail", 5, &|| send(daemon.port, "ann@host.test"));
            took("a collector", 5, &|| {
                let numbers = match is_socket {
                    true => scrape(UnixStream::connect(&socket).unwrap()),
                    false => scrape(TcpStream::connect(("127.0.0.1", port)).unwrap()),
                };
                assert!(numbers.unwrap().get("oxim_messages_received_total", &[("protocol", "smtp")]) >= 1.0);
            });
            took("--certificates", 5, &|| assert!(seen::ask(&daemon.place, &[]).status.success(), "{round}"));
        }
        let after = (count("task"), count("fd"));
        assert!(after.0 > 0 && (after.1 > 0 || !daemon::is_root()));
        assert!(after.0 <= before.0 + 40 && after.1 <= before.1 + 60, "{before:?} {after:?}");
        took("a reload", 20, &|| {
            signal(daemon.pid(), Signal::SIGHUP);
            let started = || daemon.place.log().matches("daemon started").count();
            while started() < 2 {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        // Clients that never read do not make it wait, either.
        for number in 0..60 {
            clients.push(match is_socket {
                true => Box::new(hostile(3 * number + 2, UnixStream::connect(&socket).unwrap())),
                false => Box::new(hostile(3 * number + 2, TcpStream::connect(("127.0.0.1", port)).unwrap())),
            });
        }
        took("a stop", 9, &|| stop(&daemon));
        assert!(
            daemon.place.log().lines().all(|line| !line.contains("internal error")),
            "{}",
            daemon.place.log()
        );
    }
}

#[test]
fn it_is_said_where_nobody_shows_numbers() {
    let told = |more: &str| String::from_utf8(place(more).run(&["-bV"], b"").stdout).unwrap();
    let line = "openmetrics_listen: a daemon (-bd, -q<time>) shows its numbers there; what runs without one (-bs under";
    assert!(told("openmetrics_listen = 127.0.0.1:9125").contains(line));
    assert!(!told("").contains("openmetrics") && !told("openmetrics_listen =").contains("openmetrics"));
}

#[test]
fn a_place_for_the_numbers_that_cannot_be_is_refused_with_its_cure() {
    let refused = |value: &str, command: &[&str]| {
        let place = place(&format!("openmetrics_listen = {value}"));
        let output = place.run(command, b"");
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for command in [&["-bV"][..], &["-bdf", "-oX", "127.0.0.1.1025"]] {
        let told = refused("0.0.0.0:9125", command);
        assert!(
            told.contains("openmetrics_listen: 0.0.0.0:9125 can be reached from other hosts: use "),
            "{told}"
        );
    }
    let told = refused("@DIR@/no/metrics", &["-bdf", "-oX", &format!("127.0.0.1.{}", free_port())]);
    assert!(told.contains("/no/metrics: No such file or directory"), "{told}");
    let told = refused("@DIR@/leaf.key", &["-bdf", "-oX", &format!("127.0.0.1.{}", free_port())]);
    assert!(told.contains("/leaf.key: there is something that is no socket"), "{told}");
    let port = free_port();
    let told = refused(&format!("127.0.0.1:{port}"), &["-bdf", "-oX", &format!("127.0.0.1.{port}")]);
    assert!(told.contains(&format!("openmetrics_listen: 127.0.0.1:{port} is where SMTP listens")), "{told}");
}
