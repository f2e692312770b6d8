//! `tls_ocsp_fetch`: whether proofs are fetched, and for which certificates beside those that are shown.
//!
//! It is expanded once, at the start, by a process that has no rights to lose. The master only asks whether it may be on.

use crate::config::{ConfigError, Options};
use crate::expand::context::{Context, Globals, NoHooks};
use crate::expand::{ExpandError, expand};
use crate::ocsp::http::{Url, UrlError};
use crate::text::list;
use bstr::{BStr, BString, ByteSlice};
use std::path::PathBuf;
use std::sync::Arc;

/// Which certificates have their proofs fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetching {
    /// None.
    Off,
    /// Those that the server shows.
    Shown,
    /// Those too, and from the start what is in these files; `*` stands for any part of a file's or directory's name.
    Listed(Vec<PathBuf>),
}

/// May anything be fetched under this configuration, proofs (for a daemon that `listens`) or revocation lists? Then there is
/// a staple keeper.
pub fn needs_keeper(main: &Options, listens: bool) -> bool {
    (listens && may_be_on(main)) || main.bool("tls_crl_fetch")
}

/// May proofs be fetched under this configuration? What is expanded counts as yes.
fn may_be_on(main: &Options) -> bool {
    if !crate::tls::OCSP {
        return false; // there is no such option
    }
    let Some(written) = main.text("tls_ocsp_fetch") else { return false };
    !written.is_literal() || parse(written.text().as_bytes()) != Ok(Fetching::Off)
}

impl Fetching {
    /// Expands the option.
    pub fn of(globals: &Arc<Globals>) -> Result<Self, String> {
        if !may_be_on(&globals.main) {
            return Ok(Fetching::Off);
        }
        let value = expand_plainly(globals, "tls_ocsp_fetch")?;
        parse(&value.unwrap_or_default())
    }
}

/// `tls_ocsp_responder` where no client has named a server.
pub fn responder(globals: &Arc<Globals>) -> Result<Option<BString>, String> {
    Ok(expand_plainly(globals, "tls_ocsp_responder")?.filter(|url| !url.is_empty()))
}

fn expand_plainly(globals: &Arc<Globals>, option: &str) -> Result<Option<BString>, String> {
    let Some(template) = globals.main.text(option) else { return Ok(None) };
    match expand(template, &Context::new(globals.clone(), &NoHooks)) {
        Ok(value) => Ok(Some(value.into_bytes().trim().into())),
        Err(ExpandError::Forced(_)) => Ok(None),
        Err(ExpandError::Defer(text) | ExpandError::Failed(text)) => {
            Err(format!("expansion of {option} failed: {text}"))
        }
    }
}

fn parse(value: &[u8]) -> Result<Fetching, String> {
    match value.trim().to_ascii_lowercase().as_slice() {
        b"" | b"false" | b"no" | b"0" => return Ok(Fetching::Off),
        b"true" | b"yes" | b"1" => return Ok(Fetching::Shown),
        _ => {}
    }
    let path = |item: BString| match item.to_path() {
        Ok(path) if path.is_absolute() && !item.contains(&0) => Ok(path.to_owned()),
        _ => Err(format!(
            "tls_ocsp_fetch: \"{item}\" is neither \"true\" nor \"false\" nor the absolute path of a certificate file"
        )),
    };
    list::items(value.trim())
        .filter(|item| !item.is_empty())
        .map(path)
        .collect::<Result<_, _>>()
        .map(Fetching::Listed)
}

/// What is wrong with the options where they are constant.
pub fn check(main: &Options) -> Vec<ConfigError> {
    let wrong = |option: &str, judge: &dyn Fn(&BStr) -> Result<(), String>| {
        let constant = main.text(option).filter(|template| template.is_literal())?;
        let message = judge(constant.text().as_bytes().trim().as_bstr()).err()?;
        let at = main.written(option)?.at.clone();
        Some(ConfigError { at, message, line: None, unsupported: false })
    };
    let fetch = wrong("tls_ocsp_fetch", &|value| parse(value).map(drop));
    let responder = wrong("tls_ocsp_responder", &check_responder);
    fetch.into_iter().chain(responder).collect()
}

