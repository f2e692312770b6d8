//! Deliveries of a process that was called: in the foreground, in the background, or left to the queue.

use super::Program;
use super::submit::Intake;
use crate::as_user::AsUser;
use crate::deliver::{self, Env, How, OwnMail};
use crate::load::Configuration;
use crate::mail::MessageId;
use crate::process::order_check::ConfigurationCheck;
use crate::process::{root_keeper, services, spool_directory};
use crate::receive::{OwnMessages, Station};
use crate::sys::descriptors;
use crate::sys::spawn::{self, Forked};
use crate::upward::Announce;
use anyhow::anyhow;
use std::sync::{Arc, Mutex, PoisonError};

/// When a message that was taken in is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// It is left to a queue run.
    Never,
    /// In a process of its own.
    Soon,
    /// Before this process ends.
    Now,
    /// As `Soon`, local deliveries only.
    LocalSoon,
    /// As `Now`, local deliveries only.
    LocalNow,
}

/// Messages that were taken in, in order.
#[derive(Debug, Default)]
pub struct Ready {
    ids: Mutex<Vec<MessageId>>,
}

impl Ready {
    /// The ids so far; they are kept no longer.
    pub fn take(&self) -> Vec<MessageId> {
        std::mem::take(&mut *self.ids.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Announce for Ready {
    fn ready(&self, id: &MessageId) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).push(id.clone());
    }
}

/// A process that takes messages in and delivers them: it is oxim already, and root (if it had its rights) sits in
/// another process that hears orders alone.
pub struct Worker {
    /// What was asked for.
    pub program: Program,
    /// Compiled.
    pub configuration: Configuration,
    /// Takes messages in.
    pub station: Station,
    /// Takes our own messages in.
    pub submitter: Arc<OwnMessages>,
    env: Env,
    ready: Arc<Ready>,
}

impl Worker {
    /// Leaves root's rights behind, and compiles the configuration.
    pub fn start(program: Program) -> anyhow::Result<Self> {
        spool_directory::prepare(&program.globals)?;
        let rights = super::daemon::rights_of_roles(&program)?;
        let own = (program.globals.oxim_uid, program.globals.oxim_gid);
        let check = ConfigurationCheck::new(program.reading.written.clone(), own);
        let orders: Arc<dyn AsUser> = Arc::new(root_keeper::start(&check, rights.as_ref())?);
        spool_directory::prepare(&program.globals)?;
        let configuration =
            services::configure(&program.reading, program.globals.clone(), Some(orders.clone()))
                .map_err(|text| anyhow!(text))?;
        let ready = Arc::new(Ready::default());
        let station = services::station(&program.globals, ready.clone());
        let submitter = Arc::new(services::submitter(&station)?);
        let env = services::environment(&configuration, &station, submitter.clone(), orders);
        Ok(Self { program, configuration, station, submitter, env, ready })
    }

    /// What taking a message in needs.
    pub fn intake(&self) -> Intake<'_> {
        Intake {
            asked: self.program.asked(),
            configuration: &self.configuration,
            station: &self.station,
            submitter: &self.submitter,
        }
    }

    /// What deliveries need.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Delivers what was announced; gives the exit code.
    pub fn deliver(&self, when: When) -> anyhow::Result<i32> {
        match when {
            When::Never => {}
            When::Now | When::LocalNow => {
                let local_only = when == When::LocalNow;
                self.deliver_all(How { local_only, own_mail: OwnMail::AtOnce, ..How::default() });
            }
            When::Soon | When::LocalSoon => match spawn::fork()? {
                Forked::Parent(_) => {}
                Forked::Child => {
                    let work = std::panic::AssertUnwindSafe(|| self.deliver_apart(when == When::LocalSoon));
                    // A panic must not unwind into what the parent goes on with.
                    let code = if std::panic::catch_unwind(work).is_ok() { 0 } else { 1 };
                    spawn::exit_now(code)
                }
            },
        }
        Ok(0)
    }

    /// In the background: nothing of the caller's is kept open.
    fn deliver_apart(&self, local_only: bool) {
        let _ = nix::unistd::setsid(); // it leads no group: it was just forked
        // Where they stay open the caller waits for our end; with -v that is what it wants.
        let closed: &[i32] = if self.program.invocation.verbose { &[0, 1] } else { &[0, 1, 2] };
        let _ = descriptors::standard_to_null(closed);
        self.deliver_all(How { local_only, ..How::default() });
    }

    /// Bounces that arise while delivering are announced too, and delivered in their turn.
    fn deliver_all(&self, how: How) {
        loop {
            let ids = self.ready.take();
            if ids.is_empty() {
                // A process that forks for its deliveries ends without dropping anything.
                return self.env.transports.close();
            }
            for id in ids {
                deliver::deliver(&self.env, &id, how);
            }
        }
    }
}
