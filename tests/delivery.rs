//! Whole deliveries: a configuration, a message in the spool, and what the log, the mailboxes, the spool and
//! the bounces then hold. Lines are compared with what exim4 4.96 wrote for the same configuration.

#[path = "support/lab/mod.rs"]
#[allow(dead_code, reason = "each test program uses its part of the lab")]
mod lab;

use bstr::{BString, ByteSlice};
use lab::{lab, lab_with};
use oxim::as_user::order::{Answer, AsUser, Identity, Order, Trouble};
use oxim::deliver::here::Here;
use oxim::deliver::{self, Delivery, How, OwnMail};
use oxim::log::Which;
use oxim::mail::MessageId;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn a_message_lies_in_the_maildir_and_is_gone_from_the_spool() {
    let lab = lab();
    let (delivery, lines) = lab.deliver(&["a1@lab.example", "bob+x@lab.example"]);
    assert_eq!(
        lines,
        [
            "=> a1 <a1@lab.example> R=local T=maildir",
            "=> bob <bob+x@lab.example> R=local T=maildir",
            "Completed"
        ]
    );
    assert_eq!(delivery, Delivery::Completed);
    assert!(lab.spool_is_empty());
    let mails = lab.files("mail/a1/new");
    assert_eq!(mails.len(), 1);
    assert!(
        mails[0]
            .starts_with(b"Return-path: <sender@lab.example>\nEnvelope-to: a1@lab.example\nDelivery-date: ")
    );
    assert!(mails[0].ends_with(b"+0000\n\nbody line\n.dot\nFrom x\n"));
}

#[test]
fn redirections_are_logged_as_exim_logs_them() {
    for (to, expected) in [
        ("hole@lab.example", vec!["=> :blackhole: <hole@lab.example> R=alias", "Completed"]),
        (
            "dup@lab.example",
            vec![
                "=> a1 <dup@lab.example> R=local T=maildir",
                "=> a2 <dup@lab.example> R=local T=maildir",
                "Completed",
            ],
        ),
        (
            "deep@lab.example",
            vec![
                "=> :blackhole: <hole@lab.example> R=alias",
                "=> a1 (two@lab.example) <deep@lab.example> R=local T=maildir",
                "=> a2 (two@lab.example) <deep@lab.example> R=local T=maildir",
                "Completed",
            ],
        ),
        (
            "self@lab.example",
            vec![
                "** self@lab.example: Unknown: self",
                "=> a1 <self@lab.example> R=local T=maildir",
                "Completed",
            ],
        ),
        ("defer1@lab.example", vec!["== defer1@lab.example R=alias defer (-1): try again later"]),
        (
            "ignored@lab.example",
            vec![
                "** nobody@lab.example <ignored@lab.example>: Unknown: nobody",
                "nobody@lab.example <ignored@lab.example>: error ignored",
                "Completed",
            ],
        ),
        (
            "x@nx.example",
            vec![
                "no IP address found for host nonexist.invalid",
                "== x@nx.example R=remote defer (-32): lookup of host \"nonexist.invalid\" failed in remote router",
            ],
        ),
        (
            "baddir@lab.example",
            vec![
                "== baddir@lab.example R=bad T=badmaildir defer (2): No such file or directory: \
                 stat() error for /nonexistent/x: No such file or directory",
            ],
        ),
    ] {
        assert_eq!(lab().deliver(&[to]).1, expected, "{to}");
    }
}

