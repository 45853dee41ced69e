//! Transactions.

use streams_proto::controller as wire;
use tonic::Code;
use wire::ping_txn_status::Status as Pinged;
use wire::txn_state::State;
use wire::txn_status::Status as Ended;

use super::{World, fails, id, ids, info, told};

const LEASE_MS: i64 = 20_000;

fn create(stream: &str, lease: i64) -> wire::CreateTxnRequest {
    wire::CreateTxnRequest {
        stream_info: Some(info("lab", stream)),
        lease,
        ..wire::CreateTxnRequest::default()
    }
}

fn txn(stream: &str, txn: wire::TxnId) -> wire::TxnRequest {
    wire::TxnRequest {
        stream_info: Some(info("lab", stream)),
        txn_id: Some(txn),
        writer_id: "writer".to_owned(),
        timestamp: i64::MIN,
    }
}

/// The id, and what its part of the segment with that number is called.
async fn begin(world: &mut World, stream: &str, number: i64) -> (wire::TxnId, String) {
    let created = told(
        world
            .client
            .create_transaction(create(stream, LEASE_MS))
            .await,
    );
    let txn = created.txn_id.expect("it has an id");
    assert!(txn.low_bits >= 0, "the client in Rust expects that");
    let epoch = txn.high_bits >> 32;
    let expected = world.current("lab", stream).await;
    assert_eq!(ids(&created.active_segments), expected);
    let (high, low) = (txn.high_bits, txn.low_bits);
    let part = format!("lab/{stream}/{number}.#epoch.{epoch}#transaction.{high:016x}{low:016x}");
    assert!(world.memory.find(&part).is_some(), "{part}");
    (txn, part)
}

async fn state(world: &mut World, stream: &str, id: wire::TxnId) -> State {
    let found = world.client.check_transaction_state(txn(stream, id)).await;
    told(found).state()
}

async fn commit(world: &mut World, stream: &str, id: wire::TxnId) -> Ended {
    told(world.client.commit_transaction(txn(stream, id)).await).status()
}

async fn abort(world: &mut World, stream: &str, id: wire::TxnId) -> Ended {
    told(world.client.abort_transaction(txn(stream, id)).await).status()
}

async fn ping(world: &mut World, stream: &str, id: wire::TxnId, lease: i64) -> Pinged {
    let ping = wire::PingTxnRequest {
        stream_info: Some(info("lab", stream)),
        txn_id: Some(id),
        lease,
    };
    told(world.client.ping_transaction(ping).await).status()
}

#[tokio::test]
async fn a_transaction_ends_one_way() {
    let mut world = World::with_streams("lab", &["video"]).await;
    let (good, part) = begin(&mut world, "video", 1).await;
    let (bad, bad_part) = begin(&mut world, "video", 1).await;
    world.memory.append(&part, "good");
    world.memory.append(&bad_part, "bad");
    assert_eq!(ping(&mut world, "video", good, LEASE_MS).await, Pinged::Ok);
    let day_ms = 24 * 60 * 60 * 1_000;
    let pinged = ping(&mut world, "video", good, day_ms).await;
    assert_eq!(pinged, Pinged::LeaseTooLarge);
    assert_eq!(state(&mut world, "video", good).await, State::Open);

    assert_eq!(commit(&mut world, "video", good).await, Ended::Success);
    assert_eq!(abort(&mut world, "video", bad).await, Ended::Success);
    assert_eq!(commit(&mut world, "video", bad).await, Ended::Failure);
    world.settle("lab", "video").await;
    let mut world = world.restarted().await;
    assert_eq!(state(&mut world, "video", good).await, State::Committed);
    assert_eq!(state(&mut world, "video", bad).await, State::Aborted);
    assert_eq!(commit(&mut world, "video", good).await, Ended::Success);
    assert_eq!(abort(&mut world, "video", good).await, Ended::Failure);
    let pinged = ping(&mut world, "video", good, LEASE_MS).await;
    assert_eq!(pinged, Pinged::Committed);
    let pinged = ping(&mut world, "video", bad, LEASE_MS).await;
    assert_eq!(pinged, Pinged::Aborted);
    let target = world.memory.find("lab/video/1.#epoch.0");
    assert_eq!(target.expect("it is there").length, 4);
    assert!(world.memory.find(&part).is_none() && world.memory.find(&bad_part).is_none());

    let list = wire::ListCompletedTxnRequest {
        stream_info: Some(info("lab", "video")),
    };
    let list = told(world.client.list_completed_transactions(list).await).response;
    let list: Vec<_> = list.iter().map(|it| (it.txn_id, it.status)).collect();
    assert!(list.contains(&(Some(good), 0)) && list.contains(&(Some(bad), 1)));
}

