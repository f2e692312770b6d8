//! The processes of a daemon, seen from outside: they start, do their work under their own uid, come back when they
//! die, follow a reload, and end. As root they give up root; as an ordinary user all of it runs as that user.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// uid of nobody and gid of nogroup: what oxim runs as where these tests run as root.
const NOBODY: u32 = 65534;
/// A group that nothing else needs: its members administer the mail.
const ADMINS: u32 = 3;

struct Daemon {
    child: Child,
    directory: tempfile::TempDir,
    port: u16,
    uid: u32,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A directory with a configuration for a daemon; the uid that its roles have.
fn prepare() -> (tempfile::TempDir, u32) {
    let directory = tempfile::tempdir().unwrap();
    let root = nix::unistd::geteuid().is_root();
    let (uid, gid) = if root {
        (NOBODY, NOBODY)
    } else {
        (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw())
    };
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let here = directory.path().display();
    let configuration = format!(
        "primary_hostname = h.example\nspool_directory = {here}/spool\nexim_user = {uid}\nexim_group = {gid}\n\
             keep_environment =\ntls_advertise_hosts =\nacl_smtp_rcpt = accept\nadmin_groups = {ADMINS}\n\
             begin routers\nall:\n driver = accept\n transport = box\n\
             begin transports\nbox:\n driver = appendfile\n directory = {here}/mail\n maildir_format\n user = {uid}\n"
    );
    std::fs::write(directory.path().join("conf"), configuration).unwrap();
    std::fs::create_dir(directory.path().join("mail")).unwrap();
    if root {
        chown(directory.path().join("mail"), Some(uid), Some(gid)).unwrap();
    }
    (directory, uid)
}

impl Daemon {
    fn start() -> Self {
        let port = free_port();
        let (directory, uid) = prepare();
        let child = command(directory.path())
            .args(["-bdf", "-oX", &format!("127.0.0.1.{port}"), "-oP"])
            .arg(directory.path().join("pid"))
            .spawn()
            .unwrap();
        let daemon = Self { child, directory, port, uid };
        daemon.wait_for("started", || daemon.log().contains("daemon started"));
        daemon
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("spool/log/mainlog")).unwrap_or_default()
    }