#[test]
fn a_partly_delivered_message_remembers_what_is_done() {
    let lab = lab();
    let (delivery, lines) = lab.deliver(&["bob@lab.example", "chain1@lab.example", "two@lab.example"]);
    let file = format!("{}/mail/thefile", lab.root.path().display());
    assert_eq!(
        lines,
        [
            "== defer1@lab.example <chain1@lab.example> R=alias defer (-1): try again later",
            "== defer1@lab.example <bob@lab.example> R=alias defer (-1): try again later",
            "=> a1 (two@lab.example) <bob@lab.example> R=local T=maildir",
            "=> a2 (two@lab.example) <bob@lab.example> R=local T=maildir",
            "=> a3 (chain2@lab.example) <chain1@lab.example> R=local T=maildir",
            "=> bob <bob@lab.example> R=local T=maildir",
            &format!("=> {file} <bob@lab.example> R=alias T=address_file"),
        ]
    );
    assert_eq!(delivery, Delivery::Deferred);
    let id = MessageId::parse(b"1xVUu5-00034b-1P").unwrap();
    let message = oxim::spool::Message::open(&lab.env.layout, &id).unwrap();
    let done: Vec<String> = message.envelope.done.iter().map(|d| d.to_string()).collect();
    assert_eq!(
        done,
        [
            &format!("{file}:bob@lab.example"),
            "a1@lab.example",
            "a2@lab.example",
            "a3@lab.example",
            "bob@lab.example/maildir",
            "chain2@lab.example",
            "two@lab.example"
        ]
    );
    drop(message);
    deliver::deliver(&lab.env, &id, How { force: true, queue_run: true, ..How::default() });
    assert_eq!(lab.lines().len(), 9, "{:?}", lab.lines());
}

#[test]
fn a_bounce_says_what_exims_says() {
    let lab = lab();
    let (_, lines) =
        lab.deliver(&["no@rem.example", "nobody@lab.example", "a1@lab.example", "fail1@lab.example"]);
    assert_eq!(
        lines,
        [
            "** fail1@lab.example R=alias: this user is gone",
            "** nobody@lab.example: Unknown: nobody",
            "=> a1 <a1@lab.example> R=local T=maildir",
            "** no@rem.example R=remote T=smtp H=127.0.0.1 [127.0.0.1]: SMTP error from remote mail server \
             after RCPT TO:<no@rem.example>: 550-no such\\n550 user here",
            "Completed"
        ]
    );
    let sent = lab.outbox.0.lock().unwrap();
    let text = sent[0].text.to_str_lossy();
    let boundary = text.split("boundary=").nth(1).unwrap().lines().next().unwrap().to_owned();
    let text = text.replace(&boundary, "BOUNDARY");
    let expected = "\
X-Failed-Recipients: no@rem.example,
  nobody@lab.example,
  fail1@lab.example
Auto-Submitted: auto-replied
From: Mail Delivery System <Mailer-Daemon@lab.example>
To: sender@lab.example
References: <E1xVUu5-00034b-1P@lab.example>
Content-Type: multipart/report; report-type=delivery-status; boundary=BOUNDARY
MIME-Version: 1.0
Subject: Mail delivery failed: returning message to sender

--BOUNDARY
Content-type: text/plain; charset=us-ascii

This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  no@rem.example
    host 127.0.0.1 [127.0.0.1]
    SMTP error from remote mail server after RCPT TO:<no@rem.example>:
    550-no such
    550 user here
  nobody@lab.example
    Unknown: nobody
  fail1@lab.example
    this user is gone

--BOUNDARY
Content-type: message/delivery-status

Reporting-MTA: dns; lab.example

Action: failed
Final-Recipient: rfc822;fail1@lab.example
Status: 5.0.0

Action: failed
Final-Recipient: rfc822;nobody@lab.example
Status: 5.0.0

Action: failed
Final-Recipient: rfc822;no@rem.example
Status: 5.0.0
Remote-MTA: dns; 127.0.0.1
Diagnostic-Code: smtp; 550-no such
 550 user here

--BOUNDARY
Content-type: message/rfc822

Return-path: <sender@lab.example>
Subject: test
From: sender@lab.example
Message-Id: <E1xVUu5-00034b-1P@lab.example>
Date: Mon, 23 Nov 2026 14:20:21 +0000

body line
.dot
From x

--BOUNDARY--
";
    similar(expected, &text);
}

