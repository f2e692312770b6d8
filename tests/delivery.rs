//! Whole deliveries: a configuration, a message in the spool, and what the log, the mailboxes, the spool and
//! the bounces then hold. Lines are compared with what exim4 4.96 wrote for the same configuration.

use bstr::{BString, ByteSlice};
use oxim::config::{self, ConfigError, Instance, MacroOverrides, Written};
use oxim::deliver::{self, Delivery, Env, Here, How};
use oxim::dns::{Answer, Mx, Resolver};
use oxim::expand::context::Globals;
use oxim::hints::Hints;
use oxim::load::tables::tables;
use oxim::log::{Log, Selector, Selectors, Which};
use oxim::mail::MessageId;
use oxim::route::Chain;
use oxim::spool::Layout;
use oxim::transport::{Delivered, Host, HostReport, Job, Outcome, Problem, Registry, Remote, Report};
use oxim::upward::{NewMessage, Submit};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const CONFIG: &str = "
primary_hostname = lab.example
qualify_domain = lab.example
domainlist local_domains = lab.example : other.example
never_users =
begin routers
list:
  driver = redirect
  domains = +local_domains
  local_parts = list
  data = a1, a2, fail1, defer1
alias:
  driver = redirect
  domains = +local_domains
  data = ${lookup{$local_part}lsearch{ALIASES}}
  allow_fail
  allow_defer
  file_transport = address_file
  errors_to = ${if eq{$local_part}{ignored}{}fail}
remote:
  driver = manualroute
  domains = ! +local_domains
  route_list = rem.example 127.0.0.1::2525 ; nx.example nonexist.invalid
  transport = smtp
  self = send
  host_find_failed = defer
local:
  driver = accept
  domains = +local_domains
  local_parts = a1 : a2 : a3 : bob : sender
  local_part_suffix = +*
  local_part_suffix_optional
  transport = maildir
bad:
  driver = accept
  domains = +local_domains
  local_parts = baddir
  transport = badmaildir
mbox:
  driver = accept
  domains = +local_domains
  local_parts = mbox
  transport = mboxt
last:
  driver = accept
  domains = +local_domains
  local_parts = never
  transport = maildir
  cannot_route_message = Unknown: $local_part
  no_more
begin transports
maildir:
  driver = appendfile
  directory = ROOT/mail/$local_part_data
  maildir_format
  delivery_date_add
  envelope_to_add
  return_path_add
badmaildir:
  driver = appendfile
  directory = /nonexistent/x
  maildir_format
  no_create_directory
mboxt:
  driver = appendfile
  file = ROOT/mail/mbox
  return_path_add
address_file:
  driver = appendfile
smtp:
  driver = smtp
begin retry
* * RULE
";

const ALIASES: &str = "\
fail1: :fail: this user is gone
defer1: :defer: try again later
hole: :blackhole:
two: a1, a2
dup: a1, a1, a2
deep: two, hole
self: self, a1
file: ROOT/mail/thefile
ignored: nobody
bob: bob, defer1, ROOT/mail/thefile, two
chain1: chain2, defer1
chain2: a3
";

/// Answers for every recipient what its local part says.
struct FakeRemote;

impl Remote for FakeRemote {
    fn deliver(&self, job: Job) -> Report {
        let host = job.hosts.first().cloned().expect("a host");
        let refused = Problem {
            errno: libc::ECONNREFUSED,
            more_errno: i32::from(b'A'),
            host: Some(host.clone()),
            host_problem: true,
            ..Problem::default()
        };
        let mut problem = None;
        let outcomes = job
            .addresses
            .iter()
            .map(|address| match address.address.local_part().as_bytes() {
                b"down" => {
                    problem = Some(refused.clone());
                    Outcome::Deferred(refused.clone())
                }
                b"no" => Outcome::Failed(rcpt(&host, "no", "550-no such\\n550 user here", 0)),
                b"later" => Outcome::Deferred(rcpt(&host, "later", "451 try later", -44)),
                _ => Outcome::Delivered(Delivered {
                    host: Some(host.clone()),
                    confirmation: "250 taken id=7".into(),
                    ..Delivered::default()
                }),
            })
            .collect();
        Report { outcomes, hosts: vec![HostReport { host, problem }] }
    }
}

fn rcpt(host: &Host, local: &str, response: &str, errno: i32) -> Problem {
    let text = format!("SMTP error from remote mail server after RCPT TO:<{local}@rem.example>: {response}");
    Problem { text: text.into(), errno, more_errno: 51 << 8, host: Some(host.clone()), ..Problem::default() }
}

struct NoDns;

