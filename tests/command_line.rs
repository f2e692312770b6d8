//! Every documented option of the command line acts, and a test shows it; or is one that the documentation says is
//! ignored; or is refused with "known but not supported yet" (SCOPE.md 1.9). Nothing else is accepted.

use bstr::BString;
use oxim::cli::args::{Invocation, parse};
use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What an option does.
enum Does {
    /// It acts: this file of the tests has these words, which use it.
    Acts(&'static str, &'static str),
    /// The documentation says that Exim ignores it.
    Ignored,
    /// Known but not supported yet.
    Refused,
    /// Only Exim's own test suite knows it, says the documentation.
    Unknown,
}
use Does::{Acts, Ignored, Refused, Unknown};

const ID: &str = "1aaaaa-000000-00";
const HERE: &str = "tests/command_line.rs";
const USERS: &str = "tests/parity/2-configuration/options_of_users.case";
const MESSAGES: &str = "tests/parity/2-configuration/message_commands_of_users.case";
const VERBOSE: &str = "tests/parity/4-receiving/verbose.case";
const QUEUE: &str = "tests/queue.rs";
const ARGUMENTS: &str = "src/cli/args/tests.rs";
const LINES: &str = "tests/parity/4-receiving/command_line.case";

/// A command line with the option, and what it does there.
#[rustfmt::skip]
const OPTIONS: &[(&str, Does)] = &[
    ("-- a@b", Acts(ARGUMENTS, "-f x@y -- -odd@b")),
    ("--help", Acts(HERE, "[\"--help\"]")),
    ("--version", Acts(HERE, "[\"--version\"]")),
    ("-atrn host domains", Refused),
    ("-B 8BITMIME a@b", Ignored),
    ("-bd", Acts(USERS, "=== call -bd\n")),
    ("-bdf", Acts(USERS, "=== call -bdf\n")),
    ("-be x", Acts("tests/parity/2-configuration/untrusted_user.case", "-be")),
    ("-bem file x", Refused),
    ("-bF file", Refused),
    ("-bf file", Refused),
    ("-bfd domain", Refused),
    ("-bfl part", Refused),
    ("-bfp prefix", Refused),
    ("-bfs suffix", Refused),
    ("-bh 192.0.2.1", Refused),
    ("-bhc 192.0.2.1", Refused),
    ("-bi", Acts(ARGUMENTS, "\"newaliases\"")),
    ("-bI:help", Acts(HERE, "[\"-bI:help\"]")),
    ("-bI:dscp", Refused),
    ("-bI:modules", Refused),
    ("-bI:sieve", Refused),
    ("-bm a@b", Acts(HERE, "[\"-bm\", \"-odq\"")),
    ("-bmalware file", Refused),
    ("-bnq a@b", Acts(HERE, "[\"-bnq\"")),
    ("-bP", Acts("tests/config_parity.rs", "-bP")),
    ("-bp", Acts(MESSAGES, "=== call -bp\n")),
    ("-bpa", Acts(HERE, "\"-bpa\"")),
    ("-bpc", Acts(MESSAGES, "=== call -bpc\n")),
    ("-bpi", Acts(HERE, "\"-bpi\"")),
    ("-bpr", Acts(HERE, "\"-bpr\"")),
    ("-bpra", Acts(MESSAGES, "=== call -bpra\n")),
    ("-bpri", Acts(HERE, "\"-bpri\"")),
    ("-bpru", Acts(HERE, "\"-bpru\"")),
    ("-bpu", Acts(HERE, "\"-bpu\"")),
    ("-brt x", Refused),
    ("-brw x", Refused),
    ("-bS", Refused),
    ("-bs", Acts(VERBOSE, "-bs\n")),
    ("-bt a@b", Acts("tests/parity/9-options/router_addresses.case", "-bt")),
    ("-bV", Acts(HERE, "[\"-bV\"]")),
    ("-bv a@b", Acts("tests/parity/9-options/router_addresses.case", "-bv")),
    ("-bvs a@b", Acts("tests/parity/9-options/router_addresses.case", "-bvs")),
    ("-bw", Refused),
    ("-C file -bV", Acts("tests/parity/2-configuration/trusted_configuration.case", "-C @DIR@/trusted.conf")),
    ("-DX=y -bV", Acts("tests/parity/2-configuration/trusted_configuration.case", "-DX=y")),
    ("-d -bV", Acts(HERE, "[\"-d-all+route\"")),
    ("-dd -bV", Acts("src/log/debug.rs", "-dd")),
    ("-dp100 -bV", Refused),
    ("-dt=1 -bV", Refused),
    ("-dS -bV", Refused),
    ("-E a@b", Acts(USERS, "-odi -E1aaaaa-000000-00 ann")),
    ("-F Name a@b", Acts(LINES, "-F \"Full Name\"")),
    ("-f x@y a@b", Acts(USERS, "-odi -f other@test.example ann")),
    ("-G a@b", Acts(HERE, "[\"-G\"")),
    ("-h 5 a@b", Ignored),
    ("-h x a@b", Unknown),
    ("-h5 a@b", Ignored),
    ("-i a@b", Acts(LINES, "-t\n")),
    ("-L tag a@b", Refused),
    ("-M 1aaaaa-000000-00", Acts(MESSAGES, "for option in -M ")),
    ("-Mar 1aaaaa-000000-00 a@b", Acts(MESSAGES, "-Mar")),
    ("-MC transport host address 25 1 1aaaaa-000000-00", Refused),
    ("-MCA", Refused),
    ("-MCD", Refused),
    ("-MCd x", Refused),
    ("-MCG queue", Refused),
    ("-MCK", Refused),
    ("-MCL", Refused),
    ("-MCP", Refused),
    ("-MCp", Refused),
    ("-MCQ 1 2", Refused),
    ("-MCq a@b 5", Refused),
    ("-MCS", Refused),
    ("-MCT", Refused),
    ("-MCt 192.0.2.1 25 x", Refused),
    ("-Mc 1aaaaa-000000-00", Acts(MESSAGES, "-Mc")),
    ("-Mes 1aaaaa-000000-00 a@b", Acts(MESSAGES, "-Mes")),
    ("-Mf 1aaaaa-000000-00", Acts(MESSAGES, "-Mf")),
    ("-Mg 1aaaaa-000000-00", Acts(MESSAGES, "-Mg")),
    ("-MG queue 1aaaaa-000000-00", Refused),
    ("-Mmad 1aaaaa-000000-00", Acts(MESSAGES, "-Mmad")),
    ("-Mmd 1aaaaa-000000-00 a@b", Acts(MESSAGES, "-Mmd")),
    ("-Mrm 1aaaaa-000000-00", Acts(MESSAGES, "-Mrm")),
    ("-be -Mset 1aaaaa-000000-00 x", Refused),
    ("-Mt 1aaaaa-000000-00", Acts(MESSAGES, "-Mt")),
    ("-Mvb 1aaaaa-000000-00", Acts(MESSAGES, "-Mvb")),
    ("-Mvc 1aaaaa-000000-00", Acts(MESSAGES, "-Mvc")),
    ("-Mvh 1aaaaa-000000-00", Acts(MESSAGES, "-Mvh")),
    ("-Mvl 1aaaaa-000000-00", Acts(MESSAGES, "-Mvl")),
    ("-m a@b", Ignored),
    ("-N a@b", Refused),
    ("-n -bP spool_directory", Acts(HERE, "[\"-n\", \"-bP\"")),
    ("-O data a@b", Ignored),
    ("-oA file a@b", Ignored),
    ("-oB 5 a@b", Refused),
    ("-odb a@b", Acts(HERE, "[\"-odb\"")),
    ("-odf a@b", Acts(HERE, "[\"-odf\"")),
    ("-odi a@b", Acts(VERBOSE, "-odi ann")),
    ("-odq a@b", Acts(VERBOSE, "-odq")),
    ("-odqs a@b", Acts(HERE, "[\"-odqs\"")),
    ("-odqs -bd", Refused),
    ("-oee a@b", Acts(HERE, "[\"-oee\"")),
    ("-oem a@b", Acts(HERE, "[\"-oem\"")),
    ("-oep a@b", Acts(HERE, "[\"-oep\"")),
    ("-oeq a@b", Acts(HERE, "[\"-oeq\"")),
    ("-oew a@b", Acts(HERE, "[\"-oew\"")),
    ("-oi a@b", Acts(HERE, "[\"-oi\"")),
    ("-oitrue a@b", Acts(HERE, "[\"-oitrue\"")),
    ("-oMa 192.0.2.1 a@b", Acts(USERS, "-oMa 192.0.2.1.99")),
    ("-oMaa name a@b", Acts(HERE, "\"-oMaa\"")),
    ("-oMai id a@b", Acts(USERS, "-oMai id -be")),
    ("-oMas a@b a@b", Acts(HERE, "\"-oMas\"")),
    ("-oMi 192.0.2.1 a@b", Acts(USERS, "-oMi 192.0.2.2.25")),
    ("-oMm 1aaaaa-000000-00 a@b", Acts("tests/parity/2-configuration/options_of_trusted_alone.case", "-oMm")),
    ("-oMr protocol a@b", Acts(USERS, "-oMr p ")),
    ("-oMs name a@b", Acts(USERS, "-oMs h.example")),
    ("-oMt ident a@b", Acts(USERS, "-oMt i ")),
    ("-om a@b", Ignored),
    ("-oo a@b", Ignored),
    ("-oP file -bd", Acts("tests/parity/2-configuration/options_of_trusted_alone.case", "-oP")),
    ("-oPX", Acts("tests/parity/2-configuration/options_of_trusted_alone.case", "-oPX")),
    ("-or 5s a@b", Acts(HERE, "[\"-or\"")),
    ("-os 5s -bs", Acts(HERE, "[\"-os\"")),
    ("-ov a@b", Acts(VERBOSE, "-ov")),
    ("-oX 25 -bd", Acts("tests/support/parity/world.rs", "\"-oX\"")),
    ("-oY -bd", Acts(HERE, "no_submission")),
    ("-pd a@b", Refused),
    ("-ps a@b", Refused),
    ("-pproto:host a@b", Acts(USERS, "-pother:other.example")),
    ("-q", Acts(VERBOSE, "-v -q\n")),
    ("-qf", Acts("src/cli/args/option_q.rs", "-qqiffl")),
    ("-qff", Acts(VERBOSE, "-qff")),
    ("-qi", Acts(MESSAGES, "-qi")),
    ("-qql", Acts(MESSAGES, "-qql")),
    ("-qG", Acts("src/cli/args/option_q.rs", "named_queue")),
    ("-qGname", Refused),
    ("-q30m", Acts(USERS, "-q10m")),
    ("-qR x", Acts("src/cli/args/option_q.rs", "Rff")),
    ("-R x", Acts(MESSAGES, "-R ann")),
    ("-S x", Acts(MESSAGES, "-S ")),
    ("-r x@y a@b", Acts(USERS, "-odi -r ")),
    ("-Tqt 5 a@b", Unknown),
    ("-t", Acts(LINES, "-odi -t\n")),
    ("-ti", Acts(ARGUMENTS, "-ti")),
    ("-tls-on-connect -bd", Acts("tests/parity/7-tls/tls_on_connect.case", "tls")),
    ("-U a@b", Ignored),
    ("-v a@b", Acts(VERBOSE, "-v -odi ann")),
    ("-x a@b", Ignored),
    ("-X file a@b", Ignored),
    ("-z line", Acts(USERS, "-z \"a line")),
];

