//! A context for the tests of the string language, from `tests/expand/conf`.

use oxim::config::{MacroOverrides, Tables, main_options};
use oxim::dns::Resolver;
use oxim::expand::context::{Globals, UserEntry, Users};
use oxim::log::Log;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// No user exists.
struct NoUsers;

impl Users for NoUsers {
    fn by_name(&self, _: &[u8]) -> std::io::Result<Option<UserEntry>> {
        Ok(None)
    }
    fn by_uid(&self, _: u32) -> std::io::Result<Option<UserEntry>> {
        Ok(None)
    }
    fn group(&self, _: &[u8]) -> std::io::Result<Option<u32>> {
        Ok(None)
    }
}

/// Where the cases and their files are.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expand")
}

/// What the configuration says, with these names.
pub fn globals(dns: Arc<dyn Resolver>) -> Globals {
    let tables = Tables {
        main: main_options::MAIN,
        router_generic: &[],
        routers: &[],
        transport_generic: &[],
        transports: &[],
        authenticator_generic: &[],
        authenticators: &[],
        ..Tables::default()
    };
    let path = directory().join("conf");
    let bytes = std::fs::read(&path).unwrap();
    let mut opener = |path: &Path| std::fs::read(path).map(Some);
    let (written, errors) =
        oxim::config::read(&path, &bytes, &MacroOverrides::default(), &tables, &mut opener);
    assert!(errors.is_empty(), "{errors:?}");
    let mut written = written.unwrap();
    written.fill_names("me.example");
    Globals {
        main: written.main,
        lists: written.lists,
        primary_hostname: "me.example".into(),
        qualify_domain: "q.example".into(),
        qualify_recipient: "q.example".into(),
        spool_directory: "/var/spool/oxim".into(),
        config_file: path,
        oxim_uid: 0,
        oxim_gid: 0,
        local_addresses: vec!["127.0.0.1".parse().unwrap()],
        dns,
        log: Arc::new(Log::memory()),
        counters: Arc::default(),
        status: None,
        users: Arc::new(NoUsers),
    }
}