impl Resolver for NoDns {
    fn addresses(&self, _: &[u8]) -> Answer<IpAddr> {
        Answer::NoName
    }
    fn names(&self, _: IpAddr) -> Answer<BString> {
        Answer::NoName
    }
    fn mx(&self, _: &[u8]) -> Answer<Mx> {
        Answer::NoName
    }
    fn txt(&self, _: &[u8]) -> Answer<BString> {
        Answer::NoName
    }
}

#[derive(Default)]
struct Outbox(Mutex<Vec<NewMessage>>);

impl Submit for Outbox {
    fn submit(&self, new: NewMessage) -> io::Result<MessageId> {
        self.0.lock().unwrap().push(new);
        Ok(MessageId::parse(b"1xVUu5-000ZZZ-1P").unwrap())
    }
}

struct Lab {
    root: tempfile::TempDir,
    env: Env,
    outbox: Arc<Outbox>,
    log: Arc<Log>,
}

fn read_config(text: &str) -> Written {
    let mut opener = |path: &Path| std::fs::read(path).map(Some);
    let (written, errors) = config::read(
        Path::new("lab.conf"),
        text.as_bytes(),
        &MacroOverrides::default(),
        &tables(),
        &mut opener,
    );
    assert!(errors.is_empty(), "{errors:?}");
    written.expect("a configuration")
}

fn remote(_: &Instance) -> Result<Arc<dyn Remote>, Vec<ConfigError>> {
    Ok(Arc::new(FakeRemote))
}

fn lab() -> Lab {
    lab_with("F,2h,15m; G,16h,1h,1.5; F,4d,6h", "")
}

fn lab_with(rule: &str, extra: &str) -> Lab {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().to_str().unwrap();
    std::fs::create_dir_all(root.path().join("spool/input")).unwrap();
    std::fs::create_dir_all(root.path().join("mail")).unwrap();
    std::fs::write(root.path().join("aliases"), ALIASES.replace("ROOT", path)).unwrap();
    let text = format!("{extra}{CONFIG}")
        .replace("ALIASES", &format!("{path}/aliases"))
        .replace("ROOT", path)
        .replace("RULE", rule);
    let written = read_config(&text);
    let mut selectors = Selectors::default();
    selectors.add(Selector::AllParents);
    let log = Arc::new(Log::memory_with(selectors));
    let spool = root.path().join("spool");
    let globals = Arc::new(Globals {
        main: written.main.clone(),
        lists: written.lists.clone(),
        primary_hostname: "lab.example".into(),
        qualify_domain: "lab.example".into(),
        qualify_recipient: "lab.example".into(),
        spool_directory: spool.clone(),
        config_file: "lab.conf".into(),
        oxim_uid: nix::unistd::getuid().as_raw(),
        oxim_gid: nix::unistd::getgid().as_raw(),
        local_addresses: vec![],
        dns: Arc::new(NoDns),
        log: Arc::clone(&log),
        users: Arc::new(oxim::as_user::SystemUsers),
    });
    let transports = Registry::compile(&written.transports, &remote).unwrap_or_else(|e| panic!("{e:?}"));
    let chain = Chain::compile(&written.routers, transports.names(), Some(Arc::new(Here)))
        .unwrap_or_else(|e| panic!("{e:?}"));
    let outbox = Arc::new(Outbox::default());
    let env = Env {
        globals,
        chain: Arc::new(chain),
        transports: Arc::new(transports),
        retry: Arc::new(deliver::retry::Rules::compile(&written.retry).unwrap_or_else(|e| panic!("{e:?}"))),
        layout: Layout::new(&spool, false),
        hints: Arc::new(Hints::new(&spool)),
        submit: outbox.clone(),
        as_user: Arc::new(Here),
    };
    Lab { root, env, outbox, log }
}

impl Lab {
    /// Puts a message into the spool as exim4 4.96 would have.
    fn spool(&self, id: &str, sender: &str, recipients: &[&str], age: Duration) -> MessageId {
        let received = (SystemTime::now() - age).duration_since(UNIX_EPOCH).unwrap().as_secs();
        let names = recipients.join("\n");
        let count = recipients.len();
        let text = format!(
            "{id}-H\nroot 0 0\n<{sender}>\n{received} 0\n-received_protocol local\n-body_linecount 3\n\
             -deliver_firsttime\nXX\n{count}\n{names}\n\n014  Subject: test\n025F From: sender@lab.example\n\
             044I Message-Id: <E1xVUu5-00034b-1P@lab.example>\n038  Date: Mon, 23 Nov 2026 14:20:21 +0000\n"
        );
        let input = self.root.path().join("spool/input");
        std::fs::write(input.join(format!("{id}-D")), format!("{id}-D\nbody line\n.dot\nFrom x\n")).unwrap();
        std::fs::write(input.join(format!("{id}-H")), text).unwrap();
        MessageId::parse(id.as_bytes()).unwrap()
    }

