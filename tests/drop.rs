//! Messages that are left in `drop/` by the set-gid program while no daemon runs, and what a daemon makes of them and of
//! anything else that lies there.
//!
//! Needs root: several users, and a private /etc with the installed configuration (tests/support/parity/world.rs).

#[path = "support/parity/mod.rs"]
#[allow(dead_code, reason = "cases are played elsewhere")]
mod parity;

use parity::case::Caller;
use parity::world::{Call, Mode, Program, Workshop, World};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Output;

const CONFIGURATION: &str = "@PRELUDE@\nmessage_size_limit = 1M\nbegin routers\n@ROUTER_LOCAL@\nbegin transports\n\
                             @TRANSPORT_MAILDIR@\n";
/// The caller of `World`.
const CALLER: u32 = 64911;

/// A place with the program installed as `make install` does it, and `drop/` made by a daemon that ran once.
struct Place {
    world: World,
    _workshop: Workshop,
}

impl Place {
    /// None without root.
    fn new(name: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            assert!(std::env::var_os("OXIM_REQUIRE_ROOT").is_none(), "CI skips nothing");
            eprintln!("skipped: needs root");
            return None;
        }
        let workshop = Workshop::named(Program::Oxim, Path::new(env!("CARGO_BIN_EXE_oxim")), name).unwrap();
        let world = World::new(&workshop, name, Mode::Daemon).unwrap();
        world.write_file("exim.conf", 0o644, CONFIGURATION).unwrap();
        let mut place = Self { world, _workshop: workshop };
        let binary = place._workshop.directory.join("bin/oxim");
        chown(&binary, Some(0), Some(place.oxim().1)).unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o2755)).unwrap();
        place.world.start_daemon(&[]).unwrap();
        place.world.stop_daemon().unwrap();
        Some(place)
    }

    /// uid and gid of oxim.
    fn oxim(&self) -> (u32, u32) {
        let about = fs::metadata(self.world.directory.join("spool")).unwrap();
        (about.uid(), about.gid())
    }

    fn drop(&self) -> PathBuf {
        self.world.directory.join("spool/drop")
    }

    /// As the ordinary user.
    fn call(&self, arguments: &[&str], input: &str) -> Output {
        let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        let call = Call { caller: Caller::User, name: None, bare: false, arguments: &arguments, input };
        self.world.call(&call).unwrap()
    }

    fn leave(&self, subject: &str) {
        let output = self.call(&["-i", "ann"], &format!("Subject: {subject}\n\nText\n"));
        assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output));
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.drop())
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// All mail of ann.
    fn mail(&self) -> String {
        let files = fs::read_dir(self.world.directory.join("mail/ann/new"));
        files.into_iter().flatten().flatten().map(|file| fs::read_to_string(file.path()).unwrap()).collect()
    }

    /// Runs a daemon until this text stands so often in the main log.
    fn run_daemon_until(&mut self, text: &str, count: usize) {
        self.world.start_daemon(&[]).unwrap();
        self.world.wait_mainlog(text, count).unwrap();
        self.world.stop_daemon().unwrap();
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_message_that_is_left_while_no_daemon_runs_is_delivered_by_the_next_one() {
    let Some(mut place) = Place::new("drop-delivered") else { return };
    let about = fs::metadata(place.drop()).unwrap();
    assert_eq!((about.mode() & 0o7777, about.uid(), about.gid()), (0o2730, place.oxim().0, place.oxim().1));
    place.leave("first");
    let output =
        place.call(&["-t", "-f", "other@elsewhere.example"], "To: ann, bob\nSubject: second\n\nText\n");
    assert!(output.status.success(), "{}", text(&output));
    let names = place.names();
    assert!(names.len() == 2 && names.iter().all(|name| name.starts_with("d-")), "{names:?}");
    for name in &names {
        let about = fs::metadata(place.drop().join(name)).unwrap();
        assert_eq!((about.uid(), about.gid(), about.mode() & 0o7777), (CALLER, place.oxim().1, 0o640));
    }
    place.run_daemon_until("Completed", 2);
    assert_eq!(place.names(), [""; 0]);
    let mail = place.mail();
    assert!(mail.contains("Subject: first") && mail.contains("Subject: second"), "{mail}");
    let log = place.world.mainlog();
    // The owner of the file is the caller; what he says of himself counts as little as ever.
    assert_eq!(log.matches("<= pcaller@test.example U=pcaller P=local").count(), 2, "{log}");
    assert!(!log.contains("other@elsewhere.example"), "{log}");
}

#[test]
fn the_group_is_for_the_drop_alone() {
    let Some(mut place) = Place::new("drop-group") else { return };
    for arguments in [
        vec!["-C", "/dev/null", "ann"],
        vec!["-DX=y", "ann"],
        vec!["-bs"],
        vec!["-bp"],
        vec!["-q"],
        vec!["-f", "not an address", "ann"],
    ] {
        let output = place.call(&arguments, "Subject: x\n\n");
        assert!(!output.status.success(), "{arguments:?}: {}", text(&output));
    }
    assert_eq!(place.names(), [""; 0]);
    // A log is for oxim's group to read, and not for a caller of a program that has it.
    let log = place.world.directory.join("log/mainlog").display().to_string();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o640)).unwrap();
    let output = place.call(&["-be", &format!("${{readfile{{{log}}}}}")], "");
    assert!(text(&output).contains("Permission denied"), "{}", text(&output));
    // Over the socket the kernel tells the caller's own group: oxim's would make everybody an administrator.
    place.world.start_daemon(&[]).unwrap();
    let output = place.call(&["-bp"], "");
    assert!(!output.status.success() && text(&output).contains("permission denied"), "{}", text(&output));
    let output = place.call(&["-odi", "ann"], "Subject: by the socket\n\n");
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(place.names(), [""; 0]);
    assert!(place.mail().contains("by the socket"));
}

