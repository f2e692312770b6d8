//! SIGHUP while mail comes in: no connection is refused or kept waiting, no message that was answered with 250 is
//! forgotten, although nothing but the trigger tells of it (no queue run).

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/smtp_client.rs"]
mod smtp_client;

use daemon::{Place, Program};
use smtp_client::Smtp;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const TEXT: &str = "acl_smtp_rcpt = accept\ntls_advertise_hosts =\nbegin routers\nall:\n  driver = accept\n  \
     transport = box\nbegin transports\nbox:\n  driver = appendfile\n  directory = @DIR@/mail\n  maildir_format\n  \
     user = @USER@\nbegin retry\n* * F,2h,15m\n";
const CLIENTS: usize = 10;
const MESSAGES: usize = 30;

#[test]
fn a_reload_under_load_costs_no_connection_and_no_message() {
    let daemon = Place::new(Program::Oxim, TEXT).daemon();
    let sent = AtomicUsize::new(0);
    let mut reloads = 0;
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                for _ in 0..MESSAGES {
                    let mut smtp = Smtp::connect(daemon.port);
                    for line in ["HELO x\r\n", "MAIL FROM:<>\r\n", "RCPT TO:<a@x.test>\r\n", "DATA\r\n"] {
                        let reply = smtp.say(line);
                        assert!(reply.starts_with(['2', '3']), "{line}: {reply}");
                    }
                    let reply = smtp.say("Subject: x\r\n\r\nText\r\n.\r\n");
                    assert!(reply.starts_with("250 OK id="), "{reply}");
                    sent.fetch_add(1, Ordering::Relaxed);
                    assert!(smtp.say("QUIT\r\n").starts_with("221 "));
                }
            });
        }
        let master = nix::unistd::Pid::from_raw(i32::try_from(daemon.pid()).unwrap());
        while sent.load(Ordering::Relaxed) < CLIENTS * MESSAGES && reloads < 200 {
            nix::sys::signal::kill(master, nix::sys::signal::Signal::SIGHUP).unwrap();
            reloads += 1;
            // not to wait for something: the load goes on between two reloads
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    daemon.place.wait_for_mail(CLIENTS * MESSAGES);
    let log = daemon.place.log();
    assert!(log.matches("SIGHUP received").count() > 1, "{reloads} reloads; {log}");
    assert!(!log.contains("cannot begin"), "{log}");
    assert!(!daemon.place.path("log/paniclog").exists());
}
