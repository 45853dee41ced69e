//! Objects that are asked to be on the disk or in S3 too.

use object_store::Attributes;
use tokio::runtime::Handle;

use super::{World, bucket, get, kind, name, put, setup_with, world, world_of};
use crate::error::Kind;
use crate::front::node::Limits;
use crate::index::{Name, NodeId, Residency};
use crate::store::{self, Remote};
use crate::tier2::Background;
use crate::tier2::testing as s3;

async fn copies(world: &World, key: &str) -> Vec<Residency> {
    let status = world.acme.status(&name(key)).await;
    let placement = status.expect("it is there").placement;
    placement.copies().to_vec()
}

#[tokio::test]
async fn what_is_relocated_is_on_the_disk() {
    let world = world().await;
    put(&world.acme, "k", b"x").await;
    assert_eq!(copies(&world, "k").await, [Residency::Dram(NodeId(1))]);
    // Said again, it changes nothing.
    for _ in 0..2 {
        let relocated = world.acme.relocate(&name("k")).await;
        relocated.expect("there is room");
        assert_eq!(copies(&world, "k").await, [Residency::Disk(NodeId(1))]);
    }
    assert_eq!(&*get(&world.acme, "k").await.expect("it is there"), b"x");
    let missing = world.acme.relocate(&name("none")).await;
    assert_eq!(kind(missing), Kind::NotFound);
    let theirs = world.other.relocate(&name("k")).await;
    assert_eq!(kind(theirs), Kind::Denied);
    world.service.stop().await;
}

#[tokio::test]
async fn without_s3_nothing_is_persisted() {
    let world = world().await;
    put(&world.acme, "k", b"x").await;
    let persisted = world.acme.persist(&name("k")).await;
    let error = persisted.expect_err("there is no S3");
    assert_eq!(error.kind, Kind::Invalid);
    assert!(error.to_string().contains("tier2.buckets"), "{error}");
    assert_eq!(copies(&world, "k").await, [Residency::Dram(NodeId(1))]);
    world.service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_persisted_is_in_s3() {
    let s3 = s3::world(0).await;
    let acme = store::tenant("acme").expect("a tenant");
    let remote = Remote {
        tier2: s3.tier2.clone(),
        background: Background::start(&s3.tier2).expect("a thread"),
        attributes: |_| Attributes::default(),
        buckets: [(bucket("data"), acme)].into(),
        writes_back: false,
        runtime: Handle::current(),
    };
    let world = world_of(setup_with(Limits::default(), Some(remote))).await;
    put(&world.acme, "k", b"x").await;
    s3.proxy.set_down(true);
    let persisted = world.acme.persist(&name("k")).await;
    assert_eq!(kind(persisted), Kind::Unavailable);
    s3.proxy.set_down(false);
    for _ in 0..2 {
        let persisted = world.acme.persist(&name("k")).await;
        persisted.expect("S3 answers");
        let copies = copies(&world, "k").await;
        let is_there = |copy: &Residency| matches!(copy, Residency::S3(at) if at.name == name("k"));
        assert!(copies.iter().any(is_there), "{copies:?}");
    }
    let found = s3.tier2.find(&name("k")).await.expect("S3 answers");
    assert_eq!(found.expect("it is there").size, 1);
    let missing = world.acme.persist(&name("none")).await;
    assert_eq!(kind(missing), Kind::NotFound);
    let theirs = world.other.persist(&name("k")).await;
    assert_eq!(kind(theirs), Kind::Invalid);
    let elsewhere = Name {
        bucket: bucket("more"),
        ..name("k")
    };
    let elsewhere = world.acme.persist(&elsewhere).await;
    assert_eq!(kind(elsewhere), Kind::Invalid);
    world.service.stop().await;
}
