//! An installation on the real paths of a system of its own: namespaces for mounts, processes and network, with
//! `/etc`, `/usr/local`, `/var/spool`, `/home` and `/run` that nobody else sees.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{INSIDE, Kind, Layout, as_user, build_settings, entries, have_tool, output_of, script};

/// Nothing here takes longer.
const DEADLINE: Duration = Duration::from_secs(30);

pub fn can_run() -> bool {
    nix::unistd::geteuid().is_root()
        && Command::new("unshare").args(["-m", "-n", "-p", "-f", "true"]).status().is_ok_and(|s| s.success())
}

/// Runs the test of this name again, on a system of its own; it has to pass there.
pub fn run_inside(test: &str) {
    let own = std::env::current_exe().expect("this program");
    let output = Command::new("unshare")
        .args(["-m", "-n", "-p", "-f", "--kill-child", "--mount-proc", "--propagation", "private"])
        .arg(own)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Where the program of this build looks for its files.
fn layout() -> Layout {
    let config_file = build_settings::CONFIGURE_FILE.split(':').next().unwrap_or_default();
    Layout {
        config_file: config_file.into(),
        spool: build_settings::SPOOL_DIRECTORY.into(),
        log: Path::new(build_settings::SPOOL_DIRECTORY).join("log"),
        ..Layout::usual()
    }
}

/// The whole life of an installation.
pub fn everything() {
    let scratch = tempfile::tempdir_in("/var/tmp").expect("a directory");
    make_system(scratch.path());
    let layout = layout();
    let said = output_of(&mut script("install", &layout, None));
    assert!(said.contains("systemctl enable --now oxim"), "{said}");
    check_owners(&layout);
    check_unit();

    let mut daemon = start_by_the_unit(&layout);
    submit("ann", "bob", "by sendmail");
    wait_for_mail("bob", "by sendmail");
    let shown = output_of(Command::new("/usr/local/bin/mailq").current_dir("/"));
    assert_eq!(shown, "", "the queue is empty");
    over_smtp("bob", "over SMTP");
    wait_for_mail("bob", "over SMTP");
    reload_by_the_unit(&daemon, &layout);
    submit("ann", "bob", "after the reload");
    wait_for_mail("bob", "after the reload");
    check_mail_is_bobs();
    // what the running daemon made is oxim's, too, and nothing became set-uid
    check_owners(&layout);
    check_no_set_uid();
    stop(&mut daemon);

    fs::write(&layout.config_file, "# mine\n").expect("writing");
    output_of(&mut script("install", &layout, None));
    assert_eq!(fs::read_to_string(&layout.config_file).expect("reading"), "# mine\n");
    output_of(&mut script("uninstall", &layout, None));
    assert!(!Path::new("/usr/local/sbin/oxim").exists());
    assert!(!Path::new("/usr/local/sbin/sendmail").exists());
    assert!(layout.config_file.exists() && main_log(&layout).contains("Completed"));
}

/// Directories of our own over those of the system, two ordinary users, and no trace of a mailer.
fn make_system(scratch: &Path) {
    let shell = |text: &str| output_of(Command::new("sh").args(["-ec", text]).arg(scratch));
    fs::set_permissions(scratch, fs::Permissions::from_mode(0o755)).expect("chmod");
    shell(
        r#"cp -a /etc "$0/etc"; rm -rf "$0/etc/oxim" "$0/etc/exim" "$0/etc/exim.conf" "$0/etc/exim4" "$0/etc/systemd/system/oxim.service""#,
    );
    for name in ["passwd", "group", "shadow", "gshadow"] {
        let own = [
            build_settings::USER,
            build_settings::GROUP,
            build_settings::KEEPER_USER,
            build_settings::KEEPER_GROUP,
        ];
        let Ok(text) = fs::read_to_string(scratch.join("etc").join(name)) else { continue };
        let kept: Vec<&str> =
            text.lines().filter(|line| !own.contains(&line.split(':').next().unwrap_or_default())).collect();
        fs::write(scratch.join("etc").join(name), kept.join("\n") + "\n").expect("writing");
    }
    for (name, mode) in [("local", 0o755), ("spool", 0o755), ("home", 0o755), ("run", 0o755)] {
        fs::create_dir(scratch.join(name)).expect("a directory");
        fs::set_permissions(scratch.join(name), fs::Permissions::from_mode(mode)).expect("chmod");
    }
    shell(
        r#"for at in etc:/etc local:/usr/local spool:/var/spool home:/home run:/run; do mount --bind "$0/${at%%:*}" "${at#*:}"; done"#,
    );
    for name in ["ann", "bob"] {
        output_of(Command::new("useradd").args([
            "--create-home",
            "--user-group",
            "--shell",
            "/bin/sh",
            name,
        ]));
    }
    // the loopback interface of a new network namespace is down
    output_of(Command::new("python3").args(["-c", LOOPBACK_UP]));
}

const LOOPBACK_UP: &str = r#"
import fcntl, socket, struct
SIOCSIFFLAGS, IFF_UP_RUNNING = 0x8914, 0x41
control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP_RUNNING))
"#;

