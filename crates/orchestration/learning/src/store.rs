//! The ledger on disk: journal, records, and what they mean, kept together.

use std::path::Path;

use crate::core::ledger::{Ledger, Record};
use crate::disk::journal::Journal;
use crate::disk::record;
use crate::error::Error;

#[derive(Debug)]
pub(crate) struct Store {
    journal: Journal,
    ledger: Ledger,
    /// The journal is rewritten when it is longer.
    rewrite_above: u64,
    bytes_max: u64,
}

impl Store {
    /// # Errors
    /// When the disk fails, and when the ledger is damaged.
    pub(crate) fn open(dir: &Path, bytes_max: u64) -> Result<Self, Error> {
        let (journal, payloads) = Journal::open(dir)?;
        let mut ledger = Ledger::default();
        for (at, payload) in payloads {
            let applied = record::decode(&payload).and_then(|record| ledger.apply(record));
            applied.map_err(|what| Error::Corrupt {
                path: journal.path().display().to_string(),
                at,
                what,
            })?;
        }
        Ok(Self {
            journal,
            ledger,
            rewrite_above: bytes_max,
            bytes_max,
        })
    }

    /// What earlier lives have done.
    pub(crate) fn recovered(&self) -> Ledger {
        self.ledger.clone()
    }

    pub(crate) fn len(&self) -> u64 {
        self.journal.len()
    }

    /// Makes a record durable. The end of a move whose beginning could not be recorded is no record.
    pub(crate) fn record(&mut self, record: Record) -> Result<(), Error> {
        if let Record::Outcome(closing) = &record
            && !self.ledger.open.contains_key(&closing.key)
        {
            return Ok(());
        }
        self.journal.append(&record::encode(&record))?;
        let applied = self.ledger.apply(record);
        assert_eq!(applied, Ok(()), "what we write makes sense");
        if self.journal.len() > self.rewrite_above {
            let payloads: Vec<_> = self.ledger.records().iter().map(record::encode).collect();
            // The record itself is durable already; if this fails the journal takes no more.
            if let Err(error) = self.journal.rewrite(&payloads) {
                tracing::error!(%error, "the ledger could not be rewritten");
            }
            self.rewrite_above = self.bytes_max.max(2 * self.journal.len());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::core::ledger::{Closing, Intent};
    use crate::decision::{Decision, Mode, Outcome};
    use crate::seam::Time;
    use crate::tests::world::{name, target_id};

    fn intent(number: u64) -> Record {
        Record::Intent(Box::new(Intent {
            number,
            target: target_id(),
            from: name("edge"),
            to: name("cloud"),
            decision: Decision {
                id: format!("learning-{number}"),
                at: Time(number),
                mode: Mode::Active,
                inputs: BTreeMap::new(),
                forecast: None,
                branch: String::new(),
                action: "migrate_service to cloud".to_owned(),
                alternatives: Vec::new(),
                outcome: Outcome::Pending(String::new()),
                times: 1,
                violated_at: None,
            },
        }))
    }

    fn done(number: u64) -> Record {
        Record::Outcome(Closing {
            key: format!("learning-{number}"),
            at: Time(number),
            outcome: Outcome::Done,
        })
    }

    #[test]
    fn it_stays_short_and_keeps_what_matters() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let bytes_max = 16 << 10;
        let mut store = Store::open(dir.path(), bytes_max).expect("opens");
        store.record(intent(0)).expect("recorded");
        for number in 1..200 {
            store.record(intent(number)).expect("recorded");
            store.record(done(number)).expect("recorded");
            assert!(store.len() < 2 * bytes_max, "{}", store.len());
        }
        let before = store.recovered();
        drop(store);
        let found = Store::open(dir.path(), bytes_max)
            .expect("opens")
            .recovered();
        assert_eq!(found.next_number, 200);
        let open: Vec<_> = found.open.keys().collect();
        assert_eq!(open, ["learning-0"], "however old it is");
        assert_eq!(found.closed, before.closed);
        let closed: Vec<u64> = found
            .closed
            .iter()
            .map(|(intent, _)| intent.number)
            .collect();
        assert_eq!(closed, (184..200).collect::<Vec<_>>());
    }

    #[test]
    fn records_that_make_no_sense_are_damage() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut store = Store::open(dir.path(), 1 << 20).expect("opens");
        store.record(done(0)).expect("it is left out");
        drop(store);
        Store::open(dir.path(), 1 << 20).expect("it makes sense");
        for records in [
            vec![done(0)],
            vec![intent(1), intent(1)],
            vec![intent(0), done(0), done(0)],
        ] {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let (mut journal, _) = Journal::open(dir.path()).expect("opens");
            for record in &records {
                journal.append(&record::encode(record)).expect("recorded");
            }
            let error = Store::open(dir.path(), 1 << 20)
                .map(drop)
                .expect_err("damage");
            assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        }
    }
}