#[test]
fn without_the_group_the_program_says_that_nobody_takes_the_message() {
    let Some(place) = Place::new("drop-without") else { return };
    let binary = place._workshop.directory.join("bin/oxim");
    fs::set_permissions(binary, fs::Permissions::from_mode(0o755)).unwrap();
    let output = place.call(&["ann"], "Subject: x\n\n");
    assert!(!output.status.success());
    assert!(text(&output).contains("no daemon of this build takes submissions there"), "{}", text(&output));
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn a_writer_that_is_killed_leaves_nothing_that_anybody_takes() {
    let Some(mut place) = Place::new("drop-killed") else { return };
    let script = "setpriv --reuid 64911 --regid 64911 --clear-groups -- @PROGRAM@ -i ann < run/pipe &\n\
                  pid=$!\n\
                  exec 3> run/pipe\n\
                  printf 'Subject: half\\n\\nText\\n' >&3\n\
                  for i in $(seq 100); do ls spool/drop | grep -q ^t- && break; sleep 0.05; done\n\
                  ls spool/drop | grep ^t-\n\
                  kill -9 $pid; wait $pid || true\n";
    let output = place.world.shell(&format!("mkfifo run/pipe\n{script}")).unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let names = place.names();
    assert!(names.len() == 1 && names[0].starts_with("t-"), "{names:?}");
    place.leave("whole");
    place.run_daemon_until("Completed", 1);
    assert_eq!(place.names(), names, "it may still be written");
    assert!(!place.mail().contains("half"));
    // A day later its writer is dead.
    let output = place.world.shell("touch -d '2 days ago' spool/drop/t-*").unwrap();
    assert!(output.status.success());
    place.leave("another");
    place.run_daemon_until("Completed", 2);
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn a_message_that_is_too_long_is_refused_while_its_sender_hears_it() {
    let Some(place) = Place::new("drop-long") else { return };
    let output = place.call(&["-i", "ann"], &format!("Subject: long\n\n{}\n", "x".repeat(2 << 20)));
    assert!(!output.status.success());
    assert!(text(&output).contains("longer than 1048576 bytes (message_size_limit)"), "{}", text(&output));
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn what_is_no_message_of_its_owner_is_named_and_the_next_one_is_taken() {
    let Some(mut place) = Place::new("drop-hostile") else { return };
    place.leave("model");
    let (uid, gid) = place.oxim();
    let model = place.drop().join(place.names()[0].clone());
    let output = place.world.shell(&format!(
        "cd spool/drop\n\
         ln -s /etc/passwd d-1-link\n\
         mkfifo d-2-fifo; chown {CALLER}:{gid} d-2-fifo\n\
         cp {model} ../../mail/victim; chown 64912:{gid} ../../mail/victim; ln ../../mail/victim d-3-hard\n\
         cp {model} d-4-group; chown {CALLER}:{CALLER} d-4-group\n\
         cp {model} d-5-nobody; chown 64999:{gid} d-5-nobody\n\
         truncate -s 500M d-6-huge; chown {CALLER}:{gid} d-6-huge\n\
         head -c 5000 /dev/urandom > d-7-garbage; chown {CALLER}:{gid} d-7-garbage\n\
         head -c 30 {model} > d-8-cut; chown {CALLER}:{gid} d-8-cut\n\
         mkdir d-9-dir; chown {CALLER}:{gid} d-9-dir\n\
         cp {model} other; chown {uid}:{gid} other\n\
         chmod 644 d-4-group\n\
         chmod 640 d-5-nobody d-6-huge d-7-garbage d-8-cut\n",
        model = model.display()
    ));
    let output = output.unwrap();
    assert!(output.status.success(), "{}", text(&output));
    place.leave("good");
    place.run_daemon_until("Completed", 2);
    let log = place.world.mainlog();
    for (name, why) in [
        ("d-1-link", "it is a symbolic link"),
        ("d-2-fifo", "it is no regular file"),
        ("d-3-hard", "it has 2 names"),
        ("d-4-group", "its group is another"),
        ("d-5-nobody", "there is no user of uid 64999"),
        ("d-6-huge", "it is too long"),
        ("d-7-garbage", "its content is not what this program writes"),
        ("d-8-cut", "its content is not what this program writes"),
        ("d-9-dir", "it is no regular file"),
    ] {
        let line = format!("drop/{name} is not taken in: {why}");
        let told = format!("drop/{name} is not taken in: ");
        assert!(log.lines().any(|l| l.contains(&told) && l.contains(why)), "{line}\n{log}");
    }
    let mail = place.mail();
    assert!(mail.contains("Subject: model") && mail.contains("Subject: good"), "{mail}");
    assert_eq!(log.matches(" <= ").count(), 2, "{log}");
    let names = place.names();
    assert!(names.iter().all(|name| !name.starts_with("d-")), "{names:?}");
    assert!(names.contains(&"other".to_owned()), "what is none of its files is left alone: {names:?}");
    assert!(place.world.directory.join("mail/victim").exists(), "the other name stays");
}
