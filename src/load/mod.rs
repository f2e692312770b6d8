//! From the written configuration to the meant one: every section goes through its drivers' `compile`, and
//! everything that is wrong is reported in one go, each with file and line.
//!
//! Two steps, so that `-bP` and `-be` work on a configuration that uses what is not supported yet:
//! [`read`] gives what was written, [`globals()`] what expansions need, and [`compile`] what mail needs.
pub mod fetching;
pub mod globals;
pub mod host_facts;
pub mod tables;
pub mod users;
pub mod warnings;

pub use globals::{RunAs, globals};
pub use tables::tables;
pub use warnings::warnings;

use crate::acl::Acls;
use crate::as_user::AsUser;
use crate::config::{ConfigError, Instance, MacroOverrides, Opener, Options, Written};
use crate::deliver::retry::Rules;
use crate::expand::context::Globals;
use crate::metrics::ListenPlace;
use crate::route::Chain;
use crate::transport::smtp::Smtp;
use crate::transport::{Registry, Remote};
use bstr::BString;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// The meant configuration: immutable for the life of a process.
#[derive(Clone)]
pub struct Configuration {
    /// What was written.
    pub written: Arc<Written>,
    /// What expansions see.
    pub globals: Arc<Globals>,
    /// Access control lists.
    pub acls: Arc<Acls>,
    /// Routers, in order.
    pub routers: Arc<Chain>,
    /// Transports, by name.
    pub transports: Arc<Registry>,
    /// Retry rules, in order.
    pub retry: Arc<Rules>,
}

/// Reads a configuration whose main file was opened (and its owner checked) by the caller. There is no [`Written`]
/// if anything in it is more than "not supported yet".
pub fn read(
    path: &Path,
    bytes: &[u8],
    overrides: &MacroOverrides,
    opener: &mut dyn Opener,
) -> (Option<Written>, Vec<ConfigError>) {
    let (written, mut errors) = crate::config::read_all(path, bytes, overrides, &tables(), opener);
    let more = [users::check(&written), check_sections(&written, &errors)].concat();
    for error in more {
        let later = |known: &ConfigError| known.at.file != error.at.file || known.at.line > error.at.line;
        let place = errors.iter().position(later).unwrap_or(errors.len());
        if !errors.iter().any(|known| known.tells_the_same(&error)) {
            errors.insert(place, error);
        }
    }
    let usable = errors.iter().all(|error| error.unsupported);
    (usable.then_some(written), errors)
}

/// What [`compile`] would refuse. Drivers are asked only if all their options could be read: what follows from a
/// mistake that was told already helps nobody.
fn check_sections(written: &Written, known: &[ConfigError]) -> Vec<ConfigError> {
    let mut errors = unsupported_sections(written);
    errors.extend(Acls::compile(&written.acls).1);
    errors.extend(check_prime_bits(&written.main));
    if crate::tls::OCSP {
        errors.extend(fetching::check(&written.main));
    }
    errors.extend(openmetrics_place(&written.main).err());
    gather(&mut errors, Rules::compile(&written.retry));
    if let Some(setting) = written.main.written("openssl_options") {
        let message = "openssl_options is set but we're using GnuTLS".into();
        errors.push(ConfigError { at: setting.at.clone(), message, line: None, unsupported: false });
    }
    if known.iter().all(|error| error.unsupported) {
        let transports = gather(&mut errors, Registry::compile(&written.transports, &remote));
        let names = transports.as_ref().map_or_else(|| remote_names(&written.transports), Registry::names);
        gather(&mut errors, Chain::compile(&written.routers, names, None));
    }
    errors
}

/// `openmetrics_listen`, read.
pub fn openmetrics_place(main: &Options) -> Result<Option<ListenPlace>, ConfigError> {
    let Some(template) = main.text("openmetrics_listen") else { return Ok(None) };
    ListenPlace::parse(template.text()).map_err(|error| ConfigError {
        at: template.at().clone(),
        message: format!("openmetrics_listen: {error}"),
        line: None,
        unsupported: false,
    })
}

/// Clients refuse smaller primes.
fn check_prime_bits(main: &Options) -> Option<ConfigError> {
    let setting = main.written("tls_dh_max_bits").filter(|_| main.int("tls_dh_max_bits") < 1024)?;
    let message = "tls_dh_max_bits is too small, must be at least 1024 for interop".into();
    Some(ConfigError { at: setting.at.clone(), message, line: None, unsupported: false })
}

/// What is wrong with the ACLs that main options name. Expansions and listings need none of them.
pub fn check_acl_options(written: &Written) -> Vec<ConfigError> {
    let (mut acls, _) = Acls::compile(&written.acls);
    acls.check_options(&written.main)
}