    fn wait_for(&self, what: &str, done: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !done() {
            assert!(Instant::now() < end, "waited for {what} in vain; the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The roles: name, pid, real uid.
    fn roles(&self) -> Vec<(String, i32, u32)> {
        let parent = self.child.id().to_string();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            let Ok(status) = std::fs::read_to_string(entry.path().join("status")) else { continue };
            let field = |name: &str| {
                let line = status.lines().find(|line| line.starts_with(name));
                line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or_default().to_owned()
            };
            let name = field("Name:");
            if field("PPid:") == parent && name.starts_with("oxim-") && field("State:") != "Z" {
                found.push((name, pid, field("Uid:").parse().unwrap()));
            }
        }
        found
    }

    fn pid_of(&self, name: &str) -> Option<i32> {
        self.roles().into_iter().find(|(known, ..)| known == name).map(|(_, pid, _)| pid)
    }

    fn signal(&self, pid: i32, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
    }

    fn send(&self) {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut say = |text: &str, code: &str| {
            (&stream).write_all(text.as_bytes()).unwrap();
            let line = lines.next().unwrap().unwrap();
            assert!(line.starts_with(code), "{text}: {line}");
        };
        say("", "220");
        say("HELO x\r\n", "250");
        say("MAIL FROM:<a@b.example>\r\n", "250");
        say("RCPT TO:<c@d.example>\r\n", "250");
        say("DATA\r\n", "354");
        say("Subject: s\r\n\r\nhello\r\n.\r\n", "250 OK id=");
        say("QUIT\r\n", "221");
    }

    fn delivered(&self) -> usize {
        std::fs::read_dir(self.path("mail/new")).map_or(0, Iterator::count)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program in a place that ordinary users reach (a clone may lie below `/root`). Copied by `cp`: a descriptor
/// of this process that writes it could be open in another test's child, and then it cannot be run.
fn command(directory: &Path) -> Command {
    let program = directory.join("oxim");
    if !program.exists() {
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_oxim")).arg(&program).status().unwrap();
        assert!(copied.success());
    }
    let mut command = Command::new(program);
    command.arg("-C").arg(directory.join("conf")).env_clear().stdin(Stdio::null());
    command
}

#[test]
fn every_role_runs_as_oxim_and_a_message_goes_all_the_way() {
    let daemon = Daemon::start();
    let mut roles = daemon.roles();
    roles.sort();
    let named: Vec<(&str, u32)> = roles.iter().map(|(name, _, uid)| (name.as_str(), *uid)).collect();
    assert_eq!(named, [("oxim-delivery", daemon.uid), ("oxim-smtp", daemon.uid)]);
    daemon.send();
    daemon.wait_for("the delivery", || daemon.delivered() == 1);
    daemon.wait_for("the log", || daemon.log().contains("Completed"));
}

#[test]
fn a_worker_that_is_killed_comes_back_and_the_mail_goes_on() {
    let daemon = Daemon::start();
    for role in ["oxim-delivery", "oxim-smtp"] {
        let before = daemon.pid_of(role).unwrap();
        daemon.signal(before, nix::sys::signal::Signal::SIGKILL);
        daemon.wait_for("the new worker", || daemon.pid_of(role).is_some_and(|now| now != before));
    }
    daemon.send();
    daemon.wait_for("the delivery", || daemon.delivered() == 1);
}

#[test]
fn a_reload_starts_successors_and_a_bad_configuration_changes_nothing() {
    let daemon = Daemon::start();
    let master = daemon.child.id() as i32;
    let before = daemon.pid_of("oxim-smtp").unwrap();
    daemon.signal(master, nix::sys::signal::Signal::SIGHUP);
    daemon.wait_for("a second start", || daemon.log().matches("daemon started").count() == 2);
    daemon.wait_for("the old worker's end", || daemon.roles().len() == 2);
    let after = daemon.pid_of("oxim-smtp").unwrap();
    assert_ne!(before, after);

    let good = std::fs::read_to_string(daemon.path("conf")).unwrap();
    std::fs::write(daemon.path("conf"), format!("no_such_option = x\n{good}")).unwrap();
    daemon.signal(master, nix::sys::signal::Signal::SIGHUP);
    daemon.wait_for("the refusal", || daemon.log().contains("the new configuration is not used"));
    assert_eq!(daemon.pid_of("oxim-smtp"), Some(after));
    daemon.send();
    daemon.wait_for("the delivery", || daemon.delivered() == 1);
}

#[test]
fn sigterm_ends_all_processes_and_removes_the_pid_file() {
    let mut daemon = Daemon::start();
    let pid = std::fs::read_to_string(daemon.path("pid")).unwrap();
    assert_eq!(pid.trim(), daemon.child.id().to_string());
    let roles = daemon.roles();
    daemon.signal(daemon.child.id() as i32, nix::sys::signal::Signal::SIGTERM);
    assert!(daemon.child.wait().unwrap().success());
    assert!(!daemon.path("pid").exists());
    for (name, pid, _) in roles {
        let gone = !Path::new(&format!("/proc/{pid}/fd")).join("0").exists();
        assert!(gone, "{name} still runs");
    }
}

#[test]
fn a_role_cannot_be_started_by_hand() {
    let output = Command::new(env!("CARGO_BIN_EXE_oxim"))
        .args(["--role", "smtp"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--role is for oxim's master only"));
}

/// Calls the program as an ordinary user: exit code and standard output.
fn call_as(
    daemon: &Daemon,
    (uid, gid): (u32, u32),
    arguments: &[&str],
    input: &str,
) -> (Option<i32>, String) {
    let mut child = command(daemon.directory.path())
        .args(arguments)
        .uid(uid)
        .gid(gid)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn ordinary_users_submit_and_remove_what_is_theirs_and_admin_users_see_the_queue() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root, to call as other users");
        return;
    }
    let daemon = Daemon::start();
    let (user, other, admin) = ((2, 2), (1, 1), (3, ADMINS));
    for _ in 0..2 {
        let (code, _) = call_as(&daemon, user, &["-odq", "c@d.example"], "Subject: s\n\nhello\n");
        assert_eq!(code, Some(0));
    }
    assert_eq!(call_as(&daemon, user, &["-bp"], ""), (Some(1), String::new()));
    let (code, listing) = call_as(&daemon, admin, &["-bp"], "");
    assert_eq!((code, listing.matches("c@d.example").count()), (Some(0), 2), "{listing}");
    assert_eq!(call_as(&daemon, admin, &["-bpc"], ""), (Some(0), "2\n".into()));

    let ids: Vec<&str> =
        listing.split_whitespace().filter(|word| word.len() > 20 && word.contains('-')).collect();
    let [first, second] = ids[..] else { panic!("two messages: {listing}") };
    assert_eq!(call_as(&daemon, other, &["-Mrm", first], ""), (Some(1), "Permission denied\n".into()));
    let (code, words) = call_as(&daemon, user, &["-Mrm", first], "");
    assert_eq!((code, words), (Some(0), format!("Message {first} has been removed\n")));
    let (code, words) = call_as(&daemon, admin, &["-Mf", second], "");
    assert_eq!((code, words), (Some(0), format!("Message {second} is now frozen\n")));
    assert_eq!(call_as(&daemon, admin, &["-bpc"], ""), (Some(0), "1\n".into()));
    assert_eq!(daemon.delivered(), 0);

    assert_eq!(call_as(&daemon, other, &["-M", second], "").0, Some(1));
    assert_eq!(call_as(&daemon, admin, &["-M", second], ""), (Some(0), String::new()));
    assert_eq!(daemon.delivered(), 1, "-M ends when the delivery has");
    assert_eq!(call_as(&daemon, user, &["-odq", "e@d.example"], "Subject: s\n\nhello\n").0, Some(0));
    assert_eq!(call_as(&daemon, other, &["-q"], "").0, Some(1));
    assert_eq!(call_as(&daemon, admin, &["-q"], ""), (Some(0), String::new()));
    assert_eq!(daemon.delivered(), 2, "-q ends when the queue run has");
}

#[test]
fn a_caller_without_rights_waits_for_the_deliveries_that_it_asks_for() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root, to call as other users");
        return;
    }
    let daemon = Daemon::start();
    let (user, admin) = ((2, 2), (3, ADMINS));
    let text = "Subject: s\n\nhello\n";
    for (count, mode) in ["-odi", "-odf"].iter().enumerate() {
        assert_eq!(call_as(&daemon, user, &[mode, "c@d.example"], text).0, Some(0));
        assert_eq!(daemon.delivered(), count + 1, "{mode}");
    }
    // two messages wait; each selection takes the one it fits
    for to in ["first@d.example", "second@e.example"] {
        assert_eq!(call_as(&daemon, user, &["-odq", to], text).0, Some(0));
    }
    let run =
        |arguments: &[&str]| assert_eq!(call_as(&daemon, admin, arguments, "").0, Some(0), "{arguments:?}");
    run(&["-R", "nobody"]);
    run(&["-S", "nobody"]);
    run(&["-qf", "1aaaaa-000000-00", "1aaaab-000000-00"]);
    assert_eq!(daemon.delivered(), 2);
    run(&["-Rr", "^SECOND@"]);
    assert_eq!(daemon.delivered(), 3);
    assert!(daemon.log().contains(" => second <second@e.example>"), "{}", daemon.log());
    run(&["-qql"]);
    assert_eq!(daemon.delivered(), 4);
    let said = daemon.log();
    for words in [" -R nobody", " -S nobody", " -qf", " -Rr ^SECOND@", " -qql"] {
        assert!(
            said.lines().any(|line| line.contains("Start queue run") && line.ends_with(words)),
            "{words}: {said}"
        );
    }
}

#[test]
fn a_message_is_given_up_over_the_submission_socket_in_its_callers_name() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root, to call as other users");
        return;
    }
    let daemon = Daemon::start();
    let (user, admin) = ((2, 2), (3, ADMINS));
    assert_eq!(call_as(&daemon, user, &["-odq", "c@d.example"], "Subject: s\n\nhello\n").0, Some(0));
    let id = call_as(&daemon, admin, &["-bpi"], "").1.trim().to_owned();
    assert_eq!(call_as(&daemon, user, &["-Mg", &id], "").0, Some(1));
    assert_eq!(call_as(&daemon, admin, &["-Mg", &id], ""), (Some(0), String::new()));
    assert!(daemon.log().contains(&format!("{id} cancelled by sys\n")), "{}", daemon.log());
    daemon.wait_for("the bounce", || daemon.delivered() == 1);
}

#[test]
fn another_configuration_than_the_daemons_is_refused_over_the_submission_socket() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root, to call as other users");
        return;
    }
    let daemon = Daemon::start();
    let other = daemon.path("other");
    std::fs::copy(daemon.path("conf"), &other).unwrap();
    let output = Command::new(daemon.path("oxim"))
        .args(["-C", other.to_str().unwrap(), "-odi", "c@d.example"])
        .uid(2)
        .gid(2)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains(" runs with ") && words.contains(other.to_str().unwrap()), "{words}");
    assert_eq!(daemon.delivered(), 0);
}

