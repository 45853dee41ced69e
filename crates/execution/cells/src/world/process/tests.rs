use std::net::Ipv4Addr;

use super::*;
use crate::world::admin::{HostState, HostStatus, MoveStatus, RankStatus};

fn world_file() -> WorldFile {
    WorldFile {
        version: VERSION,
        name: "org/service/block/0".into(),
        module: "/modules/a.wasm".into(),
        ranks: 2,
        args: vec!["block".into(), "1".into()],
        env: vec![("KEY".into(), "value".into())],
        mounts: vec![("/data".into(), "/srv/data".into())],
        memory_bytes_max: 1 << 30,
        log_bytes_max: 1 << 20,
        code_dir: "/code".into(),
        checkpoint_every_ms: Some(5000),
        label: "cloud".into(),
        listen: Ipv4Addr::LOCALHOST.into(),
    }
}

fn past() -> Past {
    Past {
        version: VERSION,
        id: u64::MAX,
        incarnation: 3,
        restarts: 2,
        has_run: true,
        last_epoch: 9,
    }
}

fn outcome() -> Outcome {
    let status = Status {
        world: "0123456789ab".into(),
        incarnation: 3,
        pid: 4242,
        module: "org/service/block/0".into(),
        is_running: true,
        seconds: 1.5,
        moves: 1,
        last_moves: vec![MoveStatus {
            rank: 1,
            from: "cloud".into(),
            to: "edge".into(),
            bytes: 4096,
            frozen_ns: 10,
            resumed_ns: 20,
        }],
        moving: Some((0, 1)),
        restarts: 2,
        hosts: vec![HostStatus {
            host: 1,
            label: "edge".into(),
            pid: 17,
            metrics: "10.0.0.1:9".into(),
            state: HostState::Connected,
            public_key: vec![4, 255],
        }],
        ranks: vec![RankStatus {
            rank: 0,
            host: 1,
            label: "edge".into(),
            epoch: 9,
            state: "exited 3".into(),
            has_ended: true,
        }],
        placement: vec!["edge".into(), "cloud".into()],
        unplaced: "rank 1 waits".into(),
        held_bytes: Some(7),
    };
    Outcome {
        version: VERSION,
        end: End::Exited(3),
        status: Some(status),
    }
}

/// What version 1 wrote must be readable for ever: worlds go on from it.
fn check<T: Serialize + serde::de::DeserializeOwned + std::fmt::Debug>(
    golden: &str,
    sample: &T,
    write: impl Fn(&T) -> serde_json::Result<Vec<u8>>,
) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("golden.json");
    fs::write(&path, golden).expect("written");
    let read = read_json::<T>(&path, VERSION).expect("version 1 is read");
    assert_eq!(format!("{read:?}"), format!("{:?}", Some(sample)));
    let written = write(sample).expect("encodes");
    assert_eq!(
        String::from_utf8_lossy(&written),
        golden.trim_end(),
        "the layout has changed: raise VERSION, and keep reading the old one"
    );
}

#[test]
fn golden() {
    let pretty = |sample: &WorldFile| serde_json::to_vec_pretty(sample);
    check(
        include_str!("../golden/world-1.json"),
        &world_file(),
        pretty,
    );
    let plain = |sample: &Past| serde_json::to_vec(sample);
    check(include_str!("../golden/past-1.json"), &past(), plain);
    let pretty = |sample: &Outcome| serde_json::to_vec_pretty(sample);
    check(include_str!("../golden/outcome-1.json"), &outcome(), pretty);
}

/// A world that a later program has begun is not ended by this one, which would be for ever: the later one may go on.
#[test]
fn a_world_of_a_later_version_is_left_as_it_is() {
    let later = |golden: &str| {
        golden
            .replace("\"version\":", "\"version\": 1")
            .replace("1 1", "11")
    };
    let dir = tempfile::tempdir().expect("a directory");
    let begin = || {
        let begun = begin(dir.path(), "/nowhere".into(), String::new());
        let error = begun.map(drop).expect_err("it is of a later version");
        assert_eq!(error.kind, Kind::Unavailable, "{error}");
        std::error::Error::source(&error).expect("why").to_string()
    };
    let check = |problem: &str, name: &str| {
        let says_why = problem.contains("has version 11") && problem.contains("start that one");
        assert!(problem.contains(name) && says_why, "{problem}");
    };
    let world = include_str!("../golden/world-1.json");
    fs::write(dir.path().join(WORLD), later(world)).expect("written");
    check(&begin(), WORLD);

    let mut file = world_file();
    file.module = dir.path().join("a.wasm");
    fs::write(&file.module, "").expect("written");
    file.save(dir.path()).expect("saved");
    let past = later(include_str!("../golden/past-1.json"));
    fs::write(dir.path().join(PAST), past).expect("written");
    check(&begin(), PAST);

    let outcome = later(include_str!("../golden/outcome-1.json"));
    fs::write(dir.path().join(OUTCOME), outcome).expect("written");
    let error = Outcome::read(dir.path()).expect_err("it is of a later version");
    check(&error.to_string(), OUTCOME);
}