fn check_responder(value: &BStr) -> Result<(), String> {
    if value.is_empty() {
        return Ok(());
    }
    let cure = |error| match error {
        UrlError::Scheme => {
            "it must begin with http:// (responders are asked without TLS: their answers are signed)"
                .to_owned()
        }
        other => format!("{other}"),
    };
    Url::parse(value)
        .map(drop)
        .map_err(|error| format!("tls_ocsp_responder: \"{value}\" is no URL of a responder: {}", cure(error)))
}

#[cfg(all(test, ocsp_stapling))]
mod tests {
    use crate::config::MacroOverrides;
    use std::path::Path;

    fn errors(text: &str) -> Vec<(u32, String)> {
        let mut opener = |_: &Path| Ok(None);
        let (_, errors) =
            crate::load::read(Path::new("c"), text.as_bytes(), &MacroOverrides::default(), &mut opener);
        errors.into_iter().map(|error| (error.at.line, error.message)).collect()
    }

    #[test]
    fn what_is_to_be_fetched_is_yes_no_or_files_and_nothing_else() {
        use super::{Fetching, parse};
        let files = |paths: &[&str]| Ok(Fetching::Listed(paths.iter().map(Into::into).collect()));
        for off in ["", " false ", "no", "0"] {
            assert_eq!(parse(off.as_bytes()), Ok(Fetching::Off));
        }
        for on in ["true", "YES", "1"] {
            assert_eq!(parse(on.as_bytes()), Ok(Fetching::Shown));
        }
        assert_eq!(parse(b"/a/one.pem : /b/*/two.pem"), files(&["/a/one.pem", "/b/*/two.pem"]));
        assert_eq!(parse(b"<; /a:b ; "), files(&["/a:b"]));
        assert!(parse(b"/a : b.pem").unwrap_err().starts_with("tls_ocsp_fetch: \"b.pem\" is neither"));
    }

    #[test]
    fn a_daemon_that_only_runs_the_queue_needs_a_keeper_for_lists_and_not_for_proofs() {
        let needs = |text: &str, listens| {
            let mut opener = |_: &Path| Ok(None);
            let (written, errors) =
                crate::load::read(Path::new("c"), text.as_bytes(), &MacroOverrides::default(), &mut opener);
            super::needs_keeper(&written.unwrap_or_else(|| panic!("{errors:?}")).main, listens)
        };
        for (text, listening, not_listening) in [
            ("", false, false),
            ("tls_ocsp_fetch = false\n", false, false),
            ("tls_ocsp_fetch = true\n", true, false),
            ("tls_ocsp_fetch = ${if exists{/x}{yes}{no}}\n", true, false),
            ("tls_crl_fetch\n", true, true),
        ] {
            assert_eq!((needs(text, true), needs(text, false)), (listening, not_listening), "{text}");
        }
    }

    #[test]
    fn constant_mistakes_are_refused_where_they_stand_with_the_cure() {
        let text = "qualify_domain = a\ntls_ocsp_fetch = maybe\ntls_ocsp_responder = https://a/\n";
        assert_eq!(
            errors(text),
            [
                (
                    2,
                    "tls_ocsp_fetch: \"maybe\" is neither \"true\" nor \"false\" nor the absolute path of a certificate file"
                        .to_owned()
                ),
                (
                    3,
                    "tls_ocsp_responder: \"https://a/\" is no URL of a responder: it must begin with http:// (responders \
                     are asked without TLS: their answers are signed)"
                        .to_owned()
                ),
            ]
        );
        assert_eq!(errors("tls_ocsp_responder = http://:80/\n").len(), 1);
        assert!(
            errors("tls_ocsp_fetch = ${if eq{a}{b}{yes}{no}}\ntls_ocsp_responder = http://${tls_in_sni}/\n")
                .is_empty()
        );
        assert!(errors("tls_ocsp_fetch = true\ntls_ocsp_responder =\n").is_empty());
    }
}
