//! Tests of the spool: files recorded from Exim 4.96 and round trips.

use super::header_read::read_header_file;
use super::header_write::header_file;
use super::*;
use crate::mail::envelope::OcspState;
use crate::mail::{Address, Envelope, Header, HeaderKind, MessageId, Recipient};
use crate::text::Value;
use bstr::{BString, ByteSlice};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;

const WITH_TLS: &str = include_str!("../../tests/spool/1xVV28-0007Rd-0s-H");
const WITH_DSN: &str = include_str!("../../tests/spool/1xVV28-0007SJ-1g-H");
const AFTER_ATTEMPT: &str = include_str!("../../tests/spool/1xVV1b-0007QQ-2R-H");

fn id(text: &str) -> MessageId {
    MessageId::parse(text.as_bytes()).unwrap()
}

fn read(text: &str) -> (MessageId, Envelope, Vec<Header>) {
    let id = id(text.split_once("-H\n").unwrap().0);
    let (envelope, headers) = read_header_file(&id, text.as_bytes()).unwrap();
    (id, envelope, headers)
}

/// The lines above the headers, sorted: Exim says that their order does not matter.
fn sorted_lines(text: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<_> = text.split_str("\n").collect();
    lines.sort_unstable();
    lines
}

#[test]
fn files_of_exim_4_96_are_written_back_as_they_were() {
    for text in [WITH_TLS, WITH_DSN] {
        let (id, envelope, headers) = read(text);
        let again = header_file(&id, &envelope, &headers);
        assert!(sorted_lines(&again) == sorted_lines(text.as_bytes()), "{}", again.as_bstr());
    }
}

#[test]
fn a_tls_message_of_exim_is_understood() {
    let (_, envelope, headers) = read(WITH_TLS);
    let tls = envelope.origin.tls.as_ref().unwrap();
    assert_eq!(tls.version, "TLS1.3");
    assert_eq!(tls.bits, 256);
    assert!(tls.certificate_verified && tls.peer_certificate.starts_with(&[0x30, 0x82]));
    assert_eq!(tls.sni.as_ref().unwrap(), &Value::tainted("sni.example"));
    assert_eq!(envelope.origin.host.unwrap().to_string(), "127.0.0.1:36324");
    assert_eq!(envelope.origin.authenticator.as_ref().unwrap(), "plain");
    assert_eq!(headers[0].kind, HeaderKind::Received);
    assert_eq!(headers.last().unwrap().text, "Sender: joe@test.example\n");
    assert_eq!(envelope.sender.to_string(), "joe@test.example");
}

#[test]
fn dsn_fields_one_time_children_and_the_tree_are_understood() {
    let (_, envelope, _) = read(WITH_DSN);
    assert_eq!(envelope.origin.tls, None);
    assert_eq!(envelope.recipients[0].orcpt.as_ref().unwrap(), "rfc822;q@w");
    assert_eq!(envelope.recipients[0].dsn_flags, 20);
    assert_eq!(
        envelope.recipients[2],
        Recipient { address: Address::new("qo", "test.example"), ..Recipient::default() }
    );
    let (_, envelope, _) = read(AFTER_ATTEMPT);
    let child = &envelope.recipients[7];
    assert_eq!(child.address.to_string(), "b@defer.example");
    assert_eq!(child.errors_to.as_ref().unwrap(), "err@x.example");
    assert_eq!(child.parent, Some(2));
    assert_eq!(envelope.done.len(), 7);
    assert!(envelope.done.contains(&BString::from("z@good.example")));
}

#[test]
fn a_broken_file_is_an_error_that_names_the_line() {
    let good = WITH_DSN;
    for (text, line) in [
        (good.replacen("\nXX\n", "\nXZ\n", 1), 19),
        (good.replacen("185P", "199P", 1), 25),
        (String::new(), 1),
        (good.replacen("1xVV28", "1xVV29", 1), 1),
        (good.replacen("<s@x.example>", "s@x.example", 1), 3),
        (good.replacen("\n3\n", "\n4\n", 1), 24),
    ] {
        let error = read_header_file(&id("1xVV28-0007SJ-1g"), text.as_bytes()).unwrap_err();
        assert_eq!(error.line, line, "{error}");
    }
}