    fn deliver(&self, recipients: &[&str]) -> (Delivery, Vec<String>) {
        let id = self.spool("1xVUu5-00034b-1P", "sender@lab.example", recipients, Duration::ZERO);
        let delivery = deliver::deliver(&self.env, &id, How::default());
        (delivery, self.lines())
    }

    /// Main log lines so far, without the id.
    fn lines(&self) -> Vec<String> {
        self.log
            .lines()
            .into_iter()
            .filter(|(which, _)| *which == Which::Main)
            .map(|(_, text)| text.splitn_str(2, " ").nth(1).unwrap_or_default().to_str_lossy().into_owned())
            .collect()
    }

    fn files(&self, directory: &str) -> Vec<BString> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(self.root.path().join(directory)).into_iter().flatten() {
            files.push(std::fs::read(entry.unwrap().path()).unwrap().into());
        }
        files
    }

    fn spool_is_empty(&self) -> bool {
        std::fs::read_dir(self.root.path().join("spool/input")).unwrap().next().is_none()
    }
}

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
                "== x@nx.example R=remote defer (-1): lookup of host \"nonexist.invalid\" failed in remote router",
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
    assert_eq!(
        lines,
        [
            "H=127.0.0.1 [127.0.0.1] Connection refused",
            "== down@rem.example R=remote T=smtp defer (111): Connection refused"
        ]
    );
    assert_eq!(delivery, Delivery::Deferred);
    let id = MessageId::parse(b"1xVUu5-00034b-1P").unwrap();
    deliver::deliver(&lab.env, &id, How { queue_run: true, ..How::default() });
    assert_eq!(
        lab.lines().pop().unwrap(),
        "== down@rem.example R=remote T=smtp defer (-54): retry time not reached for any host for 'rem.example'"
    );
    deliver::deliver(&lab.env, &id, How { force: true, ..How::default() });
    assert_eq!(lab.lines().len(), 5);
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

