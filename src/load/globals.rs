//! What is the same for the life of a configuration: names, paths, logs and services.

use super::host_facts;
use crate::config::{ConfigError, Options, Written, build_settings};
use crate::dns::Resolver;
use crate::expand::context::{Globals, NoHooks, Users};
use crate::expand::{Context, ExpandError, expand};
use crate::log::sink::{LogSettings, parse_log_file_path};
use crate::log::{Log, Selectors, SyslogSettings};
use crate::mail::date;
use bstr::{BString, ByteSlice};
use std::path::PathBuf;
use std::sync::Arc;

/// uid and gid that oxim runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunAs {
    /// uid
    pub uid: u32,
    /// gid
    pub gid: u32,
}

/// Fixes names and paths, and opens the services.
pub fn globals(
    written: &Written,
    run_as: RunAs,
    dns: Arc<dyn Resolver>,
    users: Arc<dyn Users>,
) -> Result<Globals, ConfigError> {
    let main = &written.main;
    if main.bool("gnutls_allow_auto_pkcs11") {
        // Of this process, and before it uses GnuTLS.
        crate::tls::allow_pkcs11_modules();
    }
    let primary_hostname = main.plain("primary_hostname").unwrap_or_else(host_facts::primary_hostname);
    let qualify_domain = main.plain("qualify_domain").unwrap_or_else(|| primary_hostname.clone());
    let qualify_recipient = main.plain("qualify_recipient").unwrap_or_else(|| qualify_domain.clone());
    let mut globals = Globals {
        main: main.clone(),
        lists: written.lists.clone(),
        primary_hostname,
        qualify_domain,
        qualify_recipient,
        spool_directory: PathBuf::from(build_settings::SPOOL_DIRECTORY),
        config_file: written.file.clone(),
        oxim_uid: run_as.uid,
        oxim_gid: run_as.gid,
        local_addresses: local_addresses(main),
        dns,
        log: Arc::new(Log::memory()),
        counters: Arc::default(),
        users,
        status: None,
    };
    let spool = path(&globals, "spool_directory")?.unwrap_or_else(|| build_settings::SPOOL_DIRECTORY.into());
    globals.spool_directory = PathBuf::from(spool.to_os_str_lossy().into_owned());
    let settings = log_settings(&globals, run_as)?;
    globals.log = Arc::new(Log::new(settings));
    Ok(globals)
}

fn local_addresses(main: &Options) -> Vec<std::net::IpAddr> {
    let extra = main.plain("extra_local_interfaces").unwrap_or_default();
    let mut addresses = host_facts::local_addresses();
    addresses.extend(
        crate::text::list::items(&extra)
            .filter_map(|item| item.to_str().ok()?.parse::<std::net::IpAddr>().ok()),
    );
    addresses
}

/// Expands an option that is needed before anything else; it can see no message and no session.
fn path(globals: &Globals, name: &'static str) -> Result<Option<BString>, ConfigError> {
    let Some(template) = globals.main.text(name) else { return Ok(None) };
    let context = Context::new(Arc::new(globals.clone()), &NoHooks);
    match expand(template, &context) {
        Ok(value) => Ok(Some(value.into_bytes()).filter(|text| !text.is_empty())),
        Err(ExpandError::Forced(text) | ExpandError::Defer(text) | ExpandError::Failed(text)) => {
            Err(ConfigError {
                at: template.at().clone(),
                message: format!("failed to expand {name}: {text}"),
                line: None,
                unsupported: false,
            })
        }
    }
}

fn log_settings(globals: &Globals, run_as: RunAs) -> Result<LogSettings, ConfigError> {
    let main = &globals.main;
    let default = globals.spool_directory.join("log/%slog");
    let default = default.as_os_str().as_encoded_bytes();
    let list = path(globals, "log_file_path")?.unwrap_or_default();
    let built_in = match build_settings::LOG_FILE_PATH {
        "" => default,
        path => path.as_bytes(),
    };
    let (path, syslog) = parse_log_file_path(&list, built_in);
    let path = path.or_else(|| (!syslog).then(|| built_in.into()));
    let zone = main.plain("timezone").map(|name| name.to_string());
    Ok(LogSettings {
        path,
        syslog: syslog.then(|| syslog_settings(main)),
        selectors: Selectors::parse(&main.plain("log_selector").unwrap_or_default()).map_err(|error| {
            let at = main.written("log_selector").map(|setting| setting.at.clone());
            ConfigError {
                at: at.unwrap_or_else(|| crate::syntax::Position::nowhere("default")),
                message: error.to_string(),
                line: None,
                unsupported: false,
            }
        })?,
        zone: date::zone(zone.as_deref()),
        show_zone: main.bool("log_timezone"),
        write_rejectlog: main.bool("write_rejectlog"),
        owner: nix::unistd::geteuid().is_root().then_some((run_as.uid, run_as.gid)),
    })
}

fn syslog_settings(main: &Options) -> SyslogSettings {
    let facility = match main.plain("syslog_facility").unwrap_or_default().as_slice() {
        b"user" => 8,
        b"news" => 56,
        b"uucp" => 64,
        b"daemon" => 24,
        b"auth" => 32,
        b"cron" => 72,
        name => {
            match name.strip_prefix(b"local").and_then(|n| n.to_str().ok()).and_then(|n| n.parse::<u8>().ok())
            {
                Some(number @ 0..=7) => (16 + number) * 8,
                _ => 16,
            }
        }
    };
    SyslogSettings {
        facility,
        process_name: main.plain("syslog_processname").unwrap_or_default().to_string(),
        with_pid: main.bool("syslog_pid"),
        with_timestamp: main.bool("syslog_timestamp"),
        duplication: main.bool("syslog_duplication"),
    }
}

#[cfg(test)]
mod tests {
    use super::syslog_settings;
    use crate::config::{self, MacroOverrides};
    use std::path::Path;

    #[test]
    fn the_options_of_syslog_arrive_where_lines_are_written() {
        let lines = [
            "syslog_facility = local3",
            "syslog_processname = mta",
            "syslog_pid = false",
            "syslog_timestamp = false",
            "syslog_duplication = false",
        ];
        let text = lines.join("\n");
        let tables = crate::load::tables::tables();
        let read = |text: &[u8]| {
            let mut opener = |_: &Path| Ok(None);
            let all = config::read(Path::new("c"), text, &MacroOverrides::default(), &tables, &mut opener);
            syslog_settings(&all.0.expect("it can be read").main)
        };
        let set = read(text.as_bytes());
        assert_eq!((set.facility, set.process_name.as_str()), (19 * 8, "mta"));
        assert!(!set.with_pid && !set.with_timestamp && !set.duplication);
        let unset = read(b"");
        assert_eq!((unset.facility, unset.process_name.as_str()), (16, "oxim"));
        assert!(unset.with_pid && unset.with_timestamp && unset.duplication);
    }
}
