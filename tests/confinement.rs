//! What the SMTP worker may write to: the spool and the logs, and nothing else (Landlock).

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/smtp_client.rs"]
mod smtp_client;

use daemon::{Place, Program, have, is_root};
use smtp_client::Smtp;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

const TEXT: &str = "acl_smtp_mail = mail\nacl_smtp_rcpt = accept\ntls_advertise_hosts =\nqueue_only\n\
     begin acl\nmail:\n  accept logwrite = seen @EXTRA@ $sender_address\nbegin routers\nbegin transports\n\
     begin retry\n* * F,2h,15m\n";

/// The log is turned to a file outside, which everybody may write; did the worker write there?
fn writes_outside(options: &str, extra: &str) -> bool {
    let outside = tempfile::tempdir().unwrap();
    fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let target = outside.path().join("file");
    fs::write(&target, "").unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o666)).unwrap();
    let daemon = Place::new(Program::Oxim, &format!("{options}{}", TEXT.replace("@EXTRA@", extra))).daemon();
    daemon.place.wait_for_log("daemon started");
    let mut smtp = Smtp::connect(daemon.port);
    smtp.say("EHLO x\r\n");
    assert!(smtp.say("MAIL FROM:<one@x.test>\r\n").starts_with("250 "));
    daemon.place.wait_for_log("one@x.test");
    let (log, old) = (daemon.place.path("log/mainlog"), daemon.place.path("log/old"));
    fs::rename(&log, &old).unwrap();
    symlink(&target, &log).unwrap();
    assert!(smtp.say("RSET\r\n").starts_with("250 "));
    assert!(smtp.say("MAIL FROM:<two@x.test>\r\n").starts_with("250 "));
    // A message is taken in all the same.
    assert!(smtp.say("RCPT TO:<b@x.test>\r\n").starts_with("250 "));
    assert!(smtp.say("DATA\r\n").starts_with("354 "));
    assert!(smtp.say("Subject: x\r\n\r\nText\r\n.\r\n").starts_with("250 OK id="));
    fs::read_to_string(&target).unwrap().contains("two@x.test")
}

/// Whether the kernel here can; in CI it must.
fn have_landlock() -> bool {
    let probe = std::thread::spawn(|| oxim::sys::sandbox::confine_writes(&["/dev/null".into()]).is_ok());
    have("Landlock", probe.join().unwrap())
}

#[test]
fn the_smtp_worker_writes_nowhere_but_in_the_spool_and_the_logs() {
    if have("root", is_root()) && have_landlock() {
        assert!(!writes_outside("", ""));
    }
}

#[test]
fn a_configuration_whose_writes_nobody_foresees_is_not_confined() {
    if have("root", is_root()) {
        assert!(writes_outside("", "${expand:x}"));
        assert!(writes_outside("gnutls_allow_auto_pkcs11\n", ""), "modules write where they like");
    }
}
