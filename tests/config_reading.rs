//! Reading configurations: every name Exim knows is known, and Debian's configuration is read without errors.

use oxim::config::{self, ConfigError, MacroOverrides, Written};
use oxim::load::tables::tables;
use std::path::Path;

fn read(text: &str) -> (Option<Written>, Vec<ConfigError>) {
    let mut opener = |path: &Path| match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    config::read(Path::new("test.conf"), text.as_bytes(), &MacroOverrides::default(), &tables(), &mut opener)
}

#[test]
fn options_lists_acls_and_drivers_are_read_with_their_places() {
    let text = "\
QUEUE = queue_only
primary_hostname = mail.example.org
no_QUEUE
domainlist local_domains = @ : example.org
.ifdef _HAVE_TLS
tls_certificate = /etc/cert
.endif
begin acl
check:
  accept hosts = :
         endpass
begin routers
local:
  driver = accept
  check_local_user
  transport = mail
begin transports
mail:
  driver = appendfile
  directory = /var/mail/$local_part_data
  maildir_format
begin retry
* * F,2h,15m
";
    let (written, errors) = read(text);
    assert!(errors.is_empty(), "{errors:?}");
    let written = written.unwrap();
    assert_eq!(written.main.plain("tls_certificate").unwrap(), "/etc/cert");
    assert!(!written.main.bool("queue_only"));
    assert_eq!(written.main.int("received_headers_max"), 30);
    assert_eq!(written.acls[0].lines.len(), 2);
    assert_eq!(written.routers[0].at.line, 13);
    assert!(written.routers[0].options.bool("retry_use_local_part"));
    assert!(written.transports[0].options.bool("maildir_format"));
    assert_eq!(written.retry.len(), 1);
}

#[test]
fn everything_wrong_is_said_at_once_with_its_line() {
    let text =
        "qualify_domian = x\nprimary_hostname\nbegin routers\na:\n driver = acept\nb:\n driver = dnslookup\n";
    let (written, errors) = read(text);
    assert!(written.is_none());
    let errors: Vec<String> = errors.iter().map(|error| error.to_string()).collect();
    assert!(errors[0].starts_with(
        "test.conf:1: main option \"qualify_domian\" unknown (the nearest known name is \"qualify_domain\")"
    ));
    assert!(
        errors[1].starts_with("test.conf:2: unexpected end of line (data missing) after primary_hostname")
    );
    assert!(errors[2].starts_with("test.conf:5: router a: cannot find router driver \"acept\" (the nearest"));
    assert!(errors[3].starts_with("test.conf:7: router driver \"dnslookup\" is known but not supported yet"));
    assert_eq!(errors.len(), 4);
}

#[test]
fn what_is_only_not_supported_yet_is_still_read() {
    let (written, errors) = read("acl_smtp_dkim = x\nsmtputf8_advertise_hosts =\nperl_at_start = false\n");
    assert!(written.is_some());
    assert_eq!(errors.len(), 1);
    assert!(errors[0].unsupported);
}

#[test]
fn a_driver_that_is_not_supported_yet_is_refused_once_and_can_still_be_listed() {
    let text = "begin routers\na:\n driver = queryprogram\n command = /bin/true\n command_user = root\n";
    let (written, errors) = read(text);
    assert_eq!(written.unwrap().routers[0].options.plain("command").unwrap(), "/bin/true");
    assert_eq!(errors.len(), 1);
    assert_eq!(
        errors[0].to_string(),
        "test.conf:3: router driver \"queryprogram\" is known but not supported yet\n  in: driver = queryprogram"
    );
}

#[test]
fn a_value_equal_to_the_default_is_never_refused() {
    let text = "callout_positive_expire = 24h\nno_mua_wrapper\nchunking_advertise_hosts =\n";
    assert!(read(text).1.is_empty());
    assert_eq!(read("callout_positive_expire = 25h\n").1.len(), 1);
    assert_eq!(read("chunking_advertise_hosts = 10.0.0.0/8\n").1.len(), 1);
}

mod any_text {
    use super::read;
    use proptest::prelude::*;

    /// Pieces of configurations, so that random text gets far.
    const PIECES: [&str; 24] = [
        "\n",
        "\\\n",
        " ",
        "begin ",
        "acl",
        "routers",
        "transports",
        ":",
        "=",
        "==",
        "driver = accept",
        "a",
        "AA",
        ".ifdef ",
        ".else",
        ".endif",
        ".include ",
        "hide ",
        "no_",
        "domainlist ",
        "queue_only",
        "\"\\x4",
        "10K",
        "#",
    ];

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic_and_wrong_text_is_never_silent(
            pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..40),
            noise in ".{0,10}",
        ) {
            let (written, errors) = read(&(pieces.concat() + &noise));
            prop_assert_eq!(written.is_none(), errors.iter().any(|error| !error.unsupported));
        }
    }
}
