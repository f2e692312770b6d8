//! What an expansion can see: the values behind the variables, grouped by who sets them, and the few
//! calls that go out of the string language.
//!
//! One thread, one context: it is built for a session, a message or an address, and passed down.
//! Values that evaluation itself changes are in [`Dynamic`], behind a `RefCell`.

use crate::config::{NamedLists, Options};
use crate::log::Log;
use crate::mail::envelope::TlsInfo;
use crate::mail::{Address, Header, MessageId, Origin};
use crate::metrics::Counters;
use crate::text::Value;
use bstr::BString;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// What is the same for the life of a configuration.
#[derive(Clone)]
pub struct Globals {
    /// Main options as written, over their defaults.
    pub main: Options,
    /// Named lists.
    pub lists: NamedLists,
    /// `$primary_hostname`.
    pub primary_hostname: BString,
    /// `$qualify_domain`.
    pub qualify_domain: BString,
    /// `$qualify_recipient`.
    pub qualify_recipient: BString,
    /// `$spool_directory`.
    pub spool_directory: PathBuf,
    /// `$config_file`.
    pub config_file: PathBuf,
    /// uid and gid that oxim runs as (`$exim_uid`, `$exim_gid`).
    pub oxim_uid: u32,
    /// See above.
    pub oxim_gid: u32,
    /// Addresses of this host's interfaces: `@[]` in lists, routing to self.
    pub local_addresses: Vec<IpAddr>,
    /// DNS.
    pub dns: Arc<dyn crate::dns::Resolver>,
    /// The logs (`logwrite`, skipped warnings).
    pub log: Arc<Log>,
    /// What is counted for the administrator.
    pub counters: Arc<Counters>,
    /// Names of users, groups, home directories.
    pub users: Arc<dyn Users>,
    /// Revocation lists that the staple keeper fetches; none: nobody fetches any.
    pub status: Option<crate::ocsp::registry::Registry>,
}

/// The user and group data base; a fake stands here in tests.
pub trait Users: Send + Sync {
    /// The entry of a login name; an error is temporary.
    fn by_name(&self, name: &[u8]) -> std::io::Result<Option<UserEntry>>;
    /// The entry of a uid.
    fn by_uid(&self, uid: u32) -> std::io::Result<Option<UserEntry>>;
    /// The gid of a group name.
    fn group(&self, name: &[u8]) -> std::io::Result<Option<u32>>;
}

/// One line of passwd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserEntry {
    /// Login name.
    pub name: BString,
    /// uid
    pub uid: u32,
    /// gid
    pub gid: u32,
    /// GECOS field.
    pub gecos: BString,
    /// Home directory.
    pub home: PathBuf,
    /// Shell.
    pub shell: PathBuf,
}

/// Calls that leave the string language; a plain context ([`NoHooks`]) refuses them.
pub trait Hooks {
    /// `${acl{name}{args}}` and the `acl` condition: the verdict and the `message` it set.
    fn call_acl(&self, context: &Context, name: &[u8], arguments: &[Value]) -> Result<AclAnswer, String>;
}

/// Answer of [`Hooks::call_acl`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AclAnswer {
    /// accept
    Accept(Value),
    /// deny, drop, discard
    Deny(Value),
    /// defer
    Defer(Value),
}

/// No session: `${acl` fails.
pub struct NoHooks;

impl Hooks for NoHooks {
    fn call_acl(&self, _: &Context, _: &[u8], _: &[Value]) -> Result<AclAnswer, String> {
        Err("ACL processing not available".into())
    }
}

