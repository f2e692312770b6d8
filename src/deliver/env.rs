//! What delivering needs besides the message: the meant configuration and the services of this process.

use super::retry::Rules;
use crate::as_user::AsUser;
use crate::expand::context::Globals;
use crate::hints::Hints;
use crate::log::Log;
use crate::route::Chain;
use crate::spool::Layout;
use crate::transport::Registry;
use crate::upward::Submit;
use std::sync::Arc;

/// One for each process and configuration; shared by all delivering threads.
#[derive(Clone)]
pub struct Env {
    /// Main options, named lists, DNS, users, log.
    pub globals: Arc<Globals>,
    /// All routers.
    pub chain: Arc<Chain>,
    /// All transports by name.
    pub transports: Arc<Registry>,
    /// Retry rules.
    pub retry: Arc<Rules>,
    /// Where messages lie.
    pub layout: Layout,
    /// Retry times and waiting messages.
    pub hints: Arc<Hints>,
    /// Takes bounces and warnings.
    pub submit: Arc<dyn Submit>,
    /// Carries out local deliveries with the user's rights.
    pub as_user: Arc<dyn AsUser>,
}

impl Env {
    /// The logs.
    pub fn log(&self) -> &Log {
        &self.globals.log
    }
}

/// Why a delivery is tried: what retry times and freezing mean for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// Retry times are not looked at (`-qf`, `-M`).
    pub force: bool,
    /// Frozen messages are thawed and delivered (`-qff`, `-M`).
    pub thaw: bool,
    /// A queue runner does it: frozen messages are skipped with a line, retry times count for local deliveries.
    pub queue_run: bool,
    /// Local deliveries only (`-ql`).
    pub local_only: bool,
    /// Only messages that were never tried (`-qi`).
    pub first_only: bool,
    /// Fail all addresses that are not delivered (`-Mg`).
    pub give_up: bool,
    /// When messages about this one are delivered.
    pub own_mail: OwnMail,
}

/// When a message of our own making (bounce, warning, notice) is delivered. The log shows it, and a caller of `-odi`
/// or `-q` counts on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnMail {
    /// By itself, at any time: whoever delivers is told.
    #[default]
    Announced,
    /// As soon as it is in the spool (`-odi`, `-odf`): whoever waits for this delivery waits for it too.
    AtOnce,
    /// When this delivery has ended (queue runs): before the next message of the run, and before the run ends.
    After,
}

/// What became of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// All is done; it is no longer in the spool.
    Completed,
    /// Something is left for later.
    Deferred,
    /// It is frozen (now or before).
    Frozen,
    /// Nothing was tried: not there, busy, or skipped.
    Skipped,
}
