//! The string language against recorded answers of Debian's exim4: `tests/expand/*.txt`.
//!
//! `tests/expand/record` tells the form of the files and records them again.

#[path = "expand/context.rs"]
mod context;

use bstr::{BString, ByteSlice};
use context::directory;
use oxim::cli::test_expand;
use oxim::config::macros::Macros;
use oxim::dns::{Answer, Mx, Resolver, Tlsa};
use oxim::expand::Context;
use oxim::expand::context::{Globals, NoHooks};
use oxim::mail::Header;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// No name exists.
struct EmptyDns;

impl Resolver for EmptyDns {
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

fn globals() -> Arc<Globals> {
    Arc::new(context::globals(Arc::new(EmptyDns)))
}

/// One case: the expression, its answer, and where it stands.
struct Case {
    at: String,
    expression: BString,
    answer: BString,
}

fn cases(file: &Path) -> Vec<Case> {
    let text = std::fs::read(file).unwrap();
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in text.split(|b| *b == b'\n').enumerate() {
        if let Some(expression) = line.strip_prefix(b"> ") {
            let at = format!("{name}:{}", number + 1);
            cases.push(Case { at, expression: expression.into(), answer: "".into() });
        } else if let Some(answer) = line.strip_prefix(b"< ") {
            let case = cases.last_mut().expect("an answer stands below its expression");
            case.answer.extend_from_slice(answer);
            case.answer.push(b'\n');
        }
    }
    cases
}

/// The message of `-bem` that the cases of message.txt see.
fn read_message(context: &mut Context) {
    let text = std::fs::read(directory().join("message")).unwrap();
    let (head, body) = text.split_once_str("\n\n").unwrap();
    let mut headers: Vec<BString> = Vec::new();
    for line in head.lines_with_terminator().map(|line| [line.trim_end_with(|c| c == '\n'), b"\n"].concat()) {
        match headers.last_mut() {
            Some(last) if line[0].is_ascii_whitespace() => last.extend_from_slice(&line),
            _ => headers.push(line.into()),
        }
    }
    context.message.headers = Arc::new(headers.into_iter().map(Header::new).collect());
    context.message.body_start = Some(Arc::new(body.into()));
    context.message.body_end = Some(Arc::new(body.into()));
    context.message.body_size = body.len() as u64;
    context.message.body_lines = body.lines().count() as u64;
}

fn answer(globals: &Arc<Globals>, case: &Case) -> BString {
    let data = directory().join("data").to_string_lossy().into_owned();
    let expression = BString::from(case.expression.replace("DATA", &data));
    let mut context = Context::new(globals.clone(), &NoHooks);
    if case.at.starts_with("message.txt") {
        read_message(&mut context);
    }
    let mut output = Vec::new();
    test_expand::run(&context, Macros::default(), &[expression], &mut &b""[..], &mut output).unwrap();
    output.replace(&data, "DATA").into()
}

#[test]
fn answers_are_those_that_were_recorded() {
    let globals = globals();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(directory()).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "txt"));
    files.sort();
    let (mut count, mut wrong) = (0, String::new());
    for case in files.iter().flat_map(|file| cases(file)) {
        count += 1;
        let got = answer(&globals, &case);
        if got != case.answer {
            wrong +=
                &format!("{} {}\n  recorded {}  ours     {}", case.at, case.expression, case.answer, got);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(count > 400, "only {count} cases");
}

#[test]
fn lines_of_standard_input_may_define_macros_and_set_variables() {
    let context = Context::new(globals(), &NoHooks);
    let input = b"MY = lc\n${MY:A\\\n  B}\nset acl_m_x = ${MY:C}\n$acl_m_x\n$foo\n";
    let mut output = Vec::new();
    test_expand::run(&context, Macros::default(), &[], &mut &input[..], &mut output).unwrap();
    let expected = "> Defined macro 'MY'\n> ab\n> variable 'acl_m_x' set\n> c\n> Failed: unknown variable name \"foo\"\n> \n";
    assert_eq!(output.as_bstr(), expected);
}

#[test]
fn what_leads_back_to_itself_or_is_nested_too_deeply_is_refused() {
    let answer = |text: &str| {
        let case = Case { at: String::new(), expression: text.into(), answer: "".into() };
        answer(&globals(), &case).to_string()
    };
    let nested = |levels: usize| "${if eq{a}{a}{".repeat(levels) + "x" + &"}}".repeat(levels);
    assert_eq!(answer(&nested(90)), "x\n");
    assert!(answer(&nested(1000)).contains("nested too deeply"));
    assert!(answer(&"${lc:".repeat(100_000)).contains("nested too deeply"));
    assert!(answer(&("${if ".to_owned() + &"and{{".repeat(100_000))).contains("nested too deeply"));
    assert!(answer(&format!("${{eval:{}", "(".repeat(100_000) + "}")).contains("nested too deeply"));
    // Why is told to the panic log, once for each list on the way.
    assert_eq!(
        answer("${if match_domain{x}{+loop}{y}{n}}"),
        "Failed: unable to complete match against \"+loop\": the list cannot be expanded\n"
    );
}

/// Pieces of expressions: joined at random, most are wrong, and many nearly right.
const PIECES: &[&str] = &[
    "${",
    "}",
    "{",
    "$",
    "\\",
    "\\N",
    "\\x",
    "a",
    "1",
    "-1",
    "0",
    " ",
    ":",
    ";",
    "<;",
    ",",
    "_",
    "=",
    "!",
    "*",
    "^",
    "@",
    "/",
    "\"",
    "[",
    "]",
    "(",
    "é",
    "if ",
    "eq{a}",
    "match",
    "and{{",
    "or{",
    "forany",
    "inlist",
    "bool{",
    "def:",
    "h_x:",
    "extract",
    "listextract",
    "lookup",
    "lsearch",
    "partial-",
    "map",
    "filter",
    "reduce",
    "sort{a:b}{<}",
    "sg{abc}",
    "tr",
    "hash_",
    "substr_",
    "substr",
    "length_",
    "nhash_8_",
    "eval:",
    "mask:",
    "base64d:",
    "hex2b64:",
    "rfc2047d:=?utf-8?q?",
    "=?=",
    "quote:",
    "utf8clean:",
    "from_utf8:",
    "listcount:",
    "listnamed:d1",
    "address:",
    "addresses:",
    "domain:",
    "time_eval:",
    "ipv6norm:",
    "reverse_ip:",
    "json",
    "jsons",
    "prvs",
    "prvscheck",
    "\\xff",
    "expand:",
    "match_domain{",
    "match_ip{1.2.3.4}{",
    "match_address{",
    "lsearch;DATA/aliases",
    "+d1",
    "+nosuch",
    "iplsearch;DATA/networks",
    "@[]",
    "@mx_any",
    "1.2.3.0/24",
    "fail",
    "{yes}{no}",
    "value",
    "item",
    "}}",
];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(500))]
    #[test]
    fn no_expression_makes_the_evaluation_panic(
        pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..24),
    ) {
        let case = Case { at: "message.txt".into(), expression: pieces.concat().into(), answer: "".into() };
        answer(&context_of_all_cases(), &case);
    }
}

/// Read once: reading the configuration takes longer than a case.
fn context_of_all_cases() -> Arc<Globals> {
    static GLOBALS: std::sync::OnceLock<Arc<Globals>> = std::sync::OnceLock::new();
    GLOBALS.get_or_init(globals).clone()
}