#[test]
fn a_daemon_that_could_not_work_says_why_and_does_not_start() {
    let port = free_port();
    let (directory, _) = prepare();
    let path = |name: &str| directory.path().join(name);
    let fails = |because: &str| {
        let output = command(directory.path())
            .args(["-bd", "-oX", &format!("127.0.0.1.{port}"), "-oP"])
            .arg(path("pid"))
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.contains(because), "{words}");
        assert!(!path("pid").exists());
        let log = std::fs::read_to_string(path("spool/log/mainlog")).unwrap_or_default();
        assert!(!log.contains("daemon started"), "{log}");
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    };
    // the spool directory is none
    std::fs::write(path("spool"), "").unwrap();
    fails(&format!("the spool directory {} cannot be used by uid", path("spool").display()));
    // nobody can write a log there
    std::fs::remove_file(path("spool")).unwrap();
    std::fs::write(path("log"), "").unwrap();
    let configuration = std::fs::read_to_string(path("conf")).unwrap();
    let elsewhere = format!("log_file_path = {}/%slog\n{configuration}", path("log").display());
    std::fs::write(path("conf"), elsewhere).unwrap();
    fails(&format!("Cannot open main log file \"{}/mainlog\": Not a directory", path("log").display()));
    // a role that passes these checks and cannot begin
    std::fs::write(path("conf"), configuration).unwrap();
    std::fs::create_dir_all(path("spool/submit")).unwrap();
    fails(&format!("the smtp worker cannot begin: {}", path("spool/submit").display()));
}

