//! Transactions, as the controller knows them. Writing in one is [`Transaction`](crate::writer::Transaction).

use std::time::Duration;

use streams_proto::controller::{
    CreateTxnRequest, ListCompletedTxnRequest, PingTxnRequest, TxnId, TxnRequest, ping_txn_status,
    txn_response, txn_state, txn_status,
};

use super::{Controller, SegmentRange, ask, info, ranges, status};
use crate::Error;
use crate::names::StreamName;

/// A transaction that has begun: its id, and the segments in which it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Started {
    pub id: u128,
    pub segments: Vec<SegmentRange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionState {
    /// It has not been, or has been for too long.
    Unknown,
    Open,
    Committing,
    Committed,
    Aborting,
    Aborted,
}

/// What became of a wish for more time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ping {
    Prolonged,
    /// It has lasted as long as any may.
    TooOld,
    Committed,
    Aborted,
}

/// Everything here may fail with what the controller says, or `Disconnected`, or `NotFound`.
#[allow(clippy::missing_errors_doc, reason = "it is said above")]
impl Controller {
    /// It is aborted when nobody has prolonged it for the time of the lease.
    pub async fn begin(&self, stream: &StreamName, lease: Duration) -> Result<Started, Error> {
        #[allow(deprecated, reason = "the message has it")]
        let request = CreateTxnRequest {
            stream_info: Some(info(stream)),
            lease: to_ms(lease),
            scale_grace_period: 0,
        };
        let answer = ask!(self, create_transaction, request);
        let id = answer.txn_id;
        let id = id.ok_or_else(|| super::missing("an id"))?;
        Ok(Started {
            id: parse(id),
            segments: ranges(answer.active_segments)?,
        })
    }

    pub async fn prolong(
        &self,
        stream: &StreamName,
        id: u128,
        lease: Duration,
    ) -> Result<Ping, Error> {
        use ping_txn_status::Status;

        let request = PingTxnRequest {
            stream_info: Some(info(stream)),
            txn_id: Some(txn_id(id)),
            lease: to_ms(lease),
        };
        let answer = ask!(self, ping_transaction, request);
        match Status::try_from(answer.status) {
            Ok(Status::Ok) => Ok(Ping::Prolonged),
            Ok(Status::LeaseTooLarge) => Err(Error::Refused("so long a lease".to_owned())),
            Ok(Status::MaxExecutionTimeExceeded) => Ok(Ping::TooOld),
            Ok(Status::Committed) => Ok(Ping::Committed),
            Ok(Status::Aborted) => Ok(Ping::Aborted),
            Ok(Status::Unknown) => Err(Error::NotFound(name(id))),
            _ => Err(Error::Busy("the controller could not".to_owned())),
        }
    }

    /// It is committed some time later: see [`Self::transaction_state`].
    pub async fn commit(&self, stream: &StreamName, id: u128) -> Result<(), Error> {
        let answer = ask!(self, commit_transaction, request(stream, id));
        ended(answer.status, stream, id)
    }

    pub async fn abort(&self, stream: &StreamName, id: u128) -> Result<(), Error> {
        let answer = ask!(self, abort_transaction, request(stream, id));
        ended(answer.status, stream, id)
    }

    /// Those that have ended last, the last one first, and whether they were committed.
    pub async fn ended_transactions(
        &self,
        stream: &StreamName,
    ) -> Result<Vec<(u128, bool)>, Error> {
        let request = ListCompletedTxnRequest {
            stream_info: Some(info(stream)),
        };
        let answer = ask!(self, list_completed_transactions, request);
        let ended = answer.response.into_iter().map(|it| {
            let is_committed = it.status() == txn_response::Status::Committed;
            let id = it.txn_id.ok_or_else(|| super::missing("an id"))?;
            Ok((parse(id), is_committed))
        });
        ended.collect()
    }

    pub async fn transaction_state(
        &self,
        stream: &StreamName,
        id: u128,
    ) -> Result<TransactionState, Error> {
        use txn_state::State;

        let answer = ask!(self, check_transaction_state, request(stream, id));
        match State::try_from(answer.state) {
            Ok(State::Unknown) => Ok(TransactionState::Unknown),
            Ok(State::Open) => Ok(TransactionState::Open),
            Ok(State::Committing) => Ok(TransactionState::Committing),
            Ok(State::Committed) => Ok(TransactionState::Committed),
            Ok(State::Aborting) => Ok(TransactionState::Aborting),
            Ok(State::Aborted) => Ok(TransactionState::Aborted),
            Err(_) => Err(Error::Protocol(format!("a state {}", answer.state))),
        }
    }
}

fn ended(status: i32, stream: &StreamName, id: u128) -> Result<(), Error> {
    status!(status, txn_status::Status {
        StreamNotFound => Error::NotFound(stream.to_string()),
        TransactionNotFound => Error::NotFound(name(id)),
    })
}

fn name(id: u128) -> String {
    format!("transaction {id:032x}")
}

fn request(stream: &StreamName, id: u128) -> TxnRequest {
    TxnRequest {
        stream_info: Some(info(stream)),
        txn_id: Some(txn_id(id)),
        writer_id: String::new(),
        timestamp: i64::MIN,
    }
}

fn parse(id: TxnId) -> u128 {
    let (high, low) = (id.high_bits.cast_unsigned(), id.low_bits.cast_unsigned());
    u128::from(high) << 64 | u128::from(low)
}

fn txn_id(id: u128) -> TxnId {
    let [high, low] = [id >> 64, id].map(|half| {
        let half = half & u128::from(u64::MAX);
        let half = u64::try_from(half).expect("it is a half");
        half.cast_signed()
    });
    TxnId {
        high_bits: high,
        low_bits: low,
    }
}

fn to_ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
