//! THE privilege table: every kind of process, what it runs as, what it may do, and what it never does.

/// Every kind of process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Binds, starts and restarts the roles, forks user children.
    Master,
    /// Takes connections and local submissions.
    SmtpWorker,
    /// Routes and sends, runs the queue.
    DeliveryWorker,
    /// Carries out orders as one user.
    UserChild,
    /// Fetches proofs and revocation lists.
    StapleKeeper,
}

/// Whose uid a role runs under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunsAs {
    /// root in a root-started tree; else the uid that started it.
    Root,
    /// The oxim user, before a byte is read.
    Oxim,
    /// The identity that the order names.
    Recipient,
    /// A user of its own, before a byte is read; in a tree that root did not start, the one uid that there is.
    Keeper,
}

/// How many threads a role has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// One: it may fork.
    One,
    /// One for each connection or message, bounded.
    Pool,
}

/// Something that a role may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// Bind ports below 1024, start and signal roles.
    StartRoles,
    /// Fork a process that becomes another user.
    ForkUserChild,
    /// Ask the master for a user child.
    OrderUserChild,
    /// Read bytes that a peer on the network sends.
    Network,
    /// Read and write spool and hints.
    Spool,
    /// Look at the content of messages.
    Mail,
    /// Write into a user's files.
    UserFiles,
    /// Write fetched proofs and revocation lists.
    Proofs,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The role.
    pub role: Role,
    /// Its name: `--role`, `ps`, log lines.
    pub name: &'static str,
    /// Whose uid.
    pub runs_as: RunsAs,
    /// How many threads.
    pub threads: Threads,
    /// What it may.
    pub may: &'static [Right],
    /// What it never does, in words.
    pub never: &'static str,
}

/// The table.
pub const TABLE: &[Row] = &[
    Row {
        role: Role::Master,
        name: "master",
        runs_as: RunsAs::Root,
        threads: Threads::One,
        may: &[Right::StartRoles, Right::ForkUserChild],
        never: "parses mail or network bytes, calls GnuTLS, looks up users (its child does)",
    },
    Row {
        role: Role::SmtpWorker,
        name: "smtp",
        runs_as: RunsAs::Oxim,
        threads: Threads::Pool,
        may: &[Right::Network, Right::Spool, Right::Mail],
        never: "gives orders for a user child, gains rights",
    },
    Row {
        role: Role::DeliveryWorker,
        name: "delivery",
        runs_as: RunsAs::Oxim,
        threads: Threads::Pool,
        may: &[Right::Network, Right::Spool, Right::Mail, Right::OrderUserChild],
        never: "delivers locally itself",
    },
    Row {
        role: Role::UserChild,
        name: "user",
        runs_as: RunsAs::Recipient,
        threads: Threads::One,
        may: &[Right::Mail, Right::UserFiles],
        never: "outlives its orders, serves two identities",
    },
    Row {
        role: Role::StapleKeeper,
        name: "keeper",
        runs_as: RunsAs::Keeper,
        threads: Threads::Pool,
        may: &[Right::Network, Right::Proofs],
        never: "reads the spool or the configuration, is believed without a check, stops mail or stapling when it dies",
    },
];

impl Role {
    /// This role's row.
    pub fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }
    /// Its name.
    pub fn name(self) -> &'static str {
        self.row().name
    }
    /// As log lines name its process.
    pub fn title(self) -> String {
        match self {
            Self::StapleKeeper => "staple keeper".to_owned(),
            _ => format!("{} worker", self.name()),
        }
    }
    /// Whether mail works without it: such a role holds up neither a start nor a reload.
    pub fn can_be_missed(self) -> bool {
        self == Self::StapleKeeper
    }
    /// Whether the master links processes of these two roles with each other: the staple keeper with whom it serves.
    pub fn is_linked_with(self, other: Self) -> bool {
        let served = |role| matches!(role, Self::SmtpWorker | Self::DeliveryWorker);
        self == Self::StapleKeeper && served(other) || other == Self::StapleKeeper && served(self)
    }
    /// Whether it may do this.
    pub fn may(self, right: Right) -> bool {
        self.row().may.contains(&right)
    }
    /// The role that `--role` names, if the master executes one by that name.
    pub fn executed_by_name(name: &[u8]) -> Option<Self> {
        let executed = [Self::SmtpWorker, Self::DeliveryWorker, Self::StapleKeeper];
        executed.into_iter().find(|role| role.name().as_bytes() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_in_the_order_of_the_enum() {
        for row in TABLE {
            assert_eq!(row.role.row().name, row.name);
        }
    }

    #[test]
    fn whoever_may_become_another_user_reads_nothing_foreign_and_has_one_thread() {
        for row in TABLE.iter().filter(|row| row.may.contains(&Right::ForkUserChild)) {
            assert_eq!(row.threads, Threads::One);
            assert!(!row.may.contains(&Right::Network) && !row.may.contains(&Right::Mail));
        }
        for row in TABLE.iter().filter(|row| row.may.contains(&Right::Network)) {
            assert!([RunsAs::Oxim, RunsAs::Keeper].contains(&row.runs_as));
        }
        assert!(!Role::SmtpWorker.may(Right::OrderUserChild));
    }

    #[test]
    fn who_fetches_proofs_has_no_right_to_spool_or_mail_and_nobody_else_runs_as_it() {
        assert_eq!(Role::StapleKeeper.row().may, [Right::Network, Right::Proofs]);
        let others = TABLE.iter().filter(|row| row.role != Role::StapleKeeper);
        assert!(
            others.into_iter().all(|row| row.runs_as != RunsAs::Keeper && !row.may.contains(&Right::Proofs))
        );
    }
}