#[test]
fn unknown_lines_are_kept() {
    let text = WITH_DSN.replacen("\nXX\n", "\n--future thing x\n-active_hostname h\nXX\n", 1);
    let (id, envelope, headers) = read(&text);
    assert_eq!(envelope.unknown_lines, ["--future thing x", "-active_hostname h"]);
    let again = header_file(&id, &envelope, &headers);
    assert!(again.contains_str("\n--future thing x\n-active_hostname h\n"));
}

fn sample() -> (Envelope, Vec<Header>) {
    let (_, mut envelope, headers) = read(WITH_TLS);
    envelope.origin.tls.as_mut().unwrap().ocsp = OcspState::Verified;
    envelope.acl_variables.insert("m_x".into(), Value::tainted("two\nlines"));
    (envelope, headers)
}

#[test]
fn a_committed_message_can_be_opened_by_one_only_and_is_gone_after_removal() {
    let directory = tempfile::tempdir().unwrap();
    for split in [false, true] {
        let layout = Layout::new(directory.path(), split);
        let id = id("1xVV28-000000007Rd-0sab");
        let (envelope, headers) = sample();
        let mut body = BodyFile::create(&layout, &id).unwrap();
        assert_eq!(BodyFile::create(&layout, &id).unwrap_err().kind(), ErrorKind::AlreadyExists);
        body.write(b"hello\n").unwrap();
        assert!(scan(&layout).unwrap().is_empty());
        commit::commit(body, &envelope, &headers).unwrap();
        assert_eq!(scan(&layout).unwrap()[0].id, id);

        let mut message = Message::open(&layout, &id).unwrap();
        assert!(matches!(Message::open(&layout, &id), Err(OpenError::Locked)));
        assert_eq!((&message.envelope, &message.headers), (&envelope, &headers));
        let mut bytes = [0; 6];
        message.data.read_exact_at(&mut bytes, message.body_offset()).unwrap();
        assert_eq!((&bytes, message.body_size), (b"hello\n", 6));

        Journal::open(&message).unwrap().note(&["a@b".into()]).unwrap();
        drop(message);
        message = Message::open(&layout, &id).unwrap();
        assert!(message.envelope.done.contains(&BString::from("a@b")));
        commit::rewrite(&message).unwrap();
        assert!(!message.directory.join(format!("{id}-J")).exists());
        commit::remove(&message).unwrap();
        assert!(matches!(Message::open(&layout, &id), Err(OpenError::Gone)));
        assert!(commit::sweep(&layout).unwrap().is_empty());
    }
}

#[test]
fn a_body_that_is_given_up_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(directory.path(), false);
    let body = BodyFile::create(&layout, &id("1xVV28-0007Rd-0s")).unwrap();
    drop(body);
    assert_eq!(std::fs::read_dir(layout.input()).unwrap().count(), 0);
}

#[test]
fn the_sweep_removes_what_a_crash_left_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(directory.path(), false);
    let (envelope, headers) = sample();
    let whole = BodyFile::create(&layout, &id("1xVV28-0007Rd-0s")).unwrap();
    commit::commit(whole, &envelope, &headers).unwrap();
    let growing = BodyFile::create(&layout, &id("1xVV28-0007Rd-0t")).unwrap();
    for name in ["1xVV28-0007Rd-0u-D", "hdr.1xVV28-0007Rd-0u", "1xVV28-0007Rd-0w-J", "hdr.1xVV28-0007Rd-0s"] {
        std::fs::write(layout.input().join(name), "x").unwrap();
    }
    std::fs::write(layout.input().join("other"), "x").unwrap();
    let removed: BTreeSet<_> = commit::sweep(&layout).unwrap().into_iter().collect();
    let expected =
        ["1xVV28-0007Rd-0u-D", "hdr.1xVV28-0007Rd-0u", "1xVV28-0007Rd-0w-J", "hdr.1xVV28-0007Rd-0s"];
    assert_eq!(removed, expected.into_iter().map(str::to_owned).collect());
    assert!(Message::open(&layout, &id("1xVV28-0007Rd-0s")).is_ok());
    // It has lost its -D: the log is what tells of it.
    std::fs::write(layout.input().join("1xVV28-0007Rd-0v-H"), "x").unwrap();
    for log in ["1xVV28-0007Rd-0s", "1xVV28-0007Rd-0t", "1xVV28-0007Rd-0u", "1xVV28-0007Rd-0v"] {
        message_log::append(&layout, &id(log), b"line").unwrap();
    }
    assert_eq!(message_log::sweep(&layout).unwrap(), ["msglog/1xVV28-0007Rd-0u"]);
    drop(growing);
}