fn words(line: &str) -> Vec<BString> {
    line.split(' ').map(BString::from).collect()
}

fn read(line: &str) -> Result<Invocation, String> {
    parse(b"oxim", &words(line)).map_err(|error| error.to_string())
}

/// The program with a configuration and a spool of its own.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new(more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        // Whoever runs the test owns everything; root may not be who the mailer runs as.
        let (uid, gid) = if uid.is_root() { (65534, 65534) } else { (uid.as_raw(), gid.as_raw()) };
        let here = directory.path().display();
        let text = format!(
            "primary_hostname = h.test\nqualify_domain = h.test\nspool_directory = {here}/spool\nexim_user = {uid}\n\
             exim_group = {gid}\nkeep_environment =\ntls_advertise_hosts =\n{more}\nbegin routers\n\
             far:\n driver = manualroute\n domains = far.test\n route_list = * 127.0.0.1::1 byname\n self = send\n\
             transport = smtp\n\
             local:\n driver = accept\n local_parts = !nobody\n transport = box\n\
             begin transports\nsmtp:\n driver = smtp\nbox:\n driver = appendfile\n directory = {here}/mail\n \
             maildir_format\n user = {uid}\nbegin retry\n* * F,1h,10m\n"
        );
        std::fs::write(directory.path().join("conf"), text).unwrap();
        std::fs::create_dir(directory.path().join("mail")).unwrap();
        nix::unistd::chown(&directory.path().join("mail"), Some(uid.into()), Some(gid.into())).unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        Self { directory }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oxim"));
        command.arg("-C").arg(self.directory.path().join("conf")).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self.command(arguments).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes()); // not every call reads
        child.wait_with_output().unwrap()
    }

    /// Standard output and standard error of a call that ends well.
    fn good(&self, arguments: &[&str], input: &str) -> (String, String) {
        let output = self.run(arguments, input);
        let (out, err) = texts(&output);
        assert!(output.status.success(), "{arguments:?}: {out}{err}");
        (out, err)
    }

    fn mails(&self) -> usize {
        std::fs::read_dir(self.directory.path().join("mail/new")).map_or(0, Iterator::count)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("spool/log/mainlog")).unwrap_or_default()
    }

    fn queue(&self) -> usize {
        self.good(&["-bpc"], "").0.trim().parse().unwrap()
    }

    /// The header files in the queue.
    fn headers(&self) -> String {
        let mut text = String::new();
        for entry in std::fs::read_dir(self.directory.path().join("spool/input")).unwrap().flatten() {
            if entry.file_name().to_string_lossy().ends_with("-H") {
                text.push_str(&std::fs::read_to_string(entry.path()).unwrap());
            }
        }
        text
    }
}

