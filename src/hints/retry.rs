//! Retry records: since when a destination fails and when it may be tried again.

use super::{Hints, ROUTING_HOLDS};
use bstr::{BStr, BString};
use rusqlite::{OptionalExtension, params};
use std::sync::PoisonError;
use std::time::Instant;

/// What is known of one failing destination. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryRecord {
    /// First failure since the last success.
    pub first_failed: i64,
    /// Last try.
    pub last_try: i64,
    /// Not to be tried before this.
    pub next_try: i64,
    /// The last retry rule has run out.
    pub expired: bool,
    /// The error (see [`crate::transport::Problem`]).
    pub errno: i32,
    /// Its detail.
    pub more_errno: i32,
    /// Its text.
    pub text: BString,
}

impl Hints {
    /// The record of a key.
    pub fn retry(&self, key: &BStr) -> Option<RetryRecord> {
        log::debug!(target: "hints_lookup", "retry data for {key}");
        self.read(|db| {
            db.prepare_cached(
                "SELECT first_failed, last_try, next_try, expired, errno, more_errno, text FROM retry WHERE key = ?1",
            )?
            .query_row(params![key.as_ref() as &[u8]], |row| {
                Ok(RetryRecord {
                    first_failed: row.get(0)?,
                    last_try: row.get(1)?,
                    next_try: row.get(2)?,
                    expired: row.get(3)?,
                    errno: row.get(4)?,
                    more_errno: row.get(5)?,
                    text: BString::from(row.get::<_, Vec<u8>>(6)?),
                })
            })
            .optional()
        })
        .flatten()
    }

    /// Does any domain or address fail in routing? (The answer may be a second old.)
    pub fn any_routing(&self) -> bool {
        let mut state = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, answer)) = state.routing.filter(|(asked, _)| asked.elapsed() < ROUTING_HOLDS) {
            return answer;
        }
        drop(state);
        let answer = self
            .read(|db| {
                db.prepare_cached("SELECT EXISTS (SELECT 1 FROM retry WHERE key >= ?1 AND key < ?2)")?
                    .query_row(params![&b"R:"[..], &b"R;"[..]], |row| row.get(0))
            })
            .unwrap_or(false);
        state = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        state.routing = Some((Instant::now(), answer));
        answer
    }

    /// Writes a record.
    pub fn put_retry(&self, key: &BStr, record: &RetryRecord) {
        if key.starts_with(b"R:") {
            self.open.lock().unwrap_or_else(PoisonError::into_inner).routing = Some((Instant::now(), true));
        }
        let _ = self.write(|db| {
            db.prepare_cached("INSERT OR REPLACE INTO retry VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
                .execute(params![
                    key.as_ref() as &[u8],
                    record.first_failed,
                    record.last_try,
                    record.next_try,
                    record.expired,
                    record.errno,
                    record.more_errno,
                    record.text.as_slice(),
                ])
        });
    }

    /// Forgets a key: it was reached.
    pub fn remove_retry(&self, key: &BStr) {
        let _ = self.read(|db| {
            db.prepare_cached("DELETE FROM retry WHERE key = ?1")?.execute(params![key.as_ref() as &[u8]])
        });
    }

    /// Forgets what was last tried before `before`.
    pub fn tidy_retry(&self, before: i64) {
        let _ = self
            .read(|db| db.prepare_cached("DELETE FROM retry WHERE last_try < ?1")?.execute(params![before]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_kept_until_it_is_removed_or_the_file_is_deleted() {
        let spool = tempfile::tempdir().unwrap();
        let hints = Hints::new(spool.path());
        let record =
            RetryRecord { first_failed: 5, next_try: 9, text: "no".into(), ..RetryRecord::default() };
        hints.put_retry("T:a".into(), &record);
        assert_eq!(hints.retry("T:a".into()), Some(record.clone()));
        hints.remove_retry("T:a".into());
        assert_eq!(hints.retry("T:a".into()), None);
        hints.put_retry("T:b".into(), &record);
        std::fs::remove_dir_all(spool.path().join("db")).unwrap();
        assert_eq!(hints.retry("T:b".into()), None);
        hints.put_retry("T:c".into(), &record);
        assert_eq!(hints.retry("T:c".into()), Some(record));
    }

    #[test]
    fn rubbish_in_place_of_the_database_is_replaced() {
        let spool = tempfile::tempdir().unwrap();
        std::fs::create_dir(spool.path().join("db")).unwrap();
        std::fs::write(spool.path().join("db/hints.sqlite3"), "x".repeat(5000)).unwrap();
        let hints = Hints::new(spool.path());
        hints.put_retry("T:a".into(), &RetryRecord::default());
        assert!(hints.retry("T:a".into()).is_some());
    }
}
