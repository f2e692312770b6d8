//! The command line against what exim4 4.96 says to the same (recorded).

use super::*;

fn words(line: &str) -> Vec<BString> {
    line.split(' ').filter(|word| !word.is_empty()).map(BString::from).collect()
}

fn refusal(line: &str) -> String {
    match parse(b"exim4", &words(line)) {
        Err(error) => error.text,
        Ok(found) => panic!("{line}: {:?}", found.action),
    }
}

fn read(line: &str) -> Invocation {
    parse(b"/usr/sbin/exim4", &words(line)).unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[test]
fn a_hop_count_and_a_protocol_may_stand_in_the_next_argument() {
    for line in ["-h 3 ann", "-h3 ann", "-p esmtp:host.test ann", "-pesmtp:host.test ann"] {
        assert_eq!(read(line).arguments, ["ann"], "{line}");
    }
    let message = read("-p esmtp:host.test ann").message;
    assert_eq!(message.protocol, Some("esmtp".into()));
    assert_eq!(message.host_name, Some("host.test".into()));
}

#[test]
fn malformed_options_are_refused_in_exims_words() {
    for option in [
        "-xyz", "-b", "-bz", "-bdx", "-bpx", "-Mxx", "-Mz", "-o", "-oz", "-f", "-F", "-C", "-Z", "-h", "-p",
        "-T", "-Tqt", "-bh", "-bhc", "-L", "-tx", "-odx", "-oex", "-A", "-e", "-I", "-c", "-J", "-Q", "-s",
        "-tls", "-r", "--foo", "-", "-bem", "-bI", "-Mvx", "-DA.=2",
    ] {
        let expected = format!("exim abandoned: unknown, malformed, or incomplete option {option}");
        assert_eq!(refusal(option), expected);
    }
}

#[test]
fn missing_data_is_named() {
    for (line, text) in [
        ("-M", "exim: no message ids given after -M option"),
        ("-Mrm", "exim: no message ids given after -Mrm option"),
        ("-Mset", "exim: no message ids given after -Mset option"),
        ("-M x y", "exim: malformed message id x after -M option"),
        ("-Mvl x", "exim: malformed message id x after -Mvl option"),
        ("-MC a b c", "exim: too many or too few arguments after -MC"),
        ("-oM", "exim: data expected after -oM"),
        ("-oMa", "exim: data expected after -oMa"),
        ("-oMa 1.2.3.x", "exim abandoned: \"1.2.3.x\" is not an IP address"),
        ("-oMm x", "-oMm must be a valid message ID"),
        ("-oMr a -oMr b", "received_protocol is set already"),
        ("-or", "exim: bad time value -or: abandoned"),
        ("-or x", "exim: bad time value x: abandoned"),
        ("-h x", "exim abandoned: unknown, malformed, or incomplete option -h"),
        ("-orx", "exim: bad time value -orx: abandoned"),
        ("-os,x", "exim: bad time value -os,x: abandoned"),
        ("-qz", "exim: bad time value -qz: abandoned"),
        ("-q x", "exim: bad time value x: abandoned"),
        ("-R", "exim: string expected after -R"),
        ("-S", "exim: string expected after -S"),
        ("-O", "exim: string expected after -O"),
        ("-X", "exim: string expected after -X"),
        ("-oA", "exim: string expected after -oA"),
        ("-z", "exim: file name expected after -z"),
        ("-bF", "exim: file name expected after -bF"),
        ("-bfd", "exim: string expected after -bfd"),
        ("-bh 1.2.3", "exim abandoned: \"1.2.3\" is not an IP address"),
        ("-D1", "exim: macro name set by -D must start with an upper case letter"),
        ("-DA=1 -DA=2", "exim: duplicated -D in command line"),
        ("-dz", "exim: malformed debug_selector setting: + or - expected but found \"z\""),
        ("-d+foo", "exim: unknown debug_selector setting: +foo"),
    ] {
        assert_eq!(refusal(line), text, "{line}");
    }
}

#[test]
fn actions_that_contradict_each_other_are_refused() {
    for line in [
        "-bd -bs",
        "-bs -t",
        "-bp -bd",
        "-bt -bs",
        "-q30m a b",
        "-bd x",
        "-bd -q30m x",
        "-bi x",
        "-qff -bs",
        "-R a -bs",
    ] {
        assert_eq!(refusal(line), "exim: incompatible command-line options or arguments", "{line}");
    }
    assert_eq!(read("-be -bs").action, Action::Expand);
    assert!(matches!(read("-bv -q").action, Action::QueueRun(_)));
}

#[test]
fn recipients_end_the_options() {
    let found = read("-i a@b -bt");
    assert_eq!((found.action, found.arguments), (Action::Receive, words("a@b -bt")));
    let found = read("-f x@y -- -odd@b");
    assert_eq!((found.action, found.arguments), (Action::Receive, words("-odd@b")));
    assert_eq!(read("-i").action, Action::About);
    assert_eq!(read("-bm").action, Action::About);
    assert_eq!(read("-ti").action, Action::Receive);
}

#[test]
fn the_programs_name_stands_for_an_option() {
    let called = |name: &str| parse(name.as_bytes(), &[]).unwrap();
    assert!(matches!(called("/usr/bin/mailq").action, Action::ListQueue(_)));
    assert!(matches!(called("runq").action, Action::QueueRun(_)));
    assert_eq!(called("rsmtp").action, Action::BatchSmtp);
    assert_eq!(called("newaliases").action, Action::RebuildAliases);
    let rmail = parse(b"rmail", &words("a@b")).unwrap();
    assert!(rmail.message.dot_is_text && rmail.message.errors == ErrorMode::MailQuietly);
}

#[test]
fn joined_and_separate_values_are_the_same() {
    assert_eq!(read("-fa@b x").message.sender, read("-f a@b x").message.sender);
    assert_eq!(read("-FJoe x").message.full_name, Some("Joe".into()));
    assert_eq!(read("-Cfile -bV").config, read("-C file -bV").config);
    assert_eq!(read("-oB5 x").connection_max, read("-oB 5 x").connection_max);
    assert_eq!(read("-oB x").connection_max, Some(1));
    let (macros, empty) = (read("-DABC=d -bV").macros, read("-DABC -bV").macros);
    assert_eq!(macros, [("ABC".into(), "d".into())]);
    assert_eq!(empty, [("ABC".into(), "".into())]);
}

#[test]
fn what_is_known_but_not_built_says_so() {
    for line in
        ["-bw", "-brw", "-MG q", "-bf f", "-bh 1.2.3.4", "-bmalware f", "-atrn", "-MCA", "-qGx", "-dS"]
    {
        assert!(refusal(line).ends_with("is known but not supported yet"), "{line}");
    }
}

#[test]
fn certificates_are_asked_for_alone_and_json_belongs_to_them() {
    for (line, json) in
        [("--certificates", false), ("--certificates --json", true), ("--json --certificates", true)]
    {
        assert_eq!(read(line).action, Action::Certificates { json }, "{line}");
    }
    for line in ["--certificates a@b", "--certificates -bp", "--certificates -t", "--certificates -bd"] {
        assert_eq!(refusal(line), "exim: incompatible command-line options or arguments", "{line}");
    }
    for line in ["--json", "--json -bp", "--json a@b"] {
        assert_eq!(refusal(line), "exim: --json needs --certificates", "{line}");
    }
}