fn id_of(name: &str, is_user: bool) -> u32 {
    let name = match (name, is_user) {
        ("oxim", true) => build_settings::USER,
        ("oxim", false) => build_settings::GROUP,
        ("keeper", true) => build_settings::KEEPER_USER,
        ("keeper", false) => build_settings::KEEPER_GROUP,
        (name, _) => name,
    };
    if let Ok(number) = name.parse() {
        return number;
    }
    if is_user {
        nix::unistd::User::from_name(name)
            .expect("passwd")
            .unwrap_or_else(|| panic!("{name} was made"))
            .uid
            .as_raw()
    } else {
        nix::unistd::Group::from_name(name)
            .expect("group")
            .unwrap_or_else(|| panic!("{name} was made"))
            .gid
            .as_raw()
    }
}

fn check_owners(layout: &Layout) {
    for entry in entries(layout) {
        super::super::check_entry(&entry, &entry.path);
        let about = entry.path.symlink_metadata().expect("an entry");
        let (user, group) = &entry.owner;
        assert_eq!(about.uid(), id_of(user, true), "owner of {}", entry.path.display());
        assert_eq!(about.gid(), id_of(group, false), "group of {}", entry.path.display());
        let is_link = entry.kind == Kind::Link;
        assert!(!is_link || entry.path.exists(), "{} leads somewhere", entry.path.display());
    }
}

fn check_no_set_uid() {
    let places = ["/usr/local", "/etc/oxim", build_settings::SPOOL_DIRECTORY];
    let found = output_of(Command::new("find").args(places).args(["-perm", "/4000"]));
    assert_eq!(found, "", "set-uid files");
}

fn check_unit() {
    if have_tool("systemd-analyze") {
        // it also asks man for each page that the unit names, where man is there
        let mut command = Command::new("systemd-analyze");
        let said = output_of(command.args(["verify", "--man=no", "/etc/systemd/system/oxim.service"]));
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("oxim")).collect();
        assert!(ours.is_empty(), "{said}");
    }
}

/// The values of a setting of the installed unit.
fn unit_commands(name: &str) -> Vec<Vec<String>> {
    let unit = fs::read_to_string("/etc/systemd/system/oxim.service").expect("the unit");
    let lines = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let commands: Vec<Vec<String>> =
        lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
    assert!(!commands.is_empty(), "the unit has {name}");
    commands
}

fn start_by_the_unit(layout: &Layout) -> Child {
    let system = |words: &[String]| {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").current_dir("/");
        command.stdin(Stdio::null());
        command
    };
    for words in unit_commands("ExecStartPre") {
        output_of(&mut system(&words));
    }
    let [words] = &unit_commands("ExecStart")[..] else { panic!("the unit starts one program") };
    let mut daemon = system(words).spawn().expect("starting the daemon");
    wait_until("the daemon to listen", || {
        if let Some(status) = daemon.try_wait().expect("the daemon") {
            panic!("the daemon ended: {status}\n{}", main_log(layout));
        }
        main_log(layout).contains("daemon started")
    });
    assert!(main_log(layout).contains("-q30m, listening for SMTP on port 25"), "{}", main_log(layout));
    daemon
}

