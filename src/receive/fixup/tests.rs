//! Header sections as Exim 4.96 fixed them up: recorded with a local caller `nobody`, full name `nobody`.

use super::*;
use crate::mail::Syntax;
use std::time::{Duration, UNIX_EPOCH};

const DATE: &str = "Mon, 23 Nov 2026 14:19:24 +0000";
const ID: &str = "1xVVJb-0000xZ-28";

fn settings() -> Settings {
    Settings {
        size_limit: 0,
        header_section: 1 << 20,
        header_line: 0,
        removed_names: vec![b"return-path", b"envelope-to", b"delivery-date"],
        local_from_check: true,
        local_sender_retain: false,
        local_from_prefix: "*-".into(),
        local_from_suffix: BString::default(),
        spool_kilobytes: 0,
        spool_inodes: 0,
        syntax: Syntax::default(),
        top_bit_prints: false,
        body_visible: 500,
        message_logs: true,
    }
}

struct Case {
    arrival: Arrival,
    trusted: bool,
    full_name: &'static str,
    sender: &'static str,
    submission: Option<Submission>,
    authenticated: Option<&'static str>,
    qualifies: bool,
}

fn local() -> Case {
    Case {
        arrival: Arrival::Local,
        trusted: false,
        full_name: "nobody",
        sender: "nobody@test.example",
        submission: None,
        authenticated: None,
        qualifies: true,
    }
}

/// Lines as `letter text`, with the recorded id and date as `ID` and `DATE`; and the sender afterwards.
fn fix(case: &Case, lines: &[&str]) -> (Vec<String>, String) {
    let settings = settings();
    let caller = Caller {
        login: if case.trusted { "root".into() } else { "nobody".into() },
        uid: 65534,
        gid: 65534,
        full_name: case.full_name.into(),
        trusted: case.trusted,
    };
    let id = MessageId::parse(ID.as_bytes()).unwrap();
    let fixup = FixUp {
        settings: &settings,
        arrival: case.arrival,
        caller: &caller,
        submission: case.submission.as_ref(),
        suppress_local: false,
        authenticated_id: case.authenticated.map(|id| id.into()),
        qualify_domain: "test.example".into(),
        qualify_recipient: "test.example".into(),
        allow_unqualified_sender: case.qualifies,
        allow_unqualified_recipient: case.qualifies,
        id: &id,
        id_tail: "@mx.test.example".into(),
        now: UNIX_EPOCH + Duration::from_secs(1_795_443_564),
        zone: &TimeZone::UTC,
    };
    let mut headers: Vec<Header> = lines.iter().map(|line| Header::new(format!("{line}\n"))).collect();
    let mut sender = Address::split(case.sender.as_bytes());
    fixup.run(&mut headers, &mut sender);
    let shown = headers.iter().map(|header| {
        let text = header.text.trim_end().as_bstr().to_string();
        let text = text.replace(&format!("<E{ID}@mx.test.example>"), "ID").replace(DATE, "DATE");
        format!("{} {text}", char::from(header.kind.letter()))
    });
    (shown.collect(), sender.to_string())
}

#[test]
fn a_local_message_gets_what_it_lacks() {
    for (lines, fixed) in [
        (
            &["Subject: s", "To: x@y.z"][..],
            &[
                "  Subject: s",
                "T To: x@y.z",
                "I Message-Id: ID",
                "F From: nobody <nobody@test.example>",
                "  Date: DATE",
            ][..],
        ),
        (
            &["From: nobody", "To: x"],
            &[
                "* From: nobody",
                "* To: x",
                "T To: x@test.example",
                "F From: nobody <nobody@test.example>",
                "I Message-Id: ID",
                "  Date: DATE",
            ],
        ),
        (
            &["From: Some One <nobody@test.example>", "Sender: foo@bar"],
            &[
                "F From: Some One <nobody@test.example>",
                "* Sender: foo@bar",
                "I Message-Id: ID",
                "  Date: DATE",
            ],
        ),
        (
            &["From: other@bar", "Sender: foo@bar"],
            &[
                "F From: other@bar",
                "* Sender: foo@bar",
                "I Message-Id: ID",
                "S Sender: nobody <nobody@test.example>",
                "  Date: DATE",
            ],
        ),
        (
            &["Return-path: <a@b>", "Envelope-to: x", "Message-ID: ", "Date: x", "From: "],
            &[
                "* Return-path: <a@b>",
                "* Envelope-to: x",
                "I Message-ID:",
                "  Date: x",
                "F From:",
                "S Sender: nobody <nobody@test.example>",
            ],
        ),
        (
            &["Message-ID: <a@b>", "message-id: <c@d>", "From: <a@>", "Date: d"],
            &[
                "I Message-ID: <a@b>",
                "  message-id: <c@d>",
                "F From: <a@>",
                "  Date: d",
                "S Sender: nobody <nobody@test.example>",
            ],
        ),
        (
            &["From: x-nobody@test.example", "Date: d", "Message-ID: <1@2>"],
            &["F From: x-nobody@test.example", "  Date: d", "I Message-ID: <1@2>"],
        ),
    ] {
        assert_eq!(fix(&local(), lines).0, fixed, "{lines:?}");
    }
}

