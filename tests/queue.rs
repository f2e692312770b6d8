//! The queue as a whole: its list, its runs, what an administrator does to it, and tests of addresses.

#[path = "support/lab/mod.rs"]
#[allow(dead_code, reason = "each test program uses its part of the lab")]
mod lab;

use bstr::{BString, ByteSlice};
use lab::lab;
use std::time::{Duration, SystemTime};

#[test]
fn the_queue_is_listed_and_changed_as_exim_does_it() {
    use oxim::queue::{Act, Listing, Who, act, list};
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
        let root = Who { login: "root".into(), uid: 0, admin: true };
        let good = act(&lab.env, what, &id, &addresses, root, &mut out).unwrap();
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
            true => address_test::verify(
                &lab.env.chain,
                &mut context,
                text.as_bytes(),
                false,
                &Shown::new(true),
                &mut out,
            ),
            false => address_test::test(
                &lab.env.chain,
                &mut context,
                text.as_bytes(),
                &mut Shown::new(true),
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
