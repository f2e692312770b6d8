//! Whole messages through `accept`, compared with what Exim 4.96 made of them.

use super::*;
use crate::config::main_options::MAIN;
use crate::config::{Options, SettingValue};
use crate::dns::{Answer, Mx, Resolver, Tlsa};
use crate::expand::context::{Globals, NoHooks, UserEntry, Users};
use crate::log::{Log, Selectors, Which};
use crate::mail::{Address, IdForm, IdGenerator, MessageId, Recipient};
use crate::receive::{Caller, Controls, ErrorsTo, Extract, LocalAnswer, accept_local};
use crate::spool::{Layout, Message, OpenError, scan};
use crate::syntax::{Position, Template};
use crate::upward::{Announce, NewMessage};
use std::io;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

struct Nobody;

impl Users for Nobody {
    fn by_name(&self, _: &[u8]) -> io::Result<Option<UserEntry>> {
        Ok(None)
    }
    fn by_uid(&self, _: u32) -> io::Result<Option<UserEntry>> {
        Ok(None)
    }
    fn group(&self, _: &[u8]) -> io::Result<Option<u32>> {
        Ok(None)
    }
}

impl Resolver for Nobody {
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
    fn tlsa(&self, _: &[u8]) -> Answer<Tlsa> {
        Answer::NoName
    }
}

#[derive(Default)]
struct Told(Mutex<Vec<MessageId>>);

impl Announce for Told {
    fn ready(&self, id: &MessageId) {
        self.0.lock().unwrap().push(id.clone());
    }
}

struct World {
    station: Station,
    told: Arc<Told>,
    _directory: tempfile::TempDir,
}

fn option(options: &mut Options, name: &str, text: &str) {
    let at = Position::nowhere("test");
    let def = options.def(name).unwrap();
    let value = match def.kind {
        crate::config::Kind::Bool => SettingValue::Bool(text == "true"),
        crate::config::Kind::Expanded => SettingValue::Text(Template::parse(text.as_bytes(), &at).unwrap()),
        _ => SettingValue::Int(text.parse().unwrap()),
    };
    options.put(def, crate::config::option::Setting { value, at, hidden: false });
}

fn world(settings: &[(&str, &str)]) -> World {
    let directory = tempfile::tempdir().unwrap();
    let mut main = Options::new(vec![MAIN]);
    option(&mut main, "check_spool_space", "0");
    option(&mut main, "check_spool_inodes", "0");
    for (name, text) in settings {
        option(&mut main, name, text);
    }
    let selectors = Selectors::parse(b"+received_recipients +received_sender +subject").unwrap();
    let globals = Globals {
        main,
        lists: Default::default(),
        primary_hostname: "mx.test.example".into(),
        qualify_domain: "test.example".into(),
        qualify_recipient: "test.example".into(),
        spool_directory: directory.path().into(),
        config_file: "test".into(),
        oxim_uid: 102,
        oxim_gid: 105,
        local_addresses: Vec::new(),
        dns: Arc::new(Nobody),
        log: Arc::new(Log::memory()),
        counters: Arc::default(),
        users: Arc::new(Nobody),
        status: None,
    };
    let told = Arc::new(Told::default());
    let station = Station {
        globals: Arc::new(globals),
        layout: Layout::new(directory.path(), false),
        log: Arc::new(Log::memory_with(selectors)),
        ids: Arc::new(IdGenerator::new(IdForm::Long, 4242)),
        announce: told.clone(),
    };
    World { station, told, _directory: directory }
}

fn smtp_mail() -> NewMail {
    NewMail {
        arrival: Arrival::Smtp,
        caller: Caller { login: "oxim".into(), uid: 102, gid: 105, trusted: true, ..Caller::default() },
        sender: Address::new("s", "x.example"),
        raw_sender: Address::new("s", "x.example"),
        sender_set_untrusted: false,
        recipients: vec![Recipient { address: Address::new("r", "test.example"), ..Recipient::default() }],
        extract: None,
        body_8bitmime: 0,
        smtputf8: false,
        dsn_envid: None,
        dsn_ret: 0,
        allow_unqualified_sender: false,
        allow_unqualified_recipient: false,
        dot_ends: false,
        started: SystemTime::now(),
        controls: Controls::default(),
        add_headers: Vec::new(),
        remove_headers: Vec::new(),
        about: None,
        local_error: false,
        pipelining: BString::default(),
    }
}