fn similar(expected: &str, text: &str) {
    for (number, (one, two)) in expected.lines().zip(text.lines()).enumerate() {
        assert_eq!(one, two, "line {number} of\n{text}");
    }
    assert_eq!(expected.len(), text.len());
}

#[test]
fn a_host_that_is_down_is_tried_again_when_its_time_has_come() {
    let lab = lab();
    let (delivery, lines) = lab.deliver(&["down@rem.example"]);
    assert_eq!(lines, ["== down@rem.example R=remote T=smtp defer (111): Connection refused"]);
    assert_eq!(delivery, Delivery::Deferred);
    let id = MessageId::parse(b"1xVUu5-00034b-1P").unwrap();
    deliver::deliver(&lab.env, &id, How { queue_run: true, ..How::default() });
    assert_eq!(
        lab.lines().pop().unwrap(),
        "== down@rem.example R=remote T=smtp defer (-54): retry time not reached for any host for 'rem.example'"
    );
    deliver::deliver(&lab.env, &id, How { force: true, ..How::default() });
    assert_eq!(lab.lines().len(), 3);
}

#[test]
fn several_recipients_of_one_host_go_together() {
    let lab = lab();
    let (_, lines) =
        lab.deliver(&["ok@rem.example", "no@rem.example", "later@rem.example", "ok2@rem.example"]);
    assert_eq!(lines[0], "=> ok@rem.example R=remote T=smtp H=127.0.0.1 [127.0.0.1] C=\"250 taken id=7\"");
    assert_eq!(
        lines[2],
        "== later@rem.example R=remote T=smtp defer (-44) H=127.0.0.1 [127.0.0.1]: \
         SMTP error from remote mail server after RCPT TO:<later@rem.example>: 451 try later"
    );
    assert_eq!(lines[3], "-> ok2@rem.example R=remote T=smtp H=127.0.0.1 [127.0.0.1] C=\"250 taken id=7\"");
}

#[test]
fn a_message_that_is_too_old_times_out_and_bounces() {
    let lab = lab_with("F,1h,15m", "");
    let id = lab.spool(
        "1xVUu5-00034b-1P",
        "sender@lab.example",
        &["defer1@lab.example"],
        Duration::from_secs(7200),
    );
    let delivery = deliver::deliver(&lab.env, &id, How { queue_run: true, ..How::default() });
    assert_eq!(
        lab.lines(),
        [
            "== defer1@lab.example R=alias defer (-1): try again later",
            "** defer1@lab.example: retry timeout exceeded",
            "Completed"
        ]
    );
    assert_eq!(delivery, Delivery::Completed);
    let sent = lab.outbox.0.lock().unwrap();
    assert!(sent[0].text.contains_str("  defer1@lab.example\n    try again later: retry timeout exceeded\n"));
}

#[test]
fn a_bounce_that_fails_is_frozen_then_thawed_by_force_and_in_the_end_ignored() {
    let lab = lab_with("F,1h,15m", "ignore_bounce_errors_after = 2h\n");
    let id = lab.spool("1xVUu5-00034b-1P", "", &["nobody@lab.example"], Duration::from_secs(3600));
    assert_eq!(deliver::deliver(&lab.env, &id, How::default()), Delivery::Frozen);
    deliver::deliver(&lab.env, &id, How { queue_run: true, ..How::default() });
    deliver::deliver(&lab.env, &id, How { queue_run: true, force: true, thaw: true, ..How::default() });
    assert_eq!(
        lab.lines(),
        [
            "** nobody@lab.example: Unknown: nobody",
            "Frozen (delivery error message)",
            "Message is frozen",
            "Unfrozen by forced delivery",
            "** nobody@lab.example: Unknown: nobody",
            "Frozen (delivery error message)",
        ]
    );
    let lab = lab_with("F,1h,15m", "ignore_bounce_errors_after = 30m\n");
    let id = lab.spool("1xVUu5-00034b-1P", "", &["nobody@lab.example"], Duration::from_secs(3600));
    assert_eq!(deliver::deliver(&lab.env, &id, How::default()), Delivery::Completed);
    assert_eq!(lab.lines()[1], "nobody@lab.example: error ignored");
}