/// Without a look at the links after the lock this message would have been answered with 250 and lost.
#[test]
fn a_body_that_a_sweep_removed_before_it_was_locked_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(directory.path(), false);
    let id = id("1xVV28-0007Rd-0s");
    let file = body_file::create_new(&layout.input(), "1xVV28-0007Rd-0s-D").unwrap();
    assert_eq!(commit::sweep(&layout).unwrap(), ["1xVV28-0007Rd-0s-D"]);
    let error = BodyFile::lock(layout.input(), &id, file).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

#[test]
fn no_sweep_takes_anything_of_a_message_that_comes_in_or_goes_out() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(directory.path(), false);
    let (envelope, headers) = sample();
    let done = std::sync::atomic::AtomicBool::new(false);
    let receive = |round: u32| {
        let id = id(&format!(
            "1xVV28-0007Rd-{}{}",
            char::from(b'A' + (round / 26) as u8),
            char::from(b'A' + (round % 26) as u8)
        ));
        let mut body = match BodyFile::create(&layout, &id) {
            Ok(body) => body,
            Err(error) => return assert_eq!(error.kind(), ErrorKind::AlreadyExists),
        };
        body.write(b"hello\n").unwrap();
        commit::commit(body, &envelope, &headers).unwrap();
        // A sweep may hold the lock for the moment in which it sees that there is nothing to do.
        let message = loop {
            match Message::open(&layout, &id) {
                Err(OpenError::Locked) => std::thread::yield_now(),
                other => break other.unwrap(),
            }
        };
        assert_eq!(message.body_size, 6);
        commit::remove(&message).unwrap();
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    commit::sweep(&layout).unwrap();
                }
            });
        }
        let receiver = scope.spawn(|| (0..500).for_each(receive));
        let received = receiver.join();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        received.unwrap();
    });
    assert_eq!(std::fs::read_dir(layout.input()).unwrap().count(), 0);
}

#[test]
fn a_journal_line_that_was_cut_off_is_not_taken() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("J");
    std::fs::write(&path, "a@b.example\nlong@b.exam").unwrap();
    let noted = journal::read(&path).unwrap();
    assert_eq!(noted.into_iter().collect::<Vec<_>>(), ["a@b.example"]);
}

fn any_address() -> impl Strategy<Value = Address> {
    ("[a-zA-Z0-9.!#]{1,12}|\"[ -!#-\\[\\]-~]{1,8}\"", "[a-z0-9.-]{1,12}")
        .prop_map(|(local_part, domain)| Address::new(local_part, domain))
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        sender in any_address(),
        addresses in proptest::collection::vec(any_address(), 0..8),
        done in proptest::collection::btree_set("[a-z@.]{1,10}", 0..20),
        orcpt in proptest::option::of("[!-~]{1,10}"),
        errors_to in proptest::option::of("[!-~]{1,10}"),
        flags in 1_u32..31,
        variable in proptest::collection::vec(any::<u8>(), 0..40),
        body in "[a-z \n]{0,30}",
    ) {
        let (mut envelope, mut headers) = sample();
        envelope.sender = sender;
        envelope.done = done.into_iter().map(BString::from).collect();
        envelope.recipients = addresses
            .into_iter()
            .map(|address| Recipient {
                address,
                orcpt: orcpt.as_deref().map(BString::from),
                errors_to: errors_to.as_deref().map(BString::from),
                parent: Some(3),
                dsn_flags: flags,
            })
            .collect();
        envelope.acl_variables.insert("c0".into(), Value::clean(variable));
        headers.push(Header::new(format!("X: {body}\n")));
        let id = id("1xVV28-000000007Rd-0sab");
        let text = header_file(&id, &envelope, &headers);
        let read = read_header_file(&id, &text);
        prop_assert_eq!(read, Ok((envelope, headers)));
    }

    #[test]
    fn no_bytes_make_the_reader_fall_over(at in 0_usize..900, byte in any::<u8>()) {
        let mut text = WITH_DSN.as_bytes().to_vec();
        let at = at % text.len();
        text[at] = byte;
        let _ = read_header_file(&id("1xVV28-0007SJ-1g"), &text);
    }
}