#[test]
fn a_message_sent_again_gets_resent_lines_at_its_start() {
    let lines =
        ["Resent-To: a@b", "Resent-From: nobody", "To: x@y", "From: f@g", "Message-ID: <1@2>", "Date: d"];
    let fixed = [
        "  Resent-Date: DATE",
        "I Resent-Message-Id: ID",
        "T Resent-To: a@b",
        "* Resent-From: nobody",
        "T To: x@y",
        "F From: f@g",
        "  Message-ID: <1@2>",
        "  Date: d",
        "F Resent-From: nobody <nobody@test.example>",
    ];
    assert_eq!(fix(&local(), &lines).0, fixed);
}

#[test]
fn a_trusted_callers_message_is_from_its_sender_and_keeps_its_sender_line() {
    let trusted = Case { trusted: true, sender: "s@x.example", full_name: "", ..local() };
    let fixed = ["I Message-Id: ID", "F From: s@x.example", "  Date: DATE"];
    assert_eq!(fix(&trusted, &[]).0, fixed);
    let named = Case { full_name: "Foo. Bar", ..trusted };
    let fixed = ["I Message-Id: ID", "F From: \"Foo. Bar\" <s@x.example>", "  Date: DATE"];
    assert_eq!(fix(&named, &[]).0, fixed);
    let bounce = Case { sender: "", ..named };
    assert_eq!(fix(&bounce, &["Sender: q@r"]).0, ["S Sender: q@r", "I Message-Id: ID", "  Date: DATE"]);
}

#[test]
fn local_smtp_qualifies_the_login_but_does_not_expand_it() {
    let case = Case { arrival: Arrival::LocalSmtp, ..local() };
    let fixed = [
        "* From: nobody",
        "F From: nobody@test.example",
        "* Sender: foo",
        "I Message-Id: ID",
        "  Date: DATE",
    ];
    assert_eq!(fix(&case, &["From: nobody", "Sender: foo"]).0, fixed);
}

#[test]
fn a_message_over_tcp_is_left_alone_but_for_submission_mode() {
    let plain =
        Case { arrival: Arrival::Smtp, trusted: true, sender: "s@x.example", qualifies: false, ..local() };
    let lines = ["To: a", "From: b", "Sender: c", "Bcc: d@e"];
    assert_eq!(fix(&plain, &lines).0, ["T To: a", "F From: b", "S Sender: c", "B Bcc: d@e"]);
    let submitted = Case { submission: Some(Submission::default()), authenticated: Some("joe"), ..plain };
    let (fixed, sender) = fix(&submitted, &["From: s@x.example", "Message-Id: <1@2>", "Date: d"]);
    assert_eq!(
        fixed,
        ["F From: s@x.example", "I Message-Id: <1@2>", "  Date: d", "S Sender: joe@test.example"]
    );
    assert_eq!(sender, "joe@test.example");
    let unknown = Case { authenticated: None, ..submitted };
    let (fixed, sender) = fix(&unknown, &["Subject: x"]);
    assert_eq!(fixed, ["  Subject: x", "I Message-Id: ID", "F From: s@x.example", "  Date: DATE"]);
    assert_eq!(sender, "s@x.example");
}