/// The lab's outbox gives this id to whatever is submitted; here it is a message that waits to be delivered.
const BOUNCE: &str = "1xVUu5-000ZZZ-1P";

/// Delivers a message that bounces, and gives what the log says, and whether the bounce was announced.
fn bounced(own_mail: OwnMail, options: &str) -> (Vec<String>, bool) {
    let lab = lab_with("F,2h,15m", options);
    let id = lab.spool("1xVUu5-00034b-1P", "sender@rem.example", &["fail1@other.example"], Duration::ZERO);
    lab.spool(BOUNCE, "", &["a1@lab.example"], Duration::ZERO);
    assert_eq!(deliver::deliver(&lab.env, &id, How { own_mail, ..How::default() }), Delivery::Completed);
    let announced = !lab.outbox.0.lock().unwrap()[0].unannounced;
    (lab.lines().split_off(1), announced)
}

#[test]
fn a_bounce_is_delivered_when_whoever_waits_for_it_needs_it() {
    const DELIVERED: &str = "=> a1 <a1@lab.example> R=local T=maildir";
    let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let done = "Completed";
    assert_eq!(bounced(OwnMail::Announced, ""), (lines(&[done]), true));
    assert_eq!(bounced(OwnMail::AtOnce, ""), (lines(&[DELIVERED, done, done]), false));
    assert_eq!(bounced(OwnMail::After, ""), (lines(&[done, DELIVERED, done]), false));
    for own_mail in [OwnMail::Announced, OwnMail::After] {
        assert_eq!(bounced(own_mail, "queue_only\n"), (lines(&[done]), false), "{own_mail:?}");
    }
    assert_eq!(bounced(OwnMail::AtOnce, "queue_only\n").0.len(), 3);
}

#[test]
fn what_was_bounced_is_in_the_journal_before_the_bounce_is_delivered() {
    let held = "hold_domains = ${if exists{ROOT/spool/input/1xVUu5-00034b-1P-J}{}{lab.example}}\n";
    let (lines, _) = bounced(OwnMail::AtOnce, held);
    assert_eq!(lines[0], "=> a1 <a1@lab.example> R=local T=maildir", "{lines:?}");
}

#[test]
fn a_late_message_is_told_about_once_in_each_interval() {
    let lab = lab_with("F,4d,15m", "delay_warning = 1h\n");
    let id = lab.spool(
        "1xVUu5-00034b-1P",
        "sender@lab.example",
        &["defer1@lab.example"],
        Duration::from_secs(5400),
    );
    for _ in 0..2 {
        deliver::deliver(&lab.env, &id, How { force: true, ..How::default() });
    }
    let sent = lab.outbox.0.lock().unwrap();
    assert_eq!(sent.len(), 1);
    let text = sent[0].text.to_str_lossy();
    assert!(text.contains("Subject: Warning: message 1xVUu5-00034b-1P delayed 60 minutes\n"), "{text}");
    assert!(text.contains(
        "The subject of the message is: test\nThe date of the message is:    Mon, 23 Nov 2026 14:20:21 +0000\n\n\
         The address to which the message has not yet been delivered is:\n\n  defer1@lab.example\n    \
         Delay reason: try again later\n\nNo action is required"
    ), "{text}");
}