fn local_mail() -> NewMail {
    let caller =
        Caller { login: "nobody".into(), uid: 65534, gid: 65534, full_name: "No".into(), trusted: false };
    NewMail {
        arrival: Arrival::Local,
        caller,
        sender: Address::new("nobody", "test.example"),
        raw_sender: Address::new("nobody", "test.example"),
        allow_unqualified_sender: true,
        allow_unqualified_recipient: true,
        dot_ends: true,
        ..smtp_mail()
    }
}

fn accept_with(world: &World, mail: NewMail, mut input: &[u8], verdict: Verdict) -> Outcome {
    let mut context = Context::new(world.station.globals.clone(), &NoHooks);
    if mail.arrival == Arrival::Smtp {
        context.session.origin.host = "192.0.2.5:1234".parse().ok();
        context.session.origin.helo = Some("client.example".into());
        context.session.origin.protocol = "esmtp".into();
    } else {
        context.session.origin.ident = Some("nobody".into());
        context.session.origin.local = true;
        context.session.origin.protocol = "local".into();
    }
    let mut ask = |_: &mut Context, draft: Draft| {
        assert!(draft.size > 0);
        verdict.clone()
    };
    let outcome = accept(&world.station, &mut context, mail, &mut input, &mut ask);
    if !matches!(outcome, Outcome::Refused { why: Refusal::Lost, must_close: true, .. }) {
        assert!(input.is_empty() || matches!(outcome, Outcome::Refused { .. } | Outcome::Accepted { .. }));
    }
    outcome
}

fn accepted(outcome: &Outcome) -> (MessageId, u64) {
    match outcome {
        Outcome::Accepted { id, size, .. } => (id.clone(), *size),
        Outcome::Refused { reply, .. } => panic!("refused: {reply:?}"),
    }
}

fn refused(outcome: Outcome) -> (Refusal, String) {
    match outcome {
        Outcome::Refused { why, reply, .. } => (why, format!("{} {}", reply.code, reply.text)),
        Outcome::Accepted { id, .. } => panic!("accepted as {id}"),
    }
}

fn nothing_is_left(world: &World) -> bool {
    std::fs::read_dir(world.station.layout.input()).map_or(true, |mut entries| entries.next().is_none())
}

fn texts(message: &Message) -> Vec<String> {
    message.headers.iter().map(|header| header.text.to_string()).collect()
}

