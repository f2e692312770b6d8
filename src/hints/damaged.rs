//! Messages of the queue whose files cannot be read as a message: they cannot bear a frozen mark of their own, so it is
//! kept here. A lost mark costs one more line in the panic log.

use super::Hints;
use crate::mail::MessageId;
use bstr::BString;
use rusqlite::{Row, params};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// What was wrong with which file. Somebody who mends the file changes its identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Size of -H in bytes.
    pub size: i64,
    /// When it was changed, in nanoseconds since 1970.
    pub changed: i64,
    /// Its inode.
    pub inode: i64,
    /// What was wrong, as the log said it.
    pub what: BString,
}

impl Damage {
    /// Of a -H with these facts; none: they cannot be had.
    pub fn new(file: Option<&Metadata>, what: impl Into<BString>) -> Self {
        let what = what.into();
        let Some(file) = file else { return Self { what, ..Self::default() } };
        Self {
            size: i64::try_from(file.size()).unwrap_or(i64::MAX),
            // ctime: unlike mtime it cannot be set back by whoever copies a file into place
            changed: file.ctime().saturating_mul(1_000_000_000).saturating_add(file.ctime_nsec()),
            inode: file.ino().cast_signed(),
            what,
        }
    }
}

fn read(row: &Row, first: usize) -> rusqlite::Result<Damage> {
    Ok(Damage {
        size: row.get(first)?,
        changed: row.get(first + 1)?,
        inode: row.get(first + 2)?,
        what: row.get::<_, Vec<u8>>(first + 3)?.into(),
    })
}

impl Hints {
    /// What is known to be wrong with a message.
    pub fn damage(&self, id: &MessageId) -> Option<Damage> {
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT size, changed, inode, what FROM damaged WHERE id = ?1")?;
            let mut rows = statement.query_map(params![id.as_str()], |row| read(row, 0))?;
            rows.next().transpose()
        })
        .flatten()
    }

    /// All messages that something was wrong with.
    pub fn all_damaged(&self) -> Vec<(MessageId, Damage)> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT id, size, changed, inode, what FROM damaged")?;
            let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, read(row, 1)?)))?;
            rows.collect::<Result<Vec<_>, _>>()
        })
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(id, damage)| Some((MessageId::parse(id.as_bytes())?, damage)))
        .collect()
    }

    /// Something is wrong with this message.
    pub fn put_damage(&self, id: &MessageId, damage: &Damage) {
        let _ =
            self.write(|db| {
                db.prepare_cached("INSERT OR REPLACE INTO damaged VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(
                    params![id.as_str(), damage.size, damage.changed, damage.inode, damage.what.as_slice()],
                )
            });
    }

    /// It is gone, or was mended.
    pub fn remove_damage(&self, id: &MessageId) {
        let _ = self
            .read(|db| db.prepare_cached("DELETE FROM damaged WHERE id = ?1")?.execute(params![id.as_str()]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_known_until_the_file_is_another() {
        let spool = tempfile::tempdir().unwrap();
        let hints = Hints::new(spool.path());
        let id = MessageId::parse(b"1xVUtn-0002pA-1y").unwrap();
        let file = spool.path().join("x-H");
        let damage = || Damage::new(std::fs::metadata(&file).ok().as_ref(), "garbage");
        std::fs::write(&file, "garbage\n").unwrap();
        assert_eq!(hints.damage(&id), None);
        let first = damage();
        hints.put_damage(&id, &first);
        assert_eq!(hints.damage(&id), Some(damage()));
        assert_eq!(hints.all_damaged(), vec![(id.clone(), first.clone())]);
        // The clock of the file system may be coarse.
        while damage().changed == first.changed {
            std::fs::write(&file, "mended!\n").unwrap();
        }
        assert_eq!(damage().size, first.size);
        assert_ne!(damage(), first);
        std::fs::remove_file(&file).unwrap();
        assert_ne!(damage(), first);
        hints.remove_damage(&id);
        assert_eq!(hints.all_damaged(), vec![]);
    }
}