#[test]
fn a_corrupt_header_file_is_named_once_for_each_change_and_delivered_when_it_is_mended() {
    let lab = lab_with("F,2h,15m", "freeze_tell = postmaster\n");
    let id = lab.spool("1xVUu5-00034b-1P", "", &["a1@lab.example"], Duration::ZERO);
    let file = lab.root.path().join("spool/input/1xVUu5-00034b-1P-H");
    let good = std::fs::read(&file).unwrap();
    let tried = |how| {
        let delivery = deliver::deliver(&lab.env, &id, how);
        let panic = lab.log.lines().into_iter().filter(|(which, _)| *which == Which::Panic).count();
        (delivery, panic)
    };
    let run = How { queue_run: true, ..How::default() };
    let forced = How { force: true, thaw: true, ..run };
    std::fs::write(&file, "garbage\n").unwrap();
    assert_eq!(tried(run), (Delivery::Frozen, 1));
    let named = "1xVUu5-00034b-1P Format error in spool file 1xVUu5-00034b-1P-H: size=8";
    assert!(lab.log.lines().iter().any(|(which, text)| *which == Which::Panic && text == named));
    assert_eq!([tried(run), tried(forced), tried(run)], [(Delivery::Frozen, 1); 3]);
    let told = lab.outbox.0.lock().unwrap().clone();
    assert_eq!((told.len(), told[0].recipients[0].to_bytes()), (1, "postmaster@lab.example".into()));
    assert!(told[0].local_error && told[0].text.contains_str("1P-H line 1: expected the file's own name"));
    let changed = || std::os::unix::fs::MetadataExt::ctime_nsec(&std::fs::metadata(&file).unwrap());
    let before = changed();
    while changed() == before {
        std::fs::write(&file, "garbagE\n").unwrap(); // the clock of the file system may be coarse
    }
    assert_eq!([tried(run), tried(run)], [(Delivery::Frozen, 2); 2], "another file of the same size");
    let hints = lab.root.path().join("spool/db/hints.sqlite3");
    std::fs::remove_file(hints).unwrap();
    assert_eq!(tried(run), (Delivery::Frozen, 3), "hints may be lost: it is named again, no more");
    std::fs::write(&file, good).unwrap();
    assert_eq!(tried(run), (Delivery::Completed, 3));
    assert_eq!(lab.env.hints.all_damaged().len(), 1);
    deliver::damaged::tidy(&lab.env);
    assert_eq!(lab.env.hints.all_damaged(), vec![]);
}

#[test]
fn a_message_that_lost_its_body_is_named_once_and_kept() {
    let lab = lab();
    let id = lab.spool("1xVUu5-00034b-1P", "", &["a1@lab.example"], Duration::ZERO);
    let body = lab.root.path().join("spool/input/1xVUu5-00034b-1P-D");
    let kept = std::fs::read(&body).unwrap();
    std::fs::remove_file(&body).unwrap();
    for _ in 0..2 {
        let delivery = deliver::deliver(&lab.env, &id, How { queue_run: true, ..How::default() });
        assert_eq!(delivery, Delivery::Frozen);
    }
    let panic: Vec<_> = lab.log.lines().into_iter().filter(|(which, _)| *which == Which::Panic).collect();
    assert_eq!(panic.len(), 1);
    assert_eq!(panic[0].1, "1xVUu5-00034b-1P Spool file 1xVUu5-00034b-1P-D not found");
    std::fs::write(&body, kept).unwrap();
    assert_eq!(deliver::deliver(&lab.env, &id, How::default()), Delivery::Completed);
    std::fs::remove_dir_all(lab.root.path().join("spool/input")).unwrap();
    assert_eq!(deliver::deliver(&lab.env, &id, How::default()), Delivery::Skipped, "it is gone for good");
}

#[test]
fn an_mbox_gets_its_separator_and_quoted_from_lines() {
    let lab = lab();
    let (_, lines) = lab.deliver(&["mbox@lab.example"]);
    assert_eq!(lines, ["=> mbox <mbox@lab.example> R=mbox T=mboxt", "Completed"]);
    let text = BString::from(std::fs::read(lab.root.path().join("mail/mbox")).unwrap());
    assert!(text.starts_with(b"From sender@lab.example "), "{text}");
    assert!(text.ends_with(b"\n\nbody line\n.dot\n>From x\n\n"), "{text}");
    assert!(!lab.root.path().join("mail/mbox.lock").exists());
}