/// What an SMTP session or a local submission sets.
#[derive(Clone, Debug, Default)]
pub struct SessionVars {
    /// The peer.
    pub origin: Origin,
    /// `$smtp_command`.
    pub smtp_command: BString,
    /// `$smtp_command_argument`.
    pub smtp_command_argument: BString,
    /// `$smtp_command_history`: the latest commands, comma-separated.
    pub smtp_command_history: BString,
    /// `$smtp_active_hostname`; empty: the primary host name.
    pub smtp_active_hostname: BString,
    /// `$smtp_count_at_connection_start`.
    pub count_at_start: u32,
    /// `$smtp_notquit_reason`.
    pub notquit_reason: BString,
    /// `$rcpt_count`, `$rcpt_defer_count`, `$rcpt_fail_count`.
    pub rcpt_count: u32,
    /// See above.
    pub rcpt_defer_count: u32,
    /// See above.
    pub rcpt_fail_count: u32,
    /// `$caller_uid`, `$caller_gid`.
    pub caller_uid: u32,
    /// See above.
    pub caller_gid: u32,
    /// `$authentication_failed`.
    pub authentication_failed: bool,
    /// `$host_lookup_failed` was tried.
    pub host_name_looked_up: bool,
}

/// What a message sets.
#[derive(Clone, Debug, Default)]
pub struct MessageVars {
    /// `$message_exim_id`.
    pub id: Option<MessageId>,
    /// `$sender_address`; none outside a message.
    pub sender: Option<Address>,
    /// `$return_path`: there is none before routing.
    pub return_path: Option<BString>,
    /// Headers as they stand now (`$h_...`, `$message_headers`).
    pub headers: Arc<Vec<Header>>,
    /// Start of the body (`$message_body`), at most `message_body_visible` bytes, raw.
    pub body_start: Option<Arc<BString>>,
    /// End of the body (`$message_body_end`).
    pub body_end: Option<Arc<BString>>,
    /// `$message_body_size`.
    pub body_size: u64,
    /// `$message_size`.
    pub size: u64,
    /// `$body_linecount`.
    pub body_lines: u64,
    /// While a message is received: the lines that came (`$message_linecount`).
    pub lines_received: Option<u64>,
    /// `$body_zerocount`.
    pub body_zeros: u64,
    /// `$max_received_linelength`.
    pub max_received_line: u64,
    /// `$recipients` and `$recipients_count`.
    pub recipients: Vec<Address>,
    /// `$originator_uid`, `$originator_gid`.
    pub originator_uid: u32,
    /// See above.
    pub originator_gid: u32,
    /// When it was received (`$received_time`, `$message_age`).
    pub received: Option<SystemTime>,
    /// `$received_for`.
    pub received_for: Option<BString>,
    /// `$bounce_recipient`.
    pub bounce_recipient: Option<BString>,
    /// `$warn_message_delay`.
    pub warn_message_delay: Option<BString>,
    /// `$warn_message_recipients`.
    pub warn_message_recipients: Option<BString>,
    /// True once the first delivery attempt is over (`first_delivery` is false).
    pub deliver_retry: bool,
    /// `queue_running` condition.
    pub queue_running: bool,
}

/// What routing or verifying one address sets; none outside.
#[derive(Clone, Debug, Default)]
pub struct AddressVars {
    /// `$local_part`, without affixes while a router or transport runs.
    pub local_part: Option<Value>,
    /// `$domain`.
    pub domain: Option<Value>,
    /// `$local_part_prefix`, and `_v`: its wild part.
    pub local_part_prefix: Option<Value>,
    /// See above.
    pub local_part_prefix_v: Option<Value>,
    /// `$local_part_suffix`, and `_v`.
    pub local_part_suffix: Option<Value>,
    /// See above.
    pub local_part_suffix_v: Option<Value>,
    /// `$original_local_part`, `$original_domain`.
    pub original: Option<Address>,
    /// `$parent_local_part`, `$parent_domain`.
    pub parent: Option<Address>,
    /// `$address_data`.
    pub address_data: Option<Value>,
    /// `$home`.
    pub home: Option<Value>,
    /// `$local_user_uid`, `$local_user_gid`.
    pub local_user: Option<(u32, u32)>,
    /// `$router_name`, `$transport_name`.
    pub router_name: BString,
    /// See above.
    pub transport_name: BString,
    /// `$host`.
    pub host: Option<Value>,
    /// `$host_address`.
    pub host_address: Option<Value>,
    /// `$host_port`.
    pub host_port: Option<u16>,
    /// `$self_hostname`.
    pub self_hostname: Option<BString>,
    /// `$address_file`.
    pub address_file: Option<Value>,
    /// `$address_pipe`.
    pub address_pipe: Option<Value>,
    /// `$sending_ip_address`, `$sending_port`.
    pub sending: Option<(IpAddr, u16)>,
    /// `$r_...` variables.
    pub router_variables: BTreeMap<BString, Value>,
    /// TLS of the outgoing session.
    pub tls_out: Option<TlsInfo>,
    /// `$tls_out_tlsa_usage`, known before there is a session.
    pub tlsa_usage: u8,
}

