//! Transactions.

use streams_control::{
    Ping, Refusal, Request as Change, Response as Done, StreamName, TxnId, TxnStatus, Unique,
};
use streams_proto::controller as wire;
use tonic::{Request, Status};
use wire::ping_txn_status::Status as Pinged;
use wire::txn_response::Status as Completed;
use wire::txn_state::State;
use wire::txn_status::Status as Ended;

use super::convert::{info, segment_ranges, status, unsigned};
use super::{Service, convert};
use crate::controller::authority::{self, Permission};

/// Its writer does not say a time.
const NO_TIMESTAMP: i64 = i64::MIN;

/// The client in Rust takes the lower half for a number with a sign, and loses the upper one if it is negative.
fn unique() -> Unique {
    let (high, low) = (rt::random_u64(), rt::random_u64());
    Unique {
        high: u32::try_from(high >> 32).expect("half of it is left"),
        low: low >> 1,
    }
}

pub(super) async fn create_transaction(
    service: &Service,
    request: &Request<wire::CreateTxnRequest>,
) -> Result<wire::CreateTxnResponse, Status> {
    let asked = request.get_ref();
    let info = info(asked.stream_info.as_ref())?;
    let stream = service.stream(request, Some(info), Permission::ReadUpdate)?;
    let segments = authority::of_segments(&info.scope, &info.stream)?;
    let delegation_token = service.token(request, &segments, Permission::ReadUpdate)?;
    let stream = stream.map_err(|refusal| status(&refusal))?;
    let lease_ms = unsigned(asked.lease).map_err(|refusal| status(&refusal))?;
    let change = Change::CreateTxn {
        stream: stream.clone(),
        lease_ms,
        unique: unique(),
    };
    match service.request(change).await {
        Ok(Done::TxnCreated { txn, segments }) => Ok(wire::CreateTxnResponse {
            txn_id: Some(convert::txn_id(txn)),
            active_segments: segment_ranges(&stream, &segments),
            delegation_token,
        }),
        Ok(_) => Err(Status::internal("another answer was expected")),
        Err(refusal) => Err(status(&refusal)),
    }
}

pub(super) async fn commit_transaction(
    service: &Service,
    request: &Request<wire::TxnRequest>,
) -> Result<wire::TxnStatus, Status> {
    let asked = request.get_ref();
    let timestamp = Some(asked.timestamp).filter(|timestamp| *timestamp != NO_TIMESTAMP);
    let commit = |stream, txn| Change::CommitTxn {
        stream,
        txn,
        writer: asked.writer_id.clone(),
        timestamp,
    };
    end(service, request, commit).await
}

pub(super) async fn abort_transaction(
    service: &Service,
    request: &Request<wire::TxnRequest>,
) -> Result<wire::TxnStatus, Status> {
    end(service, request, Change::AbortTxn).await
}

async fn end(
    service: &Service,
    request: &Request<wire::TxnRequest>,
    change: impl FnOnce(StreamName, TxnId) -> Change,
) -> Result<wire::TxnStatus, Status> {
    let asked = request.get_ref();
    let info = asked.stream_info.as_ref();
    let stream = service.stream(request, info, Permission::ReadUpdate)?;
    let txn = convert::txn(asked.txn_id.as_ref())?;
    let ended = match stream {
        Ok(stream) => service.request(change(stream, txn)).await,
        Err(refusal) => Err(refusal),
    };
    let told = match ended {
        Ok(_) => Ended::Success,
        Err(Refusal::NoStream) => Ended::StreamNotFound,
        Err(Refusal::NoTransaction) => Ended::TransactionNotFound,
        Err(Refusal::TransactionEnded) => Ended::Failure,
        Err(refusal) => return Err(status(&refusal)),
    };
    let status = told.into();
    Ok(wire::TxnStatus { status })
}

pub(super) async fn ping_transaction(
    service: &Service,
    request: &Request<wire::PingTxnRequest>,
) -> Result<wire::PingTxnStatus, Status> {
    let asked = request.get_ref();
    let info = asked.stream_info.as_ref();
    let stream = service.stream(request, info, Permission::ReadUpdate)?;
    let txn = convert::txn(asked.txn_id.as_ref())?;
    let lease_ms = unsigned(asked.lease).map_err(|refusal| status(&refusal))?;
    let ping = |stream| Change::PingTxn {
        stream,
        txn,
        lease_ms,
    };
    let pinged = match stream {
        Ok(stream) => service.request(ping(stream)).await,
        Err(refusal) => Err(refusal),
    };
    let told = match pinged {
        Ok(Done::Ping(ping)) => match ping {
            Ping::Ok => Pinged::Ok,
            Ping::LeaseTooLarge => Pinged::LeaseTooLarge,
            Ping::ExecutionTimeExceeded => Pinged::MaxExecutionTimeExceeded,
            Ping::Committed => Pinged::Committed,
            Ping::Aborted => Pinged::Aborted,
        },
        Ok(_) => return Err(Status::internal("another answer was expected")),
        Err(Refusal::NoStream | Refusal::NoTransaction) => Pinged::Unknown,
        Err(refusal) => return Err(status(&refusal)),
    };
    let status = told.into();
    Ok(wire::PingTxnStatus { status })
}

pub(super) fn check_transaction_state(
    service: &Service,
    request: &Request<wire::TxnRequest>,
) -> Result<wire::TxnState, Status> {
    let asked = request.get_ref();
    let info = asked.stream_info.as_ref();
    let stream = service.stream(request, info, Permission::Read)?;
    let txn = convert::txn(asked.txn_id.as_ref())?;
    let found = stream.and_then(|stream| service.ask(|control| control.txn_status(&stream, txn)));
    let state = match found.map_err(|refusal| status(&refusal))? {
        TxnStatus::Unknown => State::Unknown,
        TxnStatus::Open => State::Open,
        TxnStatus::Committing => State::Committing,
        TxnStatus::Committed => State::Committed,
        TxnStatus::Aborting => State::Aborting,
        TxnStatus::Aborted => State::Aborted,
    };
    let state = state.into();
    Ok(wire::TxnState { state })
}

pub(super) fn list_completed_transactions(
    service: &Service,
    request: &Request<wire::ListCompletedTxnRequest>,
) -> Result<wire::ListCompletedTxnResponse, Status> {
    let info = request.get_ref().stream_info.as_ref();
    let stream = service.stream(request, info, Permission::Read)?;
    let ended = stream.and_then(|stream| service.ask(|control| control.ended_txns(&stream)));
    let ended = ended.map_err(|refusal| status(&refusal))?;
    let response = ended.into_iter().map(|(txn, is_committed)| {
        let status = if is_committed {
            Completed::Committed
        } else {
            Completed::Aborted
        };
        wire::TxnResponse {
            txn_id: Some(convert::txn_id(txn)),
            status: status.into(),
        }
    });
    let response = response.collect();
    Ok(wire::ListCompletedTxnResponse { response })
}
