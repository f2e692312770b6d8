//! Which messages wait for which host: a connection that is open can take them too.

use super::Hints;
use crate::mail::MessageId;
use bstr::BStr;
use rusqlite::params;

/// Most ids that are kept for one host: beyond that the queue runner finds them anyway.
const WAITING_MAX: u32 = 2000;

impl Hints {
    /// This message waits for this host of this transport.
    pub fn put_waiting(&self, transport: &BStr, host: &BStr, id: &MessageId) {
        let _ = self.write(|db| {
            db.prepare_cached(
                "INSERT OR IGNORE INTO wait SELECT ?1, ?2, ?3 WHERE
                 (SELECT count(*) FROM wait WHERE transport = ?1 AND host = ?2) < ?4",
            )?
            .execute(params![
                transport.as_ref() as &[u8],
                host.as_ref() as &[u8],
                id.as_str(),
                WAITING_MAX
            ])
        });
    }

    /// Takes up to `most` of the messages that wait for this host off the list.
    pub fn take_waiting(&self, transport: &BStr, host: &BStr, most: usize) -> Vec<MessageId> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT id FROM wait WHERE transport = ?1 AND host = ?2 ORDER BY id LIMIT ?3",
            )?;
            let rows = statement.query_map(
                params![
                    transport.as_ref() as &[u8],
                    host.as_ref() as &[u8],
                    i64::try_from(most).unwrap_or(i64::MAX)
                ],
                |row| row.get::<_, String>(0),
            )?;
            let ids: Vec<String> = rows.collect::<Result<_, _>>()?;
            let mut forget =
                db.prepare_cached("DELETE FROM wait WHERE transport = ?1 AND host = ?2 AND id = ?3")?;
            for id in &ids {
                forget.execute(params![transport.as_ref() as &[u8], host.as_ref() as &[u8], id])?;
            }
            Ok(ids.iter().filter_map(|id| MessageId::parse(id.as_bytes())).collect())
        })
        .unwrap_or_default()
    }

    /// The message is gone: nobody waits with it.
    pub fn remove_waiting(&self, id: &MessageId) {
        let _ = self
            .read(|db| db.prepare_cached("DELETE FROM wait WHERE id = ?1")?.execute(params![id.as_str()]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_messages_are_given_once_in_order() {
        let spool = tempfile::tempdir().unwrap();
        let hints = Hints::new(spool.path());
        let id = |n: &str| MessageId::parse(format!("1xVUtn-0002p{n}-1y").as_bytes()).unwrap();
        for n in ["B", "A", "A"] {
            hints.put_waiting("smtp".into(), "h".into(), &id(n));
        }
        assert_eq!(hints.take_waiting("smtp".into(), "h".into(), 1), vec![id("A")]);
        assert_eq!(hints.take_waiting("smtp".into(), "h".into(), 5), vec![id("B")]);
        assert!(hints.take_waiting("smtp".into(), "h".into(), 5).is_empty());
    }
}