/// Compiles every section. All errors at once, in the order of the file. `orders` carries out what routers need
/// a user's rights for.
pub fn compile(
    written: Arc<Written>,
    globals: Arc<Globals>,
    orders: Option<Arc<dyn AsUser>>,
) -> Result<Configuration, Vec<ConfigError>> {
    let mut errors = unsupported_sections(&written);
    let (mut acls, wrong) = Acls::compile(&written.acls);
    errors.extend(wrong);
    errors.extend(acls.check_options(&written.main));
    let transports = gather(&mut errors, Registry::compile(&written.transports, &remote));
    let names = transports.as_ref().map_or_else(|| remote_names(&written.transports), Registry::names);
    let routers = gather(&mut errors, Chain::compile(&written.routers, names, orders));
    let retry = gather(&mut errors, Rules::compile(&written.retry));
    match (transports, routers, retry) {
        (Some(transports), Some(routers), Some(retry)) if errors.is_empty() => Ok(Configuration {
            written,
            globals,
            acls: Arc::new(acls),
            routers: Arc::new(routers),
            transports: Arc::new(transports),
            retry: Arc::new(retry),
        }),
        _ => {
            errors.sort_by(|one, other| (&one.at.file, one.at.line).cmp(&(&other.at.file, other.at.line)));
            errors.dedup();
            Err(errors)
        }
    }
}

fn gather<T>(errors: &mut Vec<ConfigError>, result: Result<T, Vec<ConfigError>>) -> Option<T> {
    result.map_err(|wrong| errors.extend(wrong)).ok()
}

/// Names of transports, and which are remote, where they do not compile: so that routers are checked all the same.
fn remote_names(instances: &[Instance]) -> HashMap<BString, bool> {
    instances.iter().map(|instance| (instance.name.clone(), instance.driver.name == "smtp")).collect()
}

/// The smtp driver: given to the registry, so that the transport folder's drivers stay apart.
fn remote(instance: &Instance) -> Result<Arc<dyn Remote>, Vec<ConfigError>> {
    Smtp::compile(instance).map(|smtp| Arc::new(smtp) as Arc<dyn Remote>)
}

/// Sections whose contents would change what happens to mail and that are not built yet. (Drivers that are not
/// built are refused where they are read.)
fn unsupported_sections(written: &Written) -> Vec<ConfigError> {
    let refuse = |at: &crate::syntax::Position| ConfigError {
        at: at.clone(),
        message: "rewriting rules are known but not supported yet".into(),
        line: None,
        unsupported: true,
    };
    written.rewrite.first().map(|rule| refuse(&rule.at)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_for_the_numbers_that_others_could_reach_is_refused_where_it_stands() {
        let of = |value: &str| {
            let text = format!("queue_only\nopenmetrics_listen = {value}\n");
            let mut opener = |_: &Path| Ok(None);
            let (_, errors) = read(Path::new("c"), text.as_bytes(), &MacroOverrides::default(), &mut opener);
            errors.iter().map(|error| (error.at.line, error.message.clone())).collect::<Vec<_>>()
        };
        for good in ["/run/oxim/metrics", "127.0.0.1:9125", ""] {
            assert_eq!(of(good), [], "{good}");
        }
        for bad in ["0.0.0.0:9125", "metrics", "localhost:9125"] {
            let told = of(bad);
            assert!(told.len() == 1 && told[0].0 == 2, "{told:?}");
            assert!(told[0].1.starts_with("openmetrics_listen: "), "{told:?}");
        }
    }

    #[test]
    fn a_reading_tells_of_every_section_at_once_in_the_order_of_the_file() {
        let text = b"no_such = 1\nbegin acl\na:\n  acept\nbegin retry\n* foo F,1h,1m\nbegin routers\nr:\n  driver = accept\n";
        let read = |text: &[u8]| {
            let mut opener = |_: &Path| Ok(None);
            read(Path::new("c"), text, &MacroOverrides::default(), &mut opener)
        };
        let lines = |errors: &[ConfigError]| errors.iter().map(|error| error.at.line).collect::<Vec<_>>();
        let (written, errors) = read(text);
        assert!(written.is_none());
        assert_eq!(lines(&errors), [1, 4, 6], "{errors:?}");
        // Drivers are asked when every option is known.
        let (written, errors) = read(&text[b"no_such = 1\n".len()..]);
        assert!(written.is_none());
        assert_eq!(lines(&errors), [3, 5, 8], "{errors:?}");
        // -bV lists what is not built, whole sections too; expansions and listings work all the same.
        let (written, errors) = read(b"queue_only\nbegin rewrite\n*@a $1@b F\n");
        assert!(written.is_some());
        assert_eq!(lines(&errors), [3], "{errors:?}");
        assert!(errors[0].unsupported, "{errors:?}");
    }
}
