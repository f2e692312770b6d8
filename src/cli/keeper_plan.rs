//! What the daemon prepares for the staple keeper before it starts one: a user of its own, the store, the proxy.
//!
//! A wrong setting stops a start (or a reload) with its cure. What the system lacks (the user, a store that is the keeper's)
//! does not: a host whose packages were half installed, or whose spool was given another owner as a whole, still has its
//! mail. Without its user there is no keeper; without a store it works, and has nothing left after its end. The daemon says
//! what is missing, and the cure, to whoever starts it and to its logs.

use crate::config::build_settings::{KEEPER_GROUP, KEEPER_USER};
use crate::expand::context::Globals;
use crate::ocsp::fetch;
use crate::process::master::KeeperPlan;
use crate::process::reading::Reading;
use crate::process::snapshot::Snapshot;
use crate::process::staple_keeper::{NO_STORE_SETTING, PROXY_SETTING, STORE, STORE_SETTING};
use crate::process::without_root;
use crate::process::{spool_directory, staple_keeper};
use crate::sys::identity::{self, Rights};
use crate::sys::system_words;
use bstr::{BString, ByteSlice};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Why there is no plan.
#[derive(Debug)]
pub enum NoPlan {
    /// A setting is wrong.
    Wrong(String),
    /// The system lacks something: the daemon goes without a keeper.
    Missing(String),
}

/// What is prepared, and why what is fetched will not be stored.
pub struct Prepared {
    /// For the master.
    pub plan: KeeperPlan,
    /// None: the store can be used.
    pub no_store: Option<String>,
}

/// What holds for as long as the daemon runs, whatever its configuration says: users are looked up and the environment
/// is read once, before the daemon is one.
pub struct Surroundings {
    rights: Option<Result<Rights, String>>,
    proxy: Option<OsString>,
}

impl Surroundings {
    /// As they are now. `proxy` is `http_proxy` of the environment.
    pub fn now(globals: &Globals, proxy: Option<OsString>) -> Self {
        Self { rights: identity::is_root().then(|| rights_of_keeper(globals)), proxy }
    }

    /// The plan for the keeper under this configuration, with its store made and looked at.
    pub fn plan(&self, reading: &Reading, globals: &Globals) -> Result<Prepared, NoPlan> {
        let proxy = self.proxy.as_deref().map(OsStr::to_string_lossy);
        if let Err(error) = fetch::proxy_of(proxy.as_deref()) {
            return Err(NoPlan::Wrong(format!(
                "http_proxy in the environment of the daemon is no proxy for tls_ocsp_fetch: {error}; start the daemon \
                 with another value, or without it"
            )));
        }
        // of the new configuration, which may have another spool directory than the one that runs
        let store = store_directory(reading, globals)?;
        let rights = self.rights.clone().transpose().map_err(NoPlan::Missing)?;
        let no_store = prepare_store(&store, rights.as_ref(), globals).err();
        let mut settings: Vec<(BString, BString)> =
            vec![(STORE_SETTING.into(), store.into_os_string().into_vec().into())];
        settings.extend(no_store.is_some().then(|| (NO_STORE_SETTING.into(), "true".into())));
        settings.extend(self.proxy.as_ref().map(|proxy| (PROXY_SETTING.into(), proxy.as_bytes().into())));
        settings.extend(reading.snapshot.setting("debug").map(|debug| ("debug".into(), debug.clone())));
        let plan = KeeperPlan { snapshot: Snapshot { settings, ..Snapshot::default() }, rights };
        Ok(Prepared { plan, no_store })
    }
}

/// Makes the store where it is missing, and has the keeper look at it.
fn prepare_store(store: &Path, rights: Option<&Rights>, globals: &Globals) -> Result<(), String> {
    spool_directory::make_store(store, rights, globals)?;
    let look = || {
        staple_keeper::check_store(store)
            .map(drop)
            .map_err(|error| format!("{}: {}", store.display(), system_words(&error)))
    };
    without_root::ask_other(rights, look).map_err(|why| {
        format!(
            "the staple keeper cannot use its store {why}: it must belong to the user {}, and the directories above \
             it must let that user pass (chmod o+x)",
            rights.map_or("that runs the daemon", |_| KEEPER_USER)
        )
    })
}

fn store_directory(reading: &Reading, globals: &Globals) -> Result<std::path::PathBuf, NoPlan> {
    let written = reading.written.main.plain("spool_directory").filter(|path| !path.contains(&b'$'));
    let spool = match &written {
        Some(path) => path.to_path().map_err(|_| NoPlan::Wrong("spool_directory: no path".into()))?,
        None => &globals.spool_directory,
    };
    Ok(spool.join(STORE))
}

/// The keeper's uid and gid, and no other group.
fn rights_of_keeper(globals: &Globals) -> Result<Rights, String> {
    let number = |text: &str| text.parse::<u32>().ok();
    let failed = |what: &str, error: std::io::Error| format!("{what} cannot be looked up: {error}");
    let (uid, own_group) = match number(KEEPER_USER) {
        Some(uid) => (uid, None),
        None => match globals.users.by_name(KEEPER_USER.as_bytes()) {
            Ok(Some(entry)) => (entry.uid, Some(entry.gid)),
            Ok(None) => {
                return Err(format!(
                    "there is no user \"{KEEPER_USER}\" for the staple keeper, which must not run as root or as the mail \
                     system: make it (useradd --system --user-group --no-create-home --shell /usr/sbin/nologin \
                     {KEEPER_USER}), or build with another KEEPER_USER, and start the daemon again"
                ));
            }
            Err(error) => return Err(failed(&format!("user {KEEPER_USER}"), error)),
        },
    };
    let gid = match number(KEEPER_GROUP) {
        Some(gid) => gid,
        None => match (globals.users.group(KEEPER_GROUP.as_bytes()), own_group) {
            (Ok(Some(gid)), _) | (Ok(None), Some(gid)) => gid,
            (Ok(None), None) => {
                return Err(format!("there is no group \"{KEEPER_GROUP}\" for the staple keeper"));
            }
            (Err(error), _) => return Err(failed(&format!("group {KEEPER_GROUP}"), error)),
        },
    };
    if uid == 0 || uid == globals.oxim_uid || gid == globals.oxim_gid {
        return Err(format!(
            "the staple keeper must run neither as root nor with the mail system's user or group, but {KEEPER_USER} has \
             uid {uid}, gid {gid}"
        ));
    }
    Ok(Rights::new(uid, gid))
}