/// A test beside this one that starts a process has a copy of the lock for a moment, between fork and exec.
fn opened(world: &World, id: &MessageId) -> Message {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match Message::open(&world.station.layout, id) {
            Err(OpenError::Locked) if Instant::now() < end => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

#[test]
fn a_message_over_smtp_is_spooled_logged_and_announced() {
    let world = world(&[]);
    let input = b"Subject: x\r\nTo: a\r\n\r\nline\r\n.dot\r\nbare\nend";
    let outcome = accept_with(&world, smtp_mail(), input, Verdict::Accept);
    let (id, size) = accepted(&outcome);
    assert_eq!(world.told.0.lock().unwrap().as_slice(), std::slice::from_ref(&id));
    let message = opened(&world, &id);
    let received = message.headers[0].text.to_string();
    assert!(received.starts_with("Received: from [192.0.2.5] (helo=client.example)\n\tby mx.test.example "));
    assert!(received.contains(&format!("id {id}\n\tfor r@test.example;\n\t")), "{received}");
    assert_eq!(&texts(&message)[1..], ["Subject: x\n", "To: a\n"]);
    assert_eq!(message.envelope.body_lines, 3);
    let mut body = vec![0; message.body_size as usize];
    std::os::unix::fs::FileExt::read_exact_at(&message.data, &mut body, message.body_offset()).unwrap();
    assert_eq!(body, b"line\n.dot\nbare end\n");
    let whole: usize = message.headers.iter().map(|header| header.text.len()).sum();
    assert_eq!(size, (whole + 1 + body.len()) as u64);
    let expected = format!(
        "{id} <= s@x.example H=(client.example) [192.0.2.5] P=esmtp S={size} T=\"x\" from <s@x.example> \
         for r@test.example"
    );
    assert_eq!(world.station.log.lines(), [(Which::Main, expected.into())]);
    let log = std::fs::read_to_string(world.station.layout.message_log(&id)).unwrap();
    let tail =
        format!(" Received from s@x.example H=(client.example) [192.0.2.5] P=esmtp S={size} T=\"x\"\n");
    assert!(log.ends_with(&tail), "{log}");
}

#[test]
fn a_local_message_with_t_is_fixed_up() {
    let world = world(&[]);
    let mail = NewMail { recipients: Vec::new(), extract: Some(Extract::default()), ..local_mail() };
    let outcome = accept_with(&world, mail, b"To: a@b, c\nBcc: d@e\n\nbody\n.\nafter\n", Verdict::Accept);
    let (id, _) = accepted(&outcome);
    let message = opened(&world, &id);
    let recipients: Vec<_> = message.envelope.recipients.iter().map(|r| r.address.to_string()).collect();
    assert_eq!(recipients, ["a@b", "c@test.example", "d@e"]);
    assert!(message.envelope.sender_local && message.body_size == 5);
    let texts = texts(&message);
    assert!(texts[0].starts_with("Received: from nobody by mx.test.example with local ("), "{}", texts[0]);
    assert_eq!(texts[4], format!("Message-Id: <E{id}@mx.test.example>\n"));
    assert_eq!(texts[5], "From: No <nobody@test.example>\n");
}

#[test]
fn what_is_refused_leaves_nothing_and_is_told() {
    let world =
        world(&[("message_size_limit", "5000"), ("header_maxsize", "3000"), ("header_line_maxsize", "500")]);
    let big = format!("Subject: x\r\n\r\n{}", "l".repeat(6000));
    let line = format!("Subject: {}\r\n\r\n", "x".repeat(600));
    let section = format!("Subject: {}\r\n", "x".repeat(400)).repeat(9);
    for (input, why, reply, log) in [
        (
            big,
            Refusal::TooBig,
            "552 Message size exceeds maximum permitted",
            "rejected from <s@x.example> H=(client.example) [192.0.2.5]: message too big: read=6013 max=5000",
        ),
        (
            line,
            Refusal::HeadersTooBig,
            "552 A message header line is too long",
            "overlong message header line received from (client.example) [192.0.2.5] (more than 500 characters): \
             message abandoned",
        ),
        (
            section,
            Refusal::HeadersTooBig,
            "552 Message header is ridiculously long",
            "ridiculously long message header received from (client.example) [192.0.2.5] (more than 3000 \
             characters): message abandoned",
        ),
    ] {
        let outcome = accept_with(&world, smtp_mail(), input.as_bytes(), Verdict::Accept);
        assert_eq!(refused(outcome), (why, reply.into()));
        assert!(nothing_is_left(&world));
        let lines = world.station.log.lines();
        let main = lines.iter().rfind(|(which, _)| *which == Which::Main).unwrap();
        assert!(main.1.ends_with(log.as_bytes()), "{}", main.1);
    }
    let lines = world.station.log.lines();
    let reject = lines.iter().find(|(which, _)| *which == Which::Reject).unwrap();
    let tail = "max=5000\nEnvelope-from: <s@x.example>\nEnvelope-to: <r@test.example>\n  Subject: x";
    assert!(reject.1.ends_with(tail.as_bytes()), "{}", reject.1);
}

#[test]
fn the_acl_may_refuse_discard_or_pretend() {
    let world = world(&[]);
    let no = Reply::new(550, "no");
    let outcome = accept_with(&world, smtp_mail(), b"A: b\r\n\r\n", Verdict::Refuse(no.clone()));
    assert_eq!(refused(outcome), (Refusal::Acl, "550 no".into()));
    let (id, _) = accepted(&accept_with(&world, smtp_mail(), b"A: b\r\n\r\n", Verdict::Discard(None)));
    assert!(nothing_is_left(&world));
    let lines: Vec<_> = world.station.log.lines().into_iter().map(|(_, line)| line.to_string()).collect();
    assert_eq!(lines[1], format!("{id} => blackhole (DATA ACL discarded recipients)"));
    assert_eq!(lines[2], format!("{id} Completed"));
    let outcome = accept_with(&world, smtp_mail(), b"A: b\r\n\r\n", Verdict::Fake(no.clone()));
    assert!(matches!(&outcome, Outcome::Accepted { reply: Some(reply), .. } if *reply == no));
    assert!(world.station.log.lines()[3].1.contains_str(" (= s@x.example "));
}

#[test]
fn headers_are_removed_and_added_where_the_acl_wants_them() {
    let world = world(&[]);
    let addition = |place, text: &str| HeaderAddition { place, text: text.into() };
    let mail = NewMail {
        add_headers: vec![
            addition(Place::AtEnd, "End: 1\n"),
            addition(Place::AtStartRfc, "Rfc: 1"),
            addition(Place::AtStart, "Start: 1\n"),
        ],
        remove_headers: vec!["x-*".into()],
        controls: Controls { queue_only: true, ..Controls::default() },
        ..smtp_mail()
    };
    let outcome = accept_with(&world, mail, b"Received: a\r\nX-Y: z\r\nTo: b\r\n\r\n", Verdict::Accept);
    let (id, _) = accepted(&outcome);
    assert!(world.told.0.lock().unwrap().is_empty());
    let message = opened(&world, &id);
    let kinds: Vec<_> = message.headers.iter().map(|header| (header.kind.letter(), header.name())).collect();
    let shown: Vec<_> = kinds.iter().map(|(letter, name)| format!("{}{name}", char::from(*letter))).collect();
    assert_eq!(shown, [" Start", "PReceived", "PReceived", " Rfc", "*X-Y", "TTo", " End"].map(String::from));
}

#[test]
fn a_lost_peer_and_a_spool_that_cannot_be_written_leave_nothing() {
    struct Gone;
    impl io::Read for Gone {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(ErrorKind::UnexpectedEof.into())
        }
    }
    let world = world(&[]);
    let mut source = io::BufReader::new(io::Read::chain(&b"A: b\r\n\r\nbody"[..], Gone));
    let mut context = Context::new(world.station.globals.clone(), &NoHooks);
    let mut ask = |_: &mut Context, _: Draft| Verdict::Accept;
    let outcome = accept(&world.station, &mut context, smtp_mail(), &mut source, &mut ask);
    assert_eq!(refused(outcome).0, Refusal::Lost);
    assert!(nothing_is_left(&world));

    let mut world = world;
    let file = world._directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    world.station.layout = Layout::new(file, false);
    let outcome = accept_with(&world, smtp_mail(), b"A: b\r\n\r\n", Verdict::Accept);
    assert_eq!(refused(outcome), (Refusal::Spool, "451 Error while writing spool file".into()));
    assert!(scan(&Layout::new(world._directory.path(), false)).unwrap().is_empty());
}

#[test]
fn a_bounce_goes_in_with_the_message_it_answers() {
    use crate::upward::Submit;
    let world = world(&[("message_size_limit", "10")]);
    let attached = world._directory.path().join("attached");
    std::fs::write(&attached, "skip this\ntaken\nnot this").unwrap();
    let about = MessageId::parse(b"1xVVJb-0000xZ-28").unwrap();
    let own = crate::receive::OwnMessages::new(world.station.clone(), "oxim");
    let new = NewMessage {
        recipients: vec![Address::new("s", "x.example")],
        text: b"From: Mail Delivery System <Mailer-Daemon@test.example>\nTo: s@x.example\n\nsorry\n".to_vec(),
        about: Some(about.clone()),
        local_error: true,
        attach: Some((Arc::new(std::fs::File::open(&attached).unwrap()), 10, 6)),
        ..NewMessage::default()
    };
    let id = own.submit(new).unwrap();
    let message = opened(&world, &id);
    assert!(message.envelope.local_error && message.envelope.sender.is_null());
    assert_eq!(message.body_size, 12);
    let line = &world.station.log.lines()[0].1;
    let start = format!("{id} <= <> R={about} U=oxim P=local S=");
    assert!(line.starts_with(start.as_bytes()), "{line}");
}

fn submit(
    world: &World,
    mail: NewMail,
    mut input: &[u8],
    errors_to: ErrorsTo,
) -> (LocalAnswer, Vec<NewMessage>) {
    struct Mails(Mutex<Vec<NewMessage>>);
    impl crate::upward::Submit for Mails {
        fn submit(&self, new: NewMessage) -> io::Result<MessageId> {
            self.0.lock().unwrap().push(new);
            Ok(MessageId::parse(b"1xVVJb-0000xZ-28").unwrap())
        }
    }
    let mails = Mails(Mutex::default());
    let mut context = Context::new(world.station.globals.clone(), &NoHooks);
    context.session.origin.ident = Some("nobody".into());
    let mut ask = |_: &mut Context, _: Draft| Verdict::Accept;
    let errors: (ErrorsTo, &dyn crate::upward::Submit) = (errors_to, &mails);
    let answer = accept_local(&world.station, &mut context, mail, &mut input, &mut ask, errors);
    (answer, mails.0.into_inner().unwrap())
}

#[test]
fn bad_addresses_are_told_by_mail_and_the_good_ones_get_the_message() {
    let world = world(&[]);
    let mail = NewMail { recipients: Vec::new(), extract: Some(Extract::default()), ..local_mail() };
    let input = b"To: bad bad, ok@ok\nSubject: x\n\nbody\n";
    let (answer, mails) = submit(&world, mail.clone(), input, ErrorsTo::Mail);
    let (id, _) = accepted(&answer.outcome);
    assert_eq!(answer.status, 0);
    assert!(answer.words.ends_with_str(format!(" {id} {id} bad addresses found in headers\n")));
    let text = mails[0].text.to_str().unwrap();
    assert!(
        text.contains("\nSubject: Mail failure - malformed recipient address\n\nA message that you sent")
    );
    assert!(text.contains(
        "\n\n  bad bad, ok@ok: missing or malformed local part (expected word or \"<\")\n\nThis address"
    ));
    assert!(
        text.contains("including all the headers. ------\n\nTo: bad bad, ok@ok\nSubject: x\nMessage-Id: <E")
    );
    assert_eq!(mails[0].about, Some(id));

    let (answer, mails) = submit(&world, mail, input, ErrorsTo::Terminal);
    assert!(matches!(answer.outcome, Outcome::Refused { why: Refusal::BadAddress, .. }));
    assert_eq!((answer.status, mails.len()), (1, 0));
}

#[test]
fn a_refused_message_comes_back_with_its_body() {
    let world = world(&[("header_line_maxsize", "50")]);
    let mail = NewMail { recipients: Vec::new(), extract: Some(Extract::default()), ..local_mail() };
    let (answer, mails) = submit(&world, mail, b"Subject: x\n\nbody\n", ErrorsTo::MailStatusZero);
    assert_eq!(answer.status, 0);
    let (file, at, length) = mails[0].attach.clone().unwrap();
    let mut body = vec![0; length as usize];
    std::os::unix::fs::FileExt::read_exact_at(&*file, &mut body, at).unwrap();
    assert_eq!(body, b"body\n");
    assert!(nothing_is_left(&world));
    let long = format!("Subject: {}\n\n", "x".repeat(60));
    let (answer, mails) = submit(&world, local_mail(), long.as_bytes(), ErrorsTo::Mail);
    assert_eq!((answer.status, answer.words), (1, BString::default()));
    let text = mails[0].text.to_str().unwrap();
    assert!(
        text.contains("\nSubject: Mail failure - overlong header line\n\n")
            && text.contains("------\n\nSubject: xxx")
    );
    let (answer, _) = submit(&world, local_mail(), long.as_bytes(), ErrorsTo::Terminal);
    let words = "exim: message header line longer than 50 characters received: message not accepted\n";
    assert_eq!(answer.words, words);
}

#[test]
fn a_trusted_callers_from_line_gives_the_sender() {
    let world = world(&[]);
    let input = b"From a@b Fri Jan  5 12:35 GMT 1996\nSubject: x\n\nb\n";
    let trusted = Caller { login: "nobody".into(), trusted: true, ..Caller::default() };
    let mail = NewMail { caller: trusted, ..local_mail() };
    let (id, _) = accepted(&accept_with(&world, mail, input, Verdict::Accept));
    let message = opened(&world, &id);
    assert_eq!(message.envelope.sender.to_string(), "a@b");
    let (id, _) = accepted(&accept_with(&world, local_mail(), input, Verdict::Accept));
    let message = opened(&world, &id);
    assert_eq!(message.envelope.sender.to_string(), "nobody@test.example");
    assert_eq!(message.headers[1].text, "Subject: x\n");
}