/// What evaluation itself changes.
#[derive(Clone, Debug, Default)]
pub struct Dynamic {
    /// `$0` to `$9`.
    pub captures: Vec<Option<Value>>,
    /// `$value`.
    pub value: Option<Value>,
    /// `$item`.
    pub item: Option<Value>,
    /// `$runrc`.
    pub runrc: i32,
    /// `$acl_c...` and `$acl_m...`, by name without `acl_`.
    pub acl_variables: BTreeMap<BString, Value>,
    /// `$acl_arg1` to `$acl_arg9`.
    pub acl_arguments: Vec<Value>,
    /// `$acl_verify_message`.
    pub acl_verify_message: Option<Value>,
    /// `$domain_data`, set by the last match of a domain list.
    pub domain_data: Option<Value>,
    /// `$local_part_data`.
    pub local_part_data: Option<Value>,
    /// `$host_data`.
    pub host_data: Option<Value>,
    /// `$sender_data`.
    pub sender_data: Option<Value>,
    /// `$recipient_data`.
    pub recipient_data: Option<Value>,
    /// `$sender_address_data`.
    pub sender_address_data: Option<Value>,
    /// `$sender_verify_failure`, `$recipient_verify_failure`.
    pub sender_verify_failure: BString,
    /// See above.
    pub recipient_verify_failure: BString,
    /// `$lookup_dnssec_authenticated`.
    pub lookup_dnssec_authenticated: BString,
    /// `$prvscheck_address`, while `${prvscheck` is expanded.
    pub prvscheck_address: Option<Value>,
    /// `$prvscheck_keynum`, while `${prvscheck` is expanded.
    pub prvscheck_keynum: Option<Value>,
    /// `$prvscheck_result` of the last `${prvscheck`.
    pub prvscheck_result: Option<Value>,
    /// What a `$sender_host_name` found that nobody had asked for before; [`host_name::settle`] puts it into the
    /// session.
    ///
    /// [`host_name::settle`]: crate::matching::host_name::settle
    pub sender_host: Option<crate::matching::host_name::HostName>,
    /// `$headers_added` (ACL add_header so far, `\n` separated).
    pub headers_added: BString,
    /// `$tls_in_ocsp` and kin of a session that has no message yet are in the session's origin; this
    /// is the depth of evaluation, against endless recursion.
    pub depth: u32,
    /// Answers of lookups and named lists in this context.
    pub cache: crate::lookup::Cache,
}

/// All of it.
#[derive(Clone)]
pub struct Context<'h> {
    /// Same for the life of the configuration.
    pub globals: Arc<Globals>,
    /// Session.
    pub session: SessionVars,
    /// Message.
    pub message: MessageVars,
    /// Address.
    pub address: AddressVars,
    /// What evaluation changes.
    pub dynamic: RefCell<Dynamic>,
    /// Calls out of the string language.
    pub hooks: &'h dyn Hooks,
    /// The time that `$tod_*` tell; now if not set.
    pub now: Option<SystemTime>,
}

impl<'h> Context<'h> {
    /// A context with nothing but the configuration.
    pub fn new(globals: Arc<Globals>, hooks: &'h dyn Hooks) -> Self {
        Self {
            globals,
            session: SessionVars::default(),
            message: MessageVars::default(),
            address: AddressVars::default(),
            dynamic: RefCell::new(Dynamic::default()),
            hooks,
            now: None,
        }
    }
}