#[test]
fn a_message_that_a_killed_writer_left_half_written_does_not_swallow_the_next() {
    let lab = lab();
    let mailbox = lab.root.path().join("mail/mbox");
    std::fs::write(&mailbox, "From a@b Mon\nSubject: torn\n\nhalf a li").unwrap();
    std::fs::set_permissions(&mailbox, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (delivery, _) = lab.deliver(&["mbox@lab.example"]);
    assert_eq!(delivery, Delivery::Completed);
    let text = BString::from(std::fs::read(mailbox).unwrap());
    assert!(
        text.starts_with(b"From a@b Mon\nSubject: torn\n\nhalf a li\n\nFrom sender@lab.example "),
        "{text}"
    );
}

/// An order that our own machinery does not carry out.
struct Broken(fn() -> io::Result<Answer>);

impl AsUser for Broken {
    fn carry_out(&self, _: &Identity, _: &Order, _: &[&File]) -> io::Result<Answer> {
        (self.0)()
    }
}

#[test]
fn an_order_that_is_not_carried_out_defers_and_never_bounces_whatever_the_retry_rules_say() {
    let killed = || Err(io::Error::from(io::ErrorKind::UnexpectedEof));
    let refused = || Ok(Answer::Trouble(Trouble::ours("not one of the configuration's")));
    let nonsense = || Ok(Answer::Checked(Vec::new()));
    for broken in [killed as fn() -> io::Result<Answer>, refused, nonsense] {
        // a rule without steps: whatever is deferred is given up at once
        let mut lab = lab_with("", "");
        lab.env.as_user = Arc::new(Broken(broken));
        let (delivery, lines) = lab.deliver(&["a1@lab.example"]);
        assert_eq!(delivery, Delivery::Deferred, "{lines:?}");
        assert!(lines.iter().all(|line| line.starts_with("== ")), "{lines:?}");
        assert!(lab.outbox.0.lock().unwrap().is_empty());
        lab.env.as_user = Arc::new(Here);
        let id = MessageId::parse(b"1xVUu5-00034b-1P").unwrap();
        let again = deliver::deliver(&lab.env, &id, How { queue_run: true, ..How::default() });
        assert_eq!(again, Delivery::Completed);
        assert_eq!(lab.files("mail/a1/new").len(), 1);
    }
}

#[test]
fn a_recipient_given_twice_shares_the_fate_of_the_first() {
    for (to, left) in [("down@rem.example", 1), ("ok@rem.example", 0), ("defer1@lab.example", 2)] {
        let lab = lab();
        let (delivery, lines) = lab.deliver(&[to, to]);
        assert_eq!(delivery == Delivery::Completed, left == 0, "{lines:?}");
        assert_eq!(lines.iter().filter(|line| line.starts_with("==")).count(), left, "{lines:?}");
        if left > 0 {
            let id = MessageId::parse(b"1xVUu5-00034b-1P").unwrap();
            assert!(oxim::spool::Message::open(&lab.env.layout, &id).unwrap().envelope.done.is_empty());
        }
    }
}

#[test]
fn a_copy_that_went_on_keeps_its_recipient_in_the_queue_until_it_is_done() {
    let lab = lab();
    let (delivery, lines) = lab.deliver(&["copied@lab.example"]);
    assert_eq!(
        lines,
        [
            "== copied@lab.example R=later defer (-1): not yet",
            "=> copied <copied@lab.example> R=copy T=maildir"
        ]
    );
    assert_eq!(delivery, Delivery::Deferred);
    let id = MessageId::parse(b"1xVUu5-00034b-1P").unwrap();
    let message = oxim::spool::Message::open(&lab.env.layout, &id).unwrap();
    let done: Vec<String> = message.envelope.done.iter().map(|d| d.to_string()).collect();
    assert_eq!(done, ["copied@lab.example/maildir"]);
    drop(message);
    deliver::deliver(&lab.env, &id, How { force: true, ..How::default() });
    assert_eq!(lab.lines().len(), 3, "{:?}", lab.lines());
}