/// Looks at every process that a daemon starts and tries to open its memory: `LOOKED name` or `OPENED name`, a line each.
const PRYING: &str = r"
import sys, os
master, seen = sys.argv[1], set()
sys.stdout.write('ready\n'); sys.stdout.flush()
last = int(open('/proc/loadavg').read().split()[4])
open_now = set()
while True:
    now = int(open('/proc/loadavg').read().split()[4])
    open_now.update(range(last, now + 1)); last = now
    for pid in list(open_now):
        try:
            if open('/proc/%d/stat' % pid).read().rsplit(')', 1)[1].split()[1] != master:
                open_now.discard(pid); continue
            about = os.stat('/proc/%d' % pid).st_mode
        except OSError:
            if pid < now - 50: open_now.discard(pid)
            continue
        if pid not in seen:
            seen.add(pid); sys.stdout.write('LOOKED %d\n' % pid); sys.stdout.flush()
        try:
            os.open('/proc/%d/mem' % pid, os.O_RDWR)
            sys.stdout.write('OPENED %d\n' % pid); sys.stdout.flush()
        except OSError: pass
";

#[test]
fn others_of_oxims_uid_never_look_into_a_role_not_even_while_it_starts() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!(
            "skipped: needs root: roles that are started with their final uid are looked into by their own"
        );
        return;
    }
    let daemon = Daemon::start();
    let mut prying = Command::new("python3")
        .args(["-c", PRYING, &daemon.child.id().to_string()])
        .uid(NOBODY)
        .gid(NOBODY)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(prying.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    for reload in 2..8 {
        daemon.signal(daemon.child.id() as i32, nix::sys::signal::Signal::SIGHUP);
        daemon.wait_for("the next start", || daemon.log().matches("daemon started").count() == reload);
    }
    prying.kill().unwrap();
    let words: Vec<String> = lines.map_while(Result::ok).collect();
    prying.wait().unwrap();
    assert!(words.iter().filter(|line| line.starts_with("LOOKED")).count() >= 12, "{words:?}");
    assert!(!words.iter().any(|line| line.starts_with("OPENED")), "{words:?}");
}

/// Opens as many connections to a submission socket as it can, says nothing, and waits.
const CROWDING: &str = r"
import socket, sys, time
held = []
for _ in range(400):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try: s.connect(sys.argv[1])
    except OSError: break
    held.append(s)
sys.stdout.write('%d\n' % len(held)); sys.stdout.flush()
time.sleep(60)
";

#[test]
fn a_user_who_fills_the_submission_socket_stops_no_other() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root, to call as other users");
        return;
    }
    let daemon = Daemon::start();
    let mut crowding = Command::new("python3")
        .args(["-c", CROWDING])
        .arg(daemon.path("spool/submit"))
        .uid(2)
        .gid(2)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut count = String::new();
    BufReader::new(crowding.stdout.take().unwrap()).read_line(&mut count).unwrap();
    assert!(count.trim().parse::<u32>().unwrap() > 200, "more than there are places: {count}");
    let started = Instant::now();
    let (code, _) = call_as(&daemon, (1, 1), &["-odi", "c@d.example"], "Subject: s\n\nhello\n");
    assert_eq!((code, daemon.delivered()), (Some(0), 1));
    assert!(started.elapsed() < Duration::from_secs(8), "it waited for silent callers to be given up");
    crowding.kill().unwrap();
    crowding.wait().unwrap();
}
