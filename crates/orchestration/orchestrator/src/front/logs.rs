//! What a unit writes, as text, in order wherever its ranks are.
//!
//! An answer is one stretch: byte `n` of the body is byte `X-Log-Offset + n` of all that the unit has written. Whoever was cut off asks for the
//! rest by that count. `X-Log-End: true` says that there is nothing left and nothing will come.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderValue;
use ids::{Name, UnitId};
use tokio::time::Instant;

use super::Front;
use super::answer::{Answer, Refusal};
use super::call::Call;
use super::stream::{self, Broken, Sender};
use crate::controller::{Controller, LogPiece};

const PIECE_BYTES: usize = 256 << 10;

pub(super) async fn read(State(front): State<Front>, call: Call) -> Answer {
    let place = front.place()?;
    let unit = unit(&front.controller, &call)?;
    let offset = call.parsed("offset", "a number of bytes")?.unwrap_or(0);
    let follow = call.parsed("follow", "`true` or `false`")?.unwrap_or(false);
    let end = front.end_of_stream(&call)?;
    let controller = front.controller.clone();
    let now = Duration::ZERO;
    let first = controller
        .read_log(&call.org, &unit, offset, PIECE_BYTES, now)
        .await?;
    let (offset, is_over) = (first.offset, first.is_end && first.bytes.is_empty());
    let until = if follow {
        None
    } else {
        // Behind the end there is nothing, and it begins where the end is.
        let behind = controller.read_log(&call.org, &unit, u64::MAX, 1, now);
        Some(behind.await?.offset)
    };
    let log = Log {
        controller,
        org: call.org,
        unit,
        until,
        end,
    };
    let mut response = stream::respond("text/plain; charset=utf-8", place, |sender| {
        log.write(first, sender)
    });
    let headers = response.headers_mut();
    headers.insert("x-log-offset", HeaderValue::from(offset));
    let is_over = if is_over { "true" } else { "false" };
    headers.insert("x-log-end", HeaderValue::from_static(is_over));
    Ok(response)
}

/// The unit that is meant: the only one of the service, or of the block.
fn unit(controller: &Controller, call: &Call) -> Result<UnitId, Refusal> {
    let service = call.name("name")?;
    let block = call.parameter("block");
    let replica: Option<u32> = call.parsed("replica", "a number")?;
    let units = controller.units(&call.org, &service)?;
    let mut found = units.iter().filter_map(|unit| {
        let id: UnitId = unit.id.parse().ok()?;
        let is_meant = block.is_none_or(|block| block == id.block())
            && replica.is_none_or(|replica| replica == id.replica());
        is_meant.then_some(id)
    });
    match (found.next(), found.next()) {
        (Some(unit), None) => Ok(unit),
        (None, _) => Err(Refusal::new(
            404,
            "the service has no such unit: see its /units",
        )),
        (Some(_), Some(_)) => {
            let detail = "the service has several units: say which by `block` and `replica`";
            Err(Refusal::new(422, detail).at("?block"))
        }
    }
}

/// A log that is being read.
struct Log {
    controller: Controller,
    org: Name,
    unit: UnitId,
    /// Where the log ended when it was asked for: whoever writes on and on is not run after. `None`: it is followed.
    until: Option<u64>,
    end: Instant,
}

impl Log {
    async fn write(self, mut piece: LogPiece, sender: Sender) {
        loop {
            let LogPiece {
                offset,
                bytes,
                is_end,
            } = piece;
            let next = offset + bytes.len() as u64;
            let is_dry = self
                .until
                .is_some_and(|until| bytes.is_empty() || next >= until);
            if !bytes.is_empty() && sender.send(Ok(Bytes::from(bytes))).await.is_err() {
                return;
            }
            let left = self
                .end
                .saturating_duration_since(Instant::from_std(rt::now()));
            if is_end || is_dry || left.is_zero() {
                return;
            }
            let wait = self.until.map_or(left, |_| Duration::ZERO);
            let more = self
                .controller
                .read_log(&self.org, &self.unit, next, PIECE_BYTES, wait);
            piece = match more.await {
                // What lay between is not kept any more: the reader asks again, and sees it in the header.
                Ok(piece) if piece.offset != next => return,
                Ok(piece) => piece,
                Err(_) => {
                    sender.send(Err(Broken)).await.ok();
                    return;
                }
            };
        }
    }
}