fn texts(output: &Output) -> (String, String) {
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn every_documented_option_acts_and_is_tested_or_is_ignored_as_documented_or_refuses() {
    let place = Place::new("");
    for (line, does) in OPTIONS {
        let option = line.split(' ').find(|word| word.starts_with('-')).unwrap();
        match does {
            Acts(file, text) => {
                let found = read(line);
                assert!(found.is_ok(), "{line}: {found:?}");
                let tests = std::fs::read_to_string(file).unwrap();
                // Not the table itself.
                let tests = if *file == HERE { tests.split_once("fn words(").unwrap().1 } else { &tests };
                assert!(tests.contains(text), "{line}: {file} has no {text:?}");
            }
            Ignored => {
                let (with, without) = (read(line), read("a@b"));
                assert_eq!(with, without, "{line} is not ignored");
            }
            Unknown => {
                let text = read(line).expect_err(line);
                assert_eq!(
                    text,
                    format!("exim abandoned: unknown, malformed, or incomplete option {option}")
                );
            }
            Refused => {
                let arguments: Vec<&str> = line.split(' ').collect();
                let output = place.run(&arguments, "");
                let text = texts(&output).1;
                assert!(text.contains("is known but not supported yet"), "{line}: {text}");
                assert!(!output.status.success(), "{line}");
            }
        }
    }
    assert_eq!(place.log(), "", "none of it did anything");
}

#[test]
fn the_table_has_every_option_that_the_parser_knows_by_letter() {
    let listed =
        |option: &str| OPTIONS.iter().any(|(line, _)| line.split(' ').any(|word| word.starts_with(option)));
    let mut missing = Vec::new();
    for letter in ('a'..='z').chain('A'..='Z') {
        let option = format!("-{letter}");
        let known = ["", " x", " x y", " 5m", &format!(" {ID}")].iter().any(|rest| {
            !read(&format!("{option}{rest}"))
                .is_err_and(|text| text.contains("unknown, malformed, or incomplete"))
        });
        if known && !listed(&option) {
            missing.push(option);
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
    assert!(std::fs::read_to_string(QUEUE).unwrap().contains("Act::"));
}

#[test]
fn the_version_has_the_form_of_exim_4_97_and_names_oxim_and_gnutls() {
    let (text, _) = Place::new("").good(&["-bV"], "");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("Exim version 4."), "{text}");
    assert!(lines[1].starts_with("oxim version ") && lines[1].contains("GnuTLS"), "{text}");
    assert!(lines[1].contains(" at build time, ") && lines[1].ends_with(" at run time"), "{text}");
    let line = |title: &str| {
        let found: Vec<&&str> = lines.iter().filter(|line| line.starts_with(title)).collect();
        assert_eq!(found.len(), 1, "one line {title}: {text}");
        found[0].split_once(": ").unwrap_or((found[0], "")).1.to_owned()
    };
    assert!(line("Support for:").contains("GnuTLS"));
    assert_eq!(line("Routers (built-in):"), "accept manualroute redirect");
    assert_eq!(line("Transports (built-in):"), "appendfile/maildir smtp");
    assert_eq!(line("Size of off_t:"), "8");
    assert!(line("Lookups (built-in):").contains("lsearch"));
    line("Authenticators (built-in)");
    assert_eq!(Place::new("").good(&["--version"], "").0.lines().next(), lines.first().copied());
    // What -bV claims can be used: each driver that is named reads its options, each other refuses.
    for driver in ["dnslookup", "ipliteral", "iplookup", "queryprogram"] {
        assert!(!line("Routers (built-in):").contains(driver));
    }
}

#[test]
fn the_configuration_is_shown_by_name_as_a_whole_its_macros_and_its_lists() {
    let place =
        Place::new("MACRO = value\nqualify_recipient = MACRO.test\ndomainlist ours = a.test : MACRO.test");
    let shown = |arguments: &[&str]| place.good(arguments, "").0;
    assert_eq!(shown(&["-bP", "qualify_recipient"]), "qualify_recipient = value.test\n");
    assert_eq!(shown(&["-n", "-bP", "qualify_recipient"]), "value.test\n");
    assert_eq!(shown(&["-bP", "+ours"]), "domainlist ours = a.test : value.test\n");
    assert_eq!(shown(&["-bP", "macro", "MACRO"]), "MACRO=value\n");
    assert!(shown(&["-bP", "macros"]).contains("MACRO=value\n"));
    assert_eq!(shown(&["-be", "a MACRO b"]), "a value b\n");
    assert_eq!(shown(&["-DMACRO=other", "-DOWN=mine", "-be", "MACRO OWN"]), "other mine\n");
    assert_eq!(place.good(&["-be"], "MACRO == new\nMACRO\n").0, "> Defined macro 'MACRO'\n> new\n> \n");
    assert!(shown(&["-bP"]).contains("qualify_recipient = value.test\n"));
    assert!(shown(&["-bP", "routers"]).contains("local router:"));
    assert!(shown(&["-bP", "router_list"]).contains("local\n"));
    assert!(shown(&["-bP", "transport", "box"]).contains("maildir_format\n"));
    assert!(shown(&["-bP", "config"]).contains("driver = accept"));
    assert!(!place.run(&["-bP", "no_such_option"], "").status.success());
}

#[test]
fn what_is_this_and_what_can_be_asked_is_said_on_standard_error() {
    let place = Place::new("");
    for arguments in [["--help"], ["-bI:help"]] {
        let output = place.run(&arguments, "");
        assert_eq!(output.status.code(), Some(1));
        assert!(!texts(&output).1.is_empty());
    }
}

const MESSAGE: &str = "Subject: x\n\none\n.\ntwo\n";

#[test]
fn delivery_options_say_when_a_message_is_delivered() {
    let place = Place::new("");
    place.good(&["-odf", "a"], MESSAGE);
    assert_eq!((place.mails(), place.queue()), (1, 0));
    place.good(&["-odb", "a"], MESSAGE);
    let end = Instant::now() + Duration::from_secs(20);
    while place.mails() < 2 {
        assert!(Instant::now() < end, "{}", place.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    place.good(&["-bm", "-odq", "a"], MESSAGE);
    assert_eq!((place.mails(), place.queue()), (2, 1));
    // -odqs: local deliveries now, remote ones are left to a queue run.
    place.good(&["-odqs", "-odi", "a", "a@far.test"], MESSAGE);
    assert_eq!((place.mails(), place.queue()), (3, 2));
    assert!(!place.log().contains("T=smtp"), "{}", place.log());
}

#[test]
fn a_dot_ends_the_message_unless_it_is_text() {
    let place = Place::new("");
    for (arguments, lines) in [(["-odq"], 1), (["-oi"], 3), (["-oitrue"], 3), (["-i"], 3)] {
        let arguments = [&arguments[..], &["-odq", "a"]].concat();
        place.good(&arguments, MESSAGE);
        let text = place.headers();
        assert!(text.contains(&format!("-body_linecount {lines}\n")), "{arguments:?}: {text}");
        for entry in std::fs::read_dir(place.directory.path().join("spool/input")).unwrap().flatten() {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
}

#[test]
fn errors_in_a_message_are_told_as_the_option_says() {
    let place = Place::new("");
    for (arguments, code, mailed) in [
        (["-oem"], 1, true),
        (["-oew"], 1, true),
        (["-oee"], 0, true),
        (["-oep"], 1, false),
        (["-oeq"], 1, false),
    ] {
        let before = place.mails() + place.queue();
        let output = place.run(&[arguments[0], "-odi", "-t"], "Subject: no recipients\n\n");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        if !mailed {
            assert_eq!(place.mails() + place.queue(), before, "{arguments:?}");
            continue;
        }
        let end = Instant::now() + Duration::from_secs(20);
        while place.mails() + place.queue() == before {
            assert!(Instant::now() < end, "{arguments:?}: {}", place.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn addresses_are_left_alone_and_nothing_is_fixed_up_where_that_is_asked_for() {
    let place = Place::new("");
    let output = place.run(&["-bnq", "-odq", "-oep", "a"], MESSAGE);
    assert!(texts(&output).1.contains("unqualified recipient address not allowed"));
    if !nix::unistd::geteuid().is_root() {
        return; // who runs everything under one uid is trusted all the same, but need not be: -G is for trusted users
    }
    place.good(&["-G", "-odq", "a"], MESSAGE);
    assert!(!place.headers().contains("From: "), "{}", place.headers());
    let session =
        "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<a@h.test>\r\nDATA\r\nSubject: x\r\n\r\n.\r\nQUIT\r\n";
    let open = Place::new("acl_smtp_rcpt = accept");
    open.good(&["-G", "-odq", "-bs"], session);
    assert!(!open.headers().contains("From: "), "{}", open.headers());
    let (said, _) = texts(&open.run(&["-bnq", "-odq", "-bs"], &session.replace("a@b", "a")));
    assert!(said.contains("501 <a>: sender address must contain a domain"), "{said}");
}

#[test]
fn a_trusted_caller_names_the_peer_of_an_smtp_session() {
    let place = Place::new("acl_smtp_rcpt = accept");
    let session =
        "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<a@h.test>\r\nDATA\r\nSubject: x\r\n\r\n.\r\nQUIT\r\n";
    let arguments =
        ["-oMa", "192.0.2.1.99", "-oMaa", "plain", "-oMai", "who", "-oMas", "who@test", "-oMs", "peer.test"];
    place.good(&[&arguments[..], &["-odq", "-bs"]].concat(), session);
    let log = place.log();
    assert!(
        log.contains("<= a@b H=peer.test (x) [192.0.2.1] ") && log.contains(" P=esmtpa A=plain:who"),
        "{log}"
    );
}

/// Runs until this much of the input was said, and gives how long it took to end.
fn slow(place: &Place, arguments: &[&str], said: &str) -> (Duration, Output) {
    let mut child = place.command(arguments).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(said.as_bytes()).unwrap();
    let begin = Instant::now();
    let output = child.wait_with_output().unwrap();
    drop(input);
    (begin.elapsed(), output)
}

#[test]
fn input_that_does_not_come_is_waited_for_as_long_as_an_option_says() {
    const LONG: Duration = Duration::from_secs(30);
    let place = Place::new("");
    let (time, output) = slow(&place, &["-or", "1s", "-odq", "a"], "Subject: x\n\n");
    assert!(time < LONG && texts(&output).1.contains("timed out while reading"), "{output:?}");
    let (time, output) = slow(&place, &["-os", "1s", "-bs"], "EHLO x\r\n");
    assert!(time < LONG && texts(&output).0.contains("421 h.test: SMTP command timeout"), "{output:?}");
    let configured = Place::new("receive_timeout = 1s\nsmtp_receive_timeout = 1s");
    let (time, output) = slow(&configured, &["-odq", "a"], "Subject: x\n\n");
    assert!(time < LONG && texts(&output).1.contains("timed out while reading"), "{output:?}");
    // The option stands above the configuration.
    let patient = Place::new("smtp_receive_timeout = 1h");
    let (time, _) = slow(&patient, &["-os", "1s", "-bs"], "");
    assert!(time < LONG);
    assert_eq!(place.queue(), 0);
}

#[test]
fn the_queue_is_listed_in_every_form() {
    let place = Place::new("");
    place.good(&["-odq", "a", "b"], MESSAGE);
    let ids = place.good(&["-bpi"], "").0;
    assert_eq!(ids, place.good(&["-bpri"], "").0);
    let id = ids.trim();
    for option in ["-bp", "-bpa", "-bpr", "-bpru", "-bpu"] {
        let (text, _) = place.good(&[option], "");
        assert!(
            text.contains(id) && text.contains("a@h.test") && text.contains("b@h.test"),
            "{option}: {text}"
        );
    }
    place.good(&["-Mmd", id, "a@h.test"], "");
    assert!(place.good(&["-bpa"], "").0.contains("D a@h.test"));
    assert!(!place.good(&["-bpu"], "").0.contains("a@h.test\n"));
}

#[test]
fn a_reader_that_has_enough_is_no_failure_of_a_call_that_only_tells_something() {
    let place = Place::new("");
    place.good(&["-odq", "a"], MESSAGE);
    for arguments in [&["-bV"][..], &["-bP"], &["-be", "x"], &["-bp"], &["-bt", "a@h.test"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = place.command(arguments).stdin(Stdio::null()).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), texts(&output).1.as_str()), (Some(0), ""), "{arguments:?}");
    }
    // Where there is a reader to come, a failure to write is one.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = place.command(&["-bV"]).stdin(Stdio::null()).stdout(full).output().unwrap();
    assert!(!output.status.success() && texts(&output).1.contains("No space left"), "{output:?}");
}

#[test]
fn debugging_shows_what_was_selected_and_nothing_else() {
    let place = Place::new("");
    let shown = |arguments: &[&str]| texts(&place.run(arguments, "")).1;
    let routing = shown(&["-d-all+route", "-bt", "a@far.test"]);
    assert!(routing.contains("far") && routing.lines().all(|line| !line.contains("expand")), "{routing}");
    assert_eq!(shown(&["-d-all", "-bt", "a@h.test"]), "");
    let all = shown(&["-d+all", "-be", "$primary_hostname"]);
    assert!(all.contains("primary_hostname"), "{all}");
    let stamped = shown(&["-d-all+route+timestamp+pid", "-bt", "a@far.test"]);
    let line = stamped.lines().next().unwrap();
    assert!(line.split(' ').next().unwrap().contains(':'), "a time first: {line}");
    assert!(line.split(' ').nth(1).unwrap().parse::<u32>().is_ok(), "then the pid: {line}");
    for (option, text) in [
        ("-d+nonsense", "exim: unknown debug_selector setting: +nonsense"),
        ("-dnonsense", "exim: malformed debug_selector setting: + or - expected but found \"nonsense\""),
        ("-d+filter", "exim: debug selector filter is known but not supported yet"),
    ] {
        assert_eq!(shown(&[option, "-bV"]).trim(), text);
    }
}

#[test]
fn a_daemon_told_so_takes_no_submissions_of_other_processes() {
    let no_submission = Place::new("");
    let mut command = no_submission.command(&["-bdf", "-oY", "-oX", "127.0.0.1.0", "-oP"]);
    let mut child = command.arg(no_submission.directory.path().join("pid")).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while !no_submission.log().contains("daemon started") && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    let socket = no_submission.directory.path().join("spool/submit");
    let there = socket.exists();
    let _ = nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(child.id().cast_signed()),
        nix::sys::signal::Signal::SIGTERM,
    );
    let mut said = String::new();
    let _ = child.stderr.take().unwrap().read_to_string(&mut said);
    let _ = child.wait();
    assert!(no_submission.log().contains("daemon started"), "{said}{}", no_submission.log());
    assert!(!there);
}