#[tokio::test]
async fn a_transaction_is_committed_after_a_scale() {
    let mut world = World::with_streams("lab", &["video"]).await;
    let (txn, part) = begin(&mut world, "video", 0).await;
    world.memory.append(&part, "before");
    world.scale("lab", "video", &[0.0, 0.3]).await;
    world.settle("lab", "video").await;
    let scaled = [(id(1, 2), 0.0), (id(1, 3), 0.3)];
    assert_eq!(world.current("lab", "video").await, scaled);
    let mut world = world.restarted().await;
    assert_eq!(commit(&mut world, "video", txn).await, Ended::Success);
    world.settle("lab", "video").await;
    assert_eq!(state(&mut world, "video", txn).await, State::Committed);
    // One epoch was for the transaction, and the next one goes on as before.
    let repeated = [(id(3, 2), 0.0), (id(3, 3), 0.3)];
    assert_eq!(world.current("lab", "video").await, repeated);
    let rolled = world.memory.find("lab/video/0.#epoch.2");
    let rolled = rolled.expect("it is there");
    assert!(rolled.is_sealed && rolled.length == 6);
    let next = world.client.create_transaction(create("video", LEASE_MS));
    let next = told(next.await);
    let txn = next.txn_id.expect("it has an id");
    assert_eq!(txn.high_bits >> 32, 1, "what is repeated has the same ids");
    assert_eq!(ids(&next.active_segments), scaled);
}

#[tokio::test]
async fn a_seal_ends_transactions() {
    let mut world = World::with_streams("lab", &["video"]).await;
    let (open, part) = begin(&mut world, "video", 0).await;
    let (good, _) = begin(&mut world, "video", 0).await;
    assert_eq!(commit(&mut world, "video", good).await, Ended::Success);
    assert_eq!(
        told(world.client.seal_stream(info("lab", "video")).await).status,
        0
    );
    assert_eq!(state(&mut world, "video", open).await, State::Aborted);
    assert_eq!(state(&mut world, "video", good).await, State::Committed);
    assert!(world.memory.find(&part).is_none());
    let late = world.client.create_transaction(create("video", LEASE_MS));
    assert_eq!(fails(late).await, Code::FailedPrecondition);
}

#[tokio::test]
async fn what_is_no_transaction_is_told_so() {
    let mut world = World::with_streams("lab", &["video"]).await;
    let none = wire::TxnId {
        high_bits: -1,
        low_bits: 7,
    };
    for stream in ["video", "radio"] {
        let pinged = ping(&mut world, stream, none, LEASE_MS).await;
        assert_eq!(pinged, Pinged::Unknown);
    }
    assert_eq!(state(&mut world, "video", none).await, State::Unknown);
    let ended = commit(&mut world, "video", none).await;
    assert_eq!(ended, Ended::TransactionNotFound);
    assert_eq!(
        abort(&mut world, "radio", none).await,
        Ended::StreamNotFound
    );
    let client = &mut world.client;
    for lease in [-1, 0, i64::MAX] {
        let created = client.create_transaction(create("video", lease));
        assert_eq!(fails(created).await, Code::InvalidArgument, "{lease}");
    }
    let created = client.create_transaction(create("radio", LEASE_MS));
    assert_eq!(fails(created).await, Code::NotFound);
    let nameless = wire::TxnRequest {
        txn_id: None,
        ..txn("video", none)
    };
    let ended = client.commit_transaction(nameless);
    assert_eq!(fails(ended).await, Code::InvalidArgument);
    let unknown = client.check_transaction_state(txn("radio", none));
    assert_eq!(fails(unknown).await, Code::NotFound);
}