#[test]
fn a_late_message_is_told_about_once() {
    let lab = lab_with("F,4d,15m", "delay_warning = 1h\n");
    let id = lab.spool(
        "1xVUu5-00034b-1P",
        "sender@lab.example",
        &["defer1@lab.example"],
        Duration::from_secs(7200),
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
fn a_corrupt_header_file_is_named_in_the_panic_log_and_left_alone() {
    let lab = lab();
    let id = lab.spool("1xVUu5-00034b-1P", "", &["a1@lab.example"], Duration::ZERO);
    std::fs::write(lab.root.path().join("spool/input/1xVUu5-00034b-1P-H"), "garbage\n").unwrap();
    assert_eq!(deliver::deliver(&lab.env, &id, How { queue_run: true, ..How::default() }), Delivery::Skipped);
    let panic: Vec<_> = lab.log.lines().into_iter().filter(|(which, _)| *which == Which::Panic).collect();
    assert_eq!(panic[0].1, "1xVUu5-00034b-1P Format error in spool file 1xVUu5-00034b-1P-H: size=8");
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
fn the_queue_is_listed_and_changed_as_exim_does_it() {
    use oxim::queue::{Act, Listing, act, list};
    let lab = lab();
    let id = lab.spool(
        "1xVUu5-00034b-1P",
        "sender@lab.example",
        &["defer1@lab.example", "a1@lab.example"],
        Duration::ZERO,
    );
    let shown = |listing| {
        let mut out = Vec::new();
        list(&lab.env.layout, listing, SystemTime::now(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let say = |what, addresses: &[&str]| {
        let mut out = Vec::new();
        let addresses: Vec<BString> = addresses.iter().map(|a| BString::from(*a)).collect();
        let good = act(&lab.env, what, &id, &addresses, "root".into(), &mut out).unwrap();
        (good, String::from_utf8(out).unwrap())
    };
    let text = |words: &str| format!("Message 1xVUu5-00034b-1P {words}\n");
    assert_eq!(
        shown(Listing::default()),
        " 0m   144 1xVUu5-00034b-1P <sender@lab.example>\n          defer1@lab.example\n          a1@lab.example\n\n"
    );
    assert_eq!(say(Act::Freeze, &[]), (true, text("is now frozen")));
    assert_eq!(say(Act::Freeze, &[]), (false, text("is already frozen")));
    assert!(shown(Listing::default()).contains("<sender@lab.example> *** frozen ***\n"));
    assert_eq!(say(Act::Thaw, &[]), (true, text("is no longer frozen")));
    assert_eq!(say(Act::Thaw, &[]), (false, text("is not frozen")));
    assert_eq!(
        say(Act::AddRecipients, &["new2"]),
        (false, text("- error while adding recipient:\n  bad address new2: domain missing"))
    );
    assert_eq!(say(Act::AddRecipients, &["x@y.example"]), (true, text("has been modified")));
    assert_eq!(say(Act::MarkDelivered, &["a1@lab.example"]), (true, text("has been modified")));
    assert_eq!(
        shown(Listing { all: true, ..Listing::default() }),
        " 0m   144 1xVUu5-00034b-1P <sender@lab.example>\n          defer1@lab.example\n        D a1@lab.example\n          \
         x@y.example\n\n"
    );
    assert_eq!(shown(Listing { count: true, ..Listing::default() }), "1\n");
    assert_eq!(say(Act::GiveUp, &[]), (true, String::new()));
    assert_eq!(shown(Listing::default()), "");
    let missing = "Spool data file for 1xVUu5-00034b-1P does not exist\n";
    assert_eq!(say(Act::Freeze, &[]), (false, missing.into()));
    assert_eq!(
        lab.lines(),
        [
            "frozen by root",
            "unfrozen by root",
            "recipient <x@y.example> added by root",
            "address <a1@lab.example> marked delivered by root",
            "cancelled by root",
            "Completed",
            "Spool file 1xVUu5-00034b-1P-D not found",
        ]
    );
    let sent = lab.outbox.0.lock().unwrap();
    assert!(
        sent[0]
            .text
            .contains_str("following address(es) failed:\n\n  x@y.example\n  defer1@lab.example\n\n--")
    );
}

#[test]
fn a_queue_run_delivers_what_is_due() {
    let lab = lab();
    lab.spool("1xVUu5-00034b-1P", "sender@lab.example", &["a1@lab.example"], Duration::ZERO);
    lab.spool("1xVUu5-00034b-1Q", "sender@lab.example", &["a2@lab.example"], Duration::ZERO);
    oxim::queue::run(&lab.env, &oxim::queue::Run { force: true, ..oxim::queue::Run::default() });
    let lines: Vec<BString> = lab.log.lines().into_iter().map(|(_, text)| text).collect();
    assert!(lines[0].starts_with(b"Start queue run: pid=") && lines[0].ends_with(b" -qf"), "{lines:?}");
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert!(lab.spool_is_empty());
}

#[test]
fn addresses_are_tested_in_exims_words() {
    use oxim::expand::Context;
    use oxim::expand::context::NoHooks;
    use oxim::route::address_test::{self, Shown};
    let lab = lab();
    let ask = |text: &str, verify: bool| {
        let mut out = Vec::new();
        let mut context = Context::new(lab.env.globals.clone(), &NoHooks);
        let code = match verify {
            true => address_test::verify(&lab.env.chain, &mut context, text.as_bytes(), false, &mut out),
            false => address_test::test(
                &lab.env.chain,
                &mut context,
                text.as_bytes(),
                &mut Shown::default(),
                &mut out,
            ),
        };
        (code.unwrap(), String::from_utf8(out).unwrap())
    };
    let list = "\
fail1@lab.example is undeliverable: this user is gone
    <-- list@lab.example
defer1@lab.example cannot be resolved at this time: try again later
    <-- list@lab.example
a2@lab.example
    <-- list@lab.example
  router = local, transport = maildir
a1@lab.example
    <-- list@lab.example
  router = local, transport = maildir
";
    assert_eq!(ask("list", false), (2, list.into()));
    assert_eq!(ask("list", true), (0, "list@lab.example verified\n".into()));
    let dup = "\
a2@lab.example
    <-- dup@lab.example
  router = local, transport = maildir
a1@lab.example
    <-- dup@lab.example
  router = local, transport = maildir
a1@lab.example   [duplicate, would not be delivered]
    <-- dup@lab.example
  router = local, transport = maildir
";
    assert_eq!(ask("dup", false), (0, dup.into()));
    let file = format!(
        "file@lab.example -> {}/mail/thefile\n  transport = address_file\n",
        lab.root.path().display()
    );
    assert_eq!(ask("file", false), (0, file));
    assert_eq!(ask("hole", false), (0, "mail to hole@lab.example is discarded\n".into()));
    let host = "x@rem.example\n  router = remote, transport = smtp\n  host 127.0.0.1 [127.0.0.1] port=2525\n";
    assert_eq!(ask("x@rem.example", false), (0, host.into()));
    assert_eq!(ask("nobody", true), (2, "nobody@lab.example failed to verify: Unknown: nobody\n".into()));
    let later = "defer1@lab.example cannot be resolved at this time: try again later\n";
    assert_eq!(ask("defer1", true), (1, later.into()));
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