fn reload_by_the_unit(daemon: &Child, layout: &Layout) {
    let before = main_log(layout).matches("daemon started").count();
    for words in unit_commands("ExecReload") {
        let words = words.iter().map(|word| word.replace("$MAINPID", &daemon.id().to_string()));
        let words: Vec<String> = words.collect();
        output_of(Command::new(&words[0]).args(&words[1..]));
    }
    wait_until("the reload", || {
        main_log(layout).contains("SIGHUP received")
            && main_log(layout).matches("daemon started").count() > before
    });
}

/// As systemd stops it: SIGTERM, and then it has to end by itself.
fn stop(daemon: &mut Child) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(daemon.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("SIGTERM");
    wait_until("the daemon's end", || daemon.try_wait().expect("the daemon").is_some());
}

fn main_log(layout: &Layout) -> String {
    fs::read_to_string(layout.log.join("mainlog")).unwrap_or_default()
}

/// An ordinary user hands over a message with the installed `sendmail`.
fn submit(from: &str, to: &str, subject: &str) {
    let mut child = as_user("/usr/local/sbin/sendmail", from)
        .args(["-oi", "-t"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sendmail");
    let text = format!("To: {to}\nSubject: {subject}\n\nText\n");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("writing");
    let output = child.wait_with_output().expect("sendmail");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "sendmail: {} {said}", output.status);
}

fn over_smtp(to: &str, subject: &str) {
    let mut stream = TcpStream::connect("127.0.0.1:25").expect("port 25");
    stream.set_read_timeout(Some(DEADLINE)).expect("a time limit");
    let mut answers = BufReader::new(stream.try_clone().expect("a copy"));
    let mut expect = |code: &str| {
        let mut line = String::new();
        loop {
            line.clear();
            answers.read_line(&mut line).expect("an answer");
            if line.as_bytes().get(3) != Some(&b'-') {
                break;
            }
        }
        assert!(line.starts_with(code), "{line}");
    };
    expect("220");
    let message = format!("Subject: {subject}\r\n\r\nText\r\n.");
    let to = format!("RCPT TO:<{to}@localhost>");
    let commands = [
        ("EHLO localhost", "250"),
        ("MAIL FROM:<ann@localhost>", "250"),
        (to.as_str(), "250"),
        ("DATA", "354"),
        (message.as_str(), "250"),
        ("QUIT", "221"),
    ];
    for (command, code) in commands {
        stream.write_all(format!("{command}\r\n").as_bytes()).expect("writing");
        expect(code);
    }
}

fn mail_of(user: &str) -> Vec<std::path::PathBuf> {
    let directory = Path::new("/home").join(user).join("Maildir/new");
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn wait_for_mail(user: &str, subject: &str) {
    let wanted = format!("Subject: {subject}\n");
    wait_until(&format!("{user}'s message {subject:?}"), || {
        mail_of(user).iter().any(|path| fs::read_to_string(path).is_ok_and(|text| text.contains(&wanted)))
    });
}

fn check_mail_is_bobs() {
    let bob = id_of("bob", true);
    let mail = mail_of("bob");
    assert_eq!(mail.len(), 3);
    for path in mail {
        let about = path.metadata().expect("a message");
        assert_eq!(about.uid(), bob);
        assert_eq!(about.mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).expect("a message");
        let from_ann = text.contains("Return-path: <ann@");
        assert!(from_ann && text.contains("Envelope-to: bob@"), "{text}");
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !is_so() {
        let log = fs::read_to_string(Path::new(build_settings::SPOOL_DIRECTORY).join("log/mainlog"));
        assert!(Instant::now() < end, "waited in vain for {what}; log:\n{}", log.unwrap_or_default());
        std::thread::sleep(Duration::from_millis(20));
    }
}
