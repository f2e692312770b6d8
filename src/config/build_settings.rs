//! What was fixed when the program was built (Makefile, build.rs): one constant for each make variable.

/// Name or number of the user that oxim runs as (`OXIM_USER`).
pub const USER: &str = env!("OXIM_USER");
/// Name or number of the group that oxim runs as (`OXIM_GROUP`).
pub const GROUP: &str = env!("OXIM_GROUP");
/// Name or number of the user that the staple keeper runs as (`KEEPER_USER`).
pub const KEEPER_USER: &str = env!("OXIM_KEEPER_USER");
/// Name or number of the group that the staple keeper runs as (`KEEPER_GROUP`).
pub const KEEPER_GROUP: &str = env!("OXIM_KEEPER_GROUP");
/// Colon-separated search path of the configuration file (`CONFIGURE_FILE`).
pub const CONFIGURE_FILE: &str = env!("OXIM_CONFIGURE_FILE");
/// A user besides root and [`USER`] who may own the configuration file; empty: none (`CONFIGURE_OWNER`).
pub const CONFIGURE_OWNER: &str = env!("OXIM_CONFIGURE_OWNER");
/// A group that may write the configuration file; empty: none (`CONFIGURE_GROUP`).
pub const CONFIGURE_GROUP: &str = env!("OXIM_CONFIGURE_GROUP");
/// File that lists the configuration files `-C` may name without loss of rights (`TRUSTED_CONFIG_LIST`).
pub const TRUSTED_CONFIG_LIST: &str = env!("OXIM_TRUSTED_CONFIG_LIST");
/// Colon-separated macros that `-D` may set without loss of rights (`WHITELIST_D_MACROS`).
pub const WHITELIST_D_MACROS: &str = env!("OXIM_WHITELIST_D_MACROS");
/// Pattern that the values of white-listed macros must match (`WHITELIST_D_VALUES`).
pub const WHITELIST_D_VALUES: &str = env!("OXIM_WHITELIST_D_VALUES");
/// Colon-separated users that no delivery ever runs as (`FIXED_NEVER_USERS`).
pub const FIXED_NEVER_USERS: &str = env!("OXIM_FIXED_NEVER_USERS");
/// Default of the option `spool_directory` (`SPOOL_DIRECTORY`).
pub const SPOOL_DIRECTORY: &str = env!("OXIM_SPOOL_DIRECTORY");
/// Default of the option `log_file_path`; empty: `log/%slog` below the spool directory (`LOG_FILE_PATH`).
pub const LOG_FILE_PATH: &str = env!("OXIM_LOG_FILE_PATH");
/// Default of the option `headers_charset` (`HEADERS_CHARSET`).
pub const HEADERS_CHARSET: &str = env!("OXIM_HEADERS_CHARSET");
/// Form of new message ids: `long` (Exim 4.97 and later) or `short`; both are always read (`MESSAGE_IDS`).
pub const MESSAGE_IDS: &str = env!("OXIM_MESSAGE_IDS");
/// Version of Exim that is spoken: `-bV`, `$exim_version`, `$version_number` (`EXIM_VERSION`).
pub const EXIM_VERSION: &str = env!("OXIM_EXIM_VERSION");
/// Name shown in banner, Received: and HELP (`MAILER_NAME`).
pub const MAILER_NAME: &str = env!("OXIM_MAILER_NAME");
/// oxim's own version.
pub const OXIM_VERSION: &str = env!("CARGO_PKG_VERSION");

/// When it was built, in UTC, as `-bV` and `$compile_date` say it: `02-Jan-2026 15:04:05`.
pub fn build_date() -> String {
    // build.rs writes a number; were it none, 1970 would show.
    let seconds: i64 = env!("OXIM_BUILD_TIME").parse().unwrap_or_default();
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    time.strftime("%d-%b-%Y %H:%M:%S").to_string()
}

/// Version shown beside [`MAILER_NAME`]: Exim's when the name is `Exim`, else oxim's own.
pub const fn mailer_version() -> &'static str {
    if matches!(MAILER_NAME.as_bytes(), b"Exim") { EXIM_VERSION } else { OXIM_VERSION }
}
