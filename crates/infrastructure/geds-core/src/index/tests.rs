//! The index against its model, and at its limits.

use std::collections::BTreeMap;
use std::sync::Arc;

use ids::Epoch;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::model::{Model, in_folder};
use super::*;

fn bucket(text: &str) -> BucketName {
    BucketName::new(text).expect("a bucket")
}

fn owner(text: &str) -> ids::Name {
    text.parse().expect("a name")
}

fn create(text: &str) -> Op {
    Op::CreateBucket {
        bucket: bucket(text),
        owner: owner("acme"),
        created_at_ms: 1,
    }
}

fn name(key: &str) -> Name {
    Name {
        bucket: bucket("aaa"),
        key: Key::new(key).expect("a key"),
    }
}

fn folder(prefix: &str) -> Folder {
    Folder {
        bucket: bucket("aaa"),
        prefix: Prefix::new(prefix).expect("a prefix"),
    }
}

fn id(serial: u64) -> ObjectId {
    ObjectId {
        node: NodeId(1),
        epoch: Epoch(1),
        serial,
    }
}

fn seal(key: &str, serial: u64) -> Seal {
    Seal {
        name: name(key),
        sealed: Sealed {
            id: id(serial),
            size: 5,
            etag: Etag::new("e").expect("an etag"),
            class: Class::Ephemeral,
        },
        modified_at_ms: 1,
        metadata: Box::default(),
        expires_at_ms: None,
        readers: 0,
        copies: [Residency::Dram(NodeId(1))].into_iter().collect(),
    }
}

/// What is done to an index and its model.
#[derive(Clone, Debug)]
enum Step {
    Do(Precondition, Op),
    /// Begins to list.
    Open(Listing),
    /// Reads the next page of one that was begun.
    Turn(prop::sample::Index),
    Snapshot,
    /// Replays all records, or those after the last snapshot.
    Restart(bool),
}

#[derive(Clone, Debug)]
struct Listing {
    folder: Folder,
    delimiter: &'static str,
    from: String,
    items_max: usize,
    items: Vec<Item>,
    cursor: Cursor,
}

struct World {
    limits: Limits,
    index: Index,
    /// Of each revision.
    models: Vec<Model>,
    records: Vec<Vec<u8>>,
    commits: Vec<Arc<[Change]>>,
    listings: Vec<Listing>,
    snapshot: Vec<Vec<u8>>,
}

impl World {
    fn new(history_bytes_max: usize) -> Self {
        let limits = Limits {
            history_bytes_max,
            ..Limits::default()
        };
        let index = Index::new(limits.clone());
        Self {
            limits,
            snapshot: index.pieces().map(|piece| piece.encode()).collect(),
            index,
            models: vec![Model::default()],
            records: Vec::new(),
            commits: Vec::new(),
            listings: Vec::new(),
        }
    }

    fn present(&self) -> &Model {
        self.models.last().expect("there is one")
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Do(when, op) => self.execute(when, self.aim(op)),
            Step::Open(mut listing) => {
                listing.cursor = self.index.cursor(&listing.from);
                self.listings.push(listing);
            }
            Step::Turn(which) if !self.listings.is_empty() => {
                let listing = self.listings.swap_remove(which.index(self.listings.len()));
                if let Some(listing) = self.turn(listing) {
                    self.listings.push(listing);
                }
            }
            Step::Turn(_) => {}
            Step::Snapshot => {
                self.snapshot = self.index.pieces().map(|piece| piece.encode()).collect()
            }
            Step::Restart(is_from_snapshot) => self.restart(is_from_snapshot),
        }
    }

    /// Makes numbers that were chosen before anything was known ones that mean something: epochs and serials are told from the last, and
    /// objects are chosen of those there are, or are one that is missing.
    fn aim(&self, op: Op) -> Op {
        let known = |node| self.index.node(node);
        let object = |id: ObjectId| {
            let data = &self.present().data;
            let nth = usize::try_from(id.serial).expect("small") % (data.len() + 1);
            data.keys().nth(nth).copied().unwrap_or(id)
        };
        match op {
            Op::Seal(mut seal) => {
                let id = &mut seal.sealed.id;
                if let Some(node) = known(id.node) {
                    id.epoch = Epoch((node.epoch.0 + 1).saturating_sub(id.epoch.0));
                    id.serial += node.last_serial;
                }
                Op::Seal(seal)
            }
            Op::AddCopy(id, copy) => Op::AddCopy(object(id), copy),
            Op::DropCopy(id, copy, cause) => Op::DropCopy(object(id), copy, cause),
            Op::DeletedInS3(name, id) => {
                let doomed = &self.present().doomed;
                let nth = usize::try_from(id.serial).expect("small") % (doomed.len() + 1);
                let chosen = doomed.iter().nth(nth).cloned();
                let (name, id) = chosen.unwrap_or((name, id));
                Op::DeletedInS3(name, id)
            }
            Op::NodeJoined(node, Epoch(n)) => {
                Op::NodeJoined(node, Epoch(self.index.last_epoch().0 + n))
            }
            Op::NodeLost(node, Epoch(n)) => {
                let known = known(node).map_or(0, |node| node.epoch.0);
                Op::NodeLost(node, Epoch((known + n).saturating_sub(1)))
            }
            op => op,
        }
    }

    fn execute(&mut self, when: Precondition, op: Op) {
        let before = self.present().clone();
        let revision = Revision(self.models.len() as u64);
        let expected = before.step(revision, &when, &op);
        let by = By::Owner;
        let decided = self.index.decide(Command { by, when, op });
        let (record, after) = match (decided, expected) {
            (Ok(Some(record)), Some(after)) => (record, after),
            (Ok(None), Some(after)) => return assert_eq!(after, before),
            (Err(_), None) => return,
            (decided, expected) => panic!("{decided:?}, but the model says {expected:?}"),
        };
        self.records.push(record.encode());
        let commit = self.index.apply(record).expect("it was decided");
        assert_eq!(commit.revision, revision);
        check_changes(&commit.changes, &before, &after);
        self.commits.push(commit.changes);
        self.models.push(after);
        self.check_state();
    }

    fn check_state(&self) {
        let model = self.present();
        let facts = |(name, bucket): (&BucketName, &Bucket)| {
            let facts = Bucket::new(bucket.owner.clone(), bucket.created_at_ms);
            (name.clone(), facts)
        };
        let buckets: BTreeMap<_, _> = self.index.buckets().map(facts).collect();
        assert_eq!(buckets, model.buckets);
        assert_eq!(self.index.nodes, model.nodes);
        let last_epoch = model.epochs.last().copied();
        assert_eq!(self.index.last_epoch(), last_epoch.unwrap_or_default());
        let mut names_of: BTreeMap<ObjectId, Vec<Name>> = BTreeMap::new();
        for (name, entry) in &model.names {
            assert_eq!(&**self.index.entry(name).expect("it is there"), entry);
            names_of
                .entry(entry.sealed.id)
                .or_default()
                .push(name.clone());
        }
        let objects = self.index.objects();
        let objects = objects.map(|(id, object)| (id, object.placement().clone()));
        assert_eq!(objects.collect::<BTreeMap<_, _>>(), model.data);
        let doomed = self.index.doomed().cloned();
        assert!(doomed.eq(model.doomed.iter().cloned()));
        let mut owned_bytes = BTreeMap::new();
        for (name, entry) in model
            .names
            .iter()
            .filter(|(_, entry)| entry.sealed.size > 0)
        {
            let owner = model.buckets[&name.bucket].owner.clone();
            *owned_bytes.entry(owner).or_default() += u128::from(entry.sealed.size);
        }
        assert_eq!(self.index.owned_bytes, owned_bytes);
        for (id, object) in self.index.objects() {
            assert_eq!(object.names(), names_of[&id]);
        }
    }

    /// `None`: it ended, and was what it should have been.
    fn turn(&self, mut listing: Listing) -> Option<Listing> {
        let query = listing.query();
        match self.index.list(&query, &listing.cursor) {
            Ok(page) => {
                assert!(page.items.len() <= listing.items_max);
                listing.items.extend(page.items.iter().cloned());
                if let Some(next) = page.next {
                    assert_eq!(page.items.len(), listing.items_max);
                    listing.cursor = next;
                    return Some(listing);
                }
                let revision = usize::try_from(listing.cursor.revision.0).expect("few");
                let expected = self.models[revision].list(&listing.query(), &listing.from);
                assert_eq!(listing.items, expected);
            }
            Err(Error::NoBucket(bucket)) => assert!(!self.present().buckets.contains_key(&bucket)),
            Err(ref error @ Error::Compacted { oldest }) => {
                let revision = listing.cursor.revision;
                assert!(revision < oldest);
                if self.index.changes_since(revision, &Scope::All).is_ok() {
                    self.expect_made_since(revision, &listing.folder.bucket, error);
                }
            }
            Err(other) => panic!("{other}"),
        }
        None
    }

    fn restart(&mut self, is_from_snapshot: bool) {
        let limits = self.limits.clone();
        let mut index = if is_from_snapshot {
            let pieces = self.snapshot.iter().map(|bytes| Piece::decode(bytes));
            Index::from_pieces(limits, pieces).expect("what was written")
        } else {
            Index::new(limits)
        };
        let n_known = usize::try_from(index.revision().0).expect("few");
        for (record, changes) in self.records.iter().zip(&self.commits).skip(n_known) {
            let record = Record::decode(record).expect("it was written");
            let commit = index.apply(record).expect("it was applied before");
            assert_eq!(commit.changes, *changes);
        }
        assert!(index.pieces().eq(self.index.pieces()));
        assert_eq!(index.names_bytes, self.index.names_bytes);
        assert_eq!(index.owned_bytes, self.index.owned_bytes);
        self.index = index;
        self.check_state();
    }

    /// What is kept is not told only if it is of another bucket of that name.
    fn expect_made_since(&self, revision: Revision, bucket: &BucketName, error: &Error) {
        let Error::Compacted { oldest } = error else {
            panic!("{error}")
        };
        let made = &self.commits[usize::try_from(oldest.0 - 1).expect("few")];
        let is_it = |change: &Change| matches!(change, Change::BucketCreated { bucket: made, .. } if made == bucket);
        assert!(
            revision < *oldest && made.iter().any(is_it),
            "{revision:?} {oldest:?}"
        );
    }

    /// From every revision that is kept, all that has changed since is told; and every such revision can be listed.
    fn check_past(&self, scopes: &[Scope], listing: &Listing) {
        let mut is_kept = false;
        for (n, model) in self.models.iter().enumerate() {
            let revision = Revision(n as u64);
            let mut listing = listing.clone();
            listing.cursor.revision = revision;
            listing.cursor.from = listing.from.clone();
            match self.index.changes_since(revision, &Scope::All) {
                Ok(changes) => {
                    let commits = (1..).map(Revision).zip(&self.commits).skip(n);
                    let all = commits.flat_map(|(revision, changes)| {
                        changes.iter().map(move |change| (revision, change))
                    });
                    assert!(changes.eq(all));
                    is_kept = true;
                }
                Err(error) => {
                    assert!(!is_kept, "{error}");
                    let listed = self.index.list(&listing.query(), &listing.cursor);
                    listed.expect_err("of a revision that is not kept");
                    continue;
                }
            }
            for scope in scopes {
                let mut names = in_scope(model, scope);
                let changes = match self.index.changes_since(revision, scope) {
                    Ok(changes) => changes,
                    Err(error) => {
                        let bucket = scope.bucket().expect("all are kept");
                        self.expect_made_since(revision, bucket, &error);
                        continue;
                    }
                };
                for (_, change) in changes {
                    follow(&mut names, change);
                }
                assert_eq!(names, in_scope(self.present(), scope));
            }
            while let Some(next) = self.turn(listing) {
                listing = next;
            }
        }
        assert!(is_kept, "the present is always kept");
    }
}

impl Listing {
    fn query(&self) -> Query<'_> {
        Query {
            folder: &self.folder,
            delimiter: self.delimiter,
            items_max: self.items_max,
        }
    }
}

/// All that is different, and nothing else.
fn check_changes(changes: &[Change], before: &Model, after: &Model) {
    let mut names = before.names.clone();
    let mut buckets = before.buckets.clone();
    let mut placed = Vec::new();
    let mut released = Vec::new();
    for change in changes {
        follow(&mut names, change);
        match change {
            Change::BucketCreated {
                bucket,
                owner,
                created_at_ms,
            } => {
                let created = Bucket::new(owner.clone(), *created_at_ms);
                assert_eq!(buckets.insert(bucket.clone(), created), None);
            }
            Change::BucketDeleted(bucket) => assert!(buckets.remove(bucket).is_some()),
            Change::Named { .. } => {}
            Change::Placed {
                name,
                id,
                placement,
            } => {
                assert_eq!(after.names[name].sealed.id, *id);
                placed.push((name, placement));
            }
            Change::Released { id, copies } => released.push((*id, &**copies)),
        }
    }
    assert_eq!(names, after.names);
    assert_eq!(buckets, after.buckets);
    placed.sort_by_key(|(name, _)| *name);
    released.sort();
    let moved = after.names.iter().filter_map(|(name, entry)| {
        let placement = &after.data[&entry.sealed.id];
        let is_moved = before
            .data
            .get(&entry.sealed.id)
            .is_some_and(|old| old != placement);
        is_moved.then_some((name, placement))
    });
    assert_eq!(placed, moved.collect::<Vec<_>>());
    let gone = before
        .data
        .iter()
        .filter(|(id, _)| !after.data.contains_key(id));
    let gone = gone.map(|(id, placement)| (*id, placement.copies()));
    assert_eq!(released, gone.collect::<Vec<_>>());
}

fn follow(names: &mut BTreeMap<Name, Entry>, change: &Change) {
    if let Change::Named {
        name,
        before,
        after,
    } = change
    {
        let known = match after {
            Some(after) => names.insert(name.clone(), Entry::clone(after)),
            None => names.remove(name),
        };
        assert_eq!(known.as_ref(), before.as_deref());
    }
}

fn in_scope(model: &Model, scope: &Scope) -> BTreeMap<Name, Entry> {
    let mut names = model.names.clone();
    names.retain(|name, _| match scope {
        Scope::All => true,
        Scope::Folder(folder) => in_folder(name, folder),
        Scope::Name(only) => name == only,
    });
    names
}

fn any_bucket() -> impl Strategy<Value = BucketName> {
    prop_oneof![20 => Just("aaa"), 1 => Just("bbb")].prop_map(bucket)
}

fn any_owner() -> impl Strategy<Value = ids::Name> {
    select(&["acme", "x"][..]).prop_map(owner)
}

/// Few, so that commands meet.
fn any_name() -> impl Strategy<Value = Name> {
    let keys: &[_] = &[
        "a", "a/", "a//b", "a/a", "a/b", "a/é", "b", "b/a/b", "bb", "é",
    ];
    (any_bucket(), select(keys)).prop_map(|(bucket, key)| Name {
        bucket,
        ..name(key)
    })
}

fn any_folder() -> impl Strategy<Value = Folder> {
    let prefixes: &[_] = &["", "a", "a/", "a//", "b", "é", "c", "c/d"];
    (any_bucket(), select(prefixes)).prop_map(|(bucket, prefix)| Folder {
        bucket,
        prefix: Prefix::new(prefix).expect("a prefix"),
    })
}

fn any_copy() -> impl Strategy<Value = Residency> {
    let in_s3 = |key| {
        let name = name(key);
        let etag = Etag::new("s3").expect("an etag");
        Residency::S3(Arc::new(InS3 { name, etag }))
    };
    prop_oneof![
        2 => (1..3_u32).prop_map(|node| Residency::Dram(NodeId(node))),
        2 => (1..3_u32).prop_map(|node| Residency::Disk(NodeId(node))),
        2 => select(&["p", "persisted"][..]).prop_map(in_s3),
    ]
}

fn any_etag() -> impl Strategy<Value = Etag> {
    let texts: &[_] = &[
        "e",
        "0123456789abcdef0123456789abcdef",
        "+0123456789abcdef0123456789abcde",
    ];
    select(texts).prop_map(|text| Etag::new(text).expect("an etag"))
}

fn any_next() -> impl Strategy<Value = ObjectId> {
    let epoch = prop_oneof![1 => Just(0), 20 => Just(1), 1 => Just(2)];
    (1..3_u32, epoch, 0..4_u64).prop_map(|(node, epoch, serial)| ObjectId {
        node: NodeId(node),
        epoch: Epoch(epoch),
        serial,
    })
}

prop_compose! {
    fn any_seal()(
        name in any_name(),
        id in any_next(),
        etag in any_etag(),
        is_durable in any::<bool>(),
        modified_at_ms in any::<u64>(),
        metadata in vec(any::<u8>(), 0..3),
        expires_at_ms in any::<Option<u64>>(),
        readers in 0..3_u32,
        copies in vec(any_copy(), 1..3),
    ) -> Op {
        let class = if is_durable { Class::Durable } else { Class::Ephemeral };
        Op::Seal(Box::new(Seal {
            name,
            sealed: Sealed { id, size: id.serial, etag, class },
            modified_at_ms,
            metadata: metadata.into(),
            expires_at_ms,
            readers,
            copies: copies.into_iter().collect(),
        }))
    }
}

fn any_op() -> impl Strategy<Value = Op> {
    let metadata = || vec(any::<u8>(), 0..3).prop_map(Box::from);
    let object = || (0..40_u64).prop_map(id);
    let node = || ((1..3_u32).prop_map(NodeId), (0..3_u64).prop_map(Epoch));
    let cause = select(&[Cause::Moved, Cause::Corrupt][..]);
    let consumer = (0..4_u128).prop_map(ConsumerId);
    prop_oneof![
        2 => (any_bucket(), any_owner(), any::<u64>()).prop_map(|(bucket, owner, created_at_ms)| {
            Op::CreateBucket { bucket, owner, created_at_ms }
        }),
        1 => any_bucket().prop_map(Op::DeleteBucket),
        30 => any_seal(),
        4 => (any_name(), metadata()).prop_map(|(name, bytes)| Op::SetMetadata(name, bytes)),
        6 => (any_name(), consumer).prop_map(|(name, consumer)| Op::Consume(name, consumer)),
        6 => any_name().prop_map(Op::Delete),
        1 => any_folder().prop_map(Op::DeletePrefix),
        6 => (any_name(), any_name()).prop_map(|(from, to)| Op::Rename { from, to }),
        4 => (any_folder(), any_folder()).prop_map(|(from, to)| Op::RenamePrefix { from, to }),
        8 => (any_name(), any_name(), any::<u64>(), proptest::option::of(metadata())).prop_map(
            |(from, to, modified_at_ms, metadata)| Op::Copy { from, to, modified_at_ms, metadata }
        ),
        20 => (object(), any_copy()).prop_map(|(id, copy)| Op::AddCopy(id, copy)),
        20 => (object(), any_copy(), cause)
            .prop_map(|(id, copy, cause)| Op::DropCopy(id, copy, cause)),
        3 => node().prop_map(|(node, epoch)| Op::NodeJoined(node, epoch)),
        2 => node().prop_map(|(node, epoch)| Op::NodeLost(node, epoch)),
        1 => node().prop_map(|(node, _)| Op::ForgetNode(node)),
        4 => (object(), select(&["p", "persisted"][..]))
            .prop_map(|(id, key)| Op::DeletedInS3(name(key), id)),
    ]
}

fn any_listing() -> impl Strategy<Value = Listing> {
    let delimiter = select(&["", "/", "a", "//", "b/", "é"][..]);
    (any_folder(), delimiter, any_folder(), 1..4_usize).prop_map(
        |(folder, delimiter, from, items_max)| Listing {
            folder,
            delimiter,
            from: from.prefix.to_string(),
            items_max,
            items: Vec::new(),
            cursor: Cursor {
                revision: Revision(0),
                from: String::new(),
            },
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    let when = prop_oneof![
        10 => Just(Precondition::None),
        1 => Just(Precondition::Absent),
        1 => any_etag().prop_map(Precondition::Etag),
        1 => (0..100_u64).prop_map(|n| Precondition::Generation(Revision(n))),
    ];
    prop_oneof![
        20 => (when, any_op()).prop_map(|(when, op)| Step::Do(when, op)),
        2 => any_listing().prop_map(Step::Open),
        6 => any::<prop::sample::Index>().prop_map(Step::Turn),
        1 => Just(Step::Snapshot),
        1 => any::<bool>().prop_map(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn it_is_as_its_model_says(
        history_bytes_max in select(&[0, 3_000, 20_000, 1 << 20][..]),
        steps in vec(any_step(), 0..300),
        listing in any_listing(),
        name in any_name(),
    ) {
        let mut world = World::new(history_bytes_max);
        world.execute(Precondition::None, create("aaa"));
        for node in [1, 2] {
            let epoch = Epoch(node.into());
            world.execute(Precondition::None, Op::NodeJoined(NodeId(node), epoch));
        }
        for step in steps {
            world.step(step);
        }
        let scopes = [Scope::All, Scope::Folder(listing.folder.clone()), Scope::Name(name)];
        world.check_past(&scopes, &listing);
    }
}

/// With a bucket, a node, and objects `x/1`, `x/2`, `y`.
fn small(limits: Limits) -> Index {
    let mut index = Index::new(limits);
    let mut ops = vec![create("aaa"), Op::NodeJoined(NodeId(1), Epoch(1))];
    let seals = ["x/1", "x/2", "y"].into_iter().zip(1..);
    ops.extend(seals.map(|(key, serial)| Op::Seal(Box::new(seal(key, serial)))));
    for op in ops {
        execute(&mut index, op).expect("it is allowed");
    }
    index
}

fn execute(index: &mut Index, op: Op) -> Result<bool, Error> {
    let decided = index.decide(Command {
        by: By::Owner,
        when: Precondition::None,
        op,
    });
    let Some(record) = decided? else {
        return Ok(false);
    };
    index.apply(record).expect("it was decided");
    Ok(true)
}

fn copy(from: &str, to: &str, metadata: Option<&[u8]>) -> Op {
    Op::Copy {
        from: name(from),
        to: name(to),
        modified_at_ms: 2,
        metadata: metadata.map(Box::from),
    }
}

#[test]
fn a_name_is_as_old_as_its_data_there() {
    let mut index = small(Limits::default());
    let set = |bytes: &[u8]| Op::SetMetadata(name("y"), bytes.into());
    let rename = Op::Rename {
        from: name("y"),
        to: name("w"),
    };
    let cases = [
        (set(b"m"), "y", 1, "m"),
        (copy("y", "z", None), "z", 2, "m"),
        (copy("y", "z", Some(b"")), "z", 2, ""),
        (copy("y", "z", Some(b"n")), "z", 2, "n"),
        (set(b"o"), "y", 1, "o"),
        (rename, "w", 1, "o"),
        (copy("w", "w", None), "w", 2, "o"),
        (copy("x/1", "x/1", Some(b"p")), "x/1", 2, "p"),
    ];
    for (op, key, modified_at_ms, metadata) in cases {
        let said = format!("{op:?}");
        execute(&mut index, op).expect("it is allowed");
        let entry = index.entry(&name(key)).expect("it is there");
        let found = (entry.modified_at_ms, &*entry.metadata);
        assert_eq!(found, (modified_at_ms, metadata.as_bytes()), "{said}");
    }
}

#[test]
fn a_node_speaks_for_its_present_incarnation_and_its_own_copies() {
    let mut index = small(Limits::default());
    for node in [2, 3] {
        let epoch = Epoch(5 + u64::from(node));
        execute(&mut index, Op::NodeJoined(NodeId(node), epoch)).expect("they are new");
    }
    execute(&mut index, Op::NodeLost(NodeId(3), Epoch(8))).expect("it has joined");
    let op = |op: &Op, node, epoch| {
        let by = By::Node(NodeId(node), Epoch(epoch));
        let when = Precondition::None;
        let op = op.clone();
        index.decide(Command { by, when, op })
    };
    let delete = Op::Delete(name("y"));
    op(&delete, 2, 7).expect("a node that is heard");
    for (node, epoch) in [(2, 6), (2, 8), (3, 8), (4, 1)] {
        let (node, epoch) = (node, epoch);
        let fenced = Error::Fenced {
            node: NodeId(node),
            epoch: Epoch(epoch),
        };
        assert_eq!(op(&delete, node, epoch), Err(fenced));
    }
    let own = [
        Op::Seal(Box::new(seal("z", 9))),
        Op::AddCopy(id(1), Residency::Disk(NodeId(1))),
        Op::DropCopy(id(1), Residency::Dram(NodeId(1)), Cause::Corrupt),
    ];
    for own in own {
        op(&own, 1, 1).expect("its own copies");
        assert!(matches!(op(&own, 2, 7), Err(Error::Invalid(_))));
    }
    let by_owner = [
        Op::NodeJoined(NodeId(2), Epoch(9)),
        Op::NodeLost(NodeId(1), Epoch(1)),
        Op::ForgetNode(NodeId(3)),
    ];
    for by_owner in by_owner {
        assert!(matches!(op(&by_owner, 2, 7), Err(Error::Invalid(_))));
    }
}

#[test]
fn no_incarnation_of_a_node_that_was_forgotten_comes_back() {
    let mut index = small(Limits::default());
    let (node, epoch) = (NodeId(1), Epoch(1));
    assert_eq!(
        execute(&mut index, Op::NodeLost(node, Epoch(2))),
        Ok(false),
        "one that has not joined"
    );
    for op in [Op::NodeLost(node, epoch), Op::ForgetNode(node)] {
        assert_eq!(execute(&mut index, op.clone()), Ok(true));
        assert_eq!(execute(&mut index, op), Ok(false), "nothing is left to do");
    }
    let lost = Placement::Lost(Loss::Node { node, epoch });
    let object = index.object(id(1)).expect("a name stands for it");
    assert_eq!(*object.placement(), lost, "it is still told where it was");
    let pieces: Vec<_> = index.pieces().map(Ok).collect();
    let mut index = Index::from_pieces(Limits::default(), pieces).expect("all of them");
    for node in [node, NodeId(2)] {
        let joined = execute(&mut index, Op::NodeJoined(node, epoch));
        assert_eq!(joined, Err(Error::Fenced { node, epoch }));
    }
    let next = index.last_epoch().next();
    assert_eq!(execute(&mut index, Op::NodeJoined(node, next)), Ok(true));
}

#[test]
fn a_refusal_says_why() {
    let mut index = small(Limits::default());
    let [other, missing] = ["bbb", "aaa"].map(|in_bucket| Name {
        bucket: bucket(in_bucket),
        ..name("missing")
    });
    let in_other = Folder {
        bucket: bucket("bbb"),
        ..folder("")
    };
    let no_bucket = Error::NoBucket(bucket("bbb"));
    let no_name = Error::NoName(missing.clone());
    let rename = |from: &Name, to: &Name| Op::Rename {
        from: from.clone(),
        to: to.clone(),
    };
    let cases = [
        (create("aaa"), Error::BucketExists(bucket("aaa"))),
        (
            Op::DeleteBucket(bucket("aaa")),
            Error::NotEmpty(bucket("aaa")),
        ),
        (Op::DeleteBucket(bucket("bbb")), no_bucket.clone()),
        (Op::Seal(Box::new(seal("z", 1))), Error::Sealed(id(1))),
        (Op::Seal(Box::new(seal("z", 0))), Error::Sealed(id(0))),
        (
            Op::ForgetNode(NodeId(1)),
            Error::Invalid("the node is heard"),
        ),
        (Op::Delete(missing.clone()), no_name.clone()),
        (Op::Delete(other.clone()), no_bucket.clone()),
        (Op::DeletePrefix(in_other), no_bucket.clone()),
        (rename(&missing, &name("z")), no_name),
        (rename(&name("y"), &other), no_bucket),
        (
            Op::AddCopy(id(9), Residency::Disk(NodeId(1))),
            Error::NoObject(id(9)),
        ),
        (
            Op::DropCopy(id(1), Residency::Dram(NodeId(1)), Cause::Moved),
            Error::LastCopy,
        ),
    ];
    for (op, error) in cases {
        assert_eq!(execute(&mut index, op), Err(error));
    }
}

#[test]
fn a_renamed_folder_may_overlap_with_its_new_name() {
    let mut index = small(Limits::default());
    execute(&mut index, Op::Seal(Box::new(seal("x/x/1", 4)))).expect("it is new");
    let rename = Op::RenamePrefix {
        from: folder("x/"),
        to: folder("x/x/"),
    };
    let command = Command {
        by: By::Owner,
        when: Precondition::Absent,
        op: rename,
    };
    let record = index.decide(command).expect("nothing else is replaced");
    let commit = index
        .apply(record.expect("there are some"))
        .expect("decided");
    let released = |change: &Change| matches!(change, Change::Released { .. });
    assert!(!commit.changes.iter().any(released));
    let serial = |key| index.entry(&name(key)).expect("renamed").sealed.id.serial;
    assert_eq!(["x/x/1", "x/x/2", "x/x/x/1"].map(serial), [1, 2, 4]);
    assert_eq!(index.entry(&name("x/1")), Err(Error::NoName(name("x/1"))));
}

#[test]
fn every_limit_is_kept() {
    let consume = |n| Op::Consume(name("y"), ConsumerId(n));
    let copy = |to| copy("y", to, None);
    let rename = Op::RenamePrefix {
        from: folder("x"),
        to: folder("z"),
    };
    let add = |copy: fn(NodeId) -> Residency| Op::AddCopy(id(1), copy(NodeId(1)));
    let joined = |node, epoch| Op::NodeJoined(NodeId(node), Epoch(epoch));
    let delete = |prefix| Op::DeletePrefix(folder(prefix));
    let metadata = |n| Op::SetMetadata(name("y"), vec![0; n].into());
    check_limit("buckets", &[], create("bbb"), consume(1));
    check_limit("nodes", &[], joined(2, 2), joined(1, 2));
    let lost = Op::NodeLost(NodeId(1), Epoch(1));
    let forget = Op::ForgetNode(NodeId(1));
    let ended = [lost, forget.clone(), joined(2, 2)];
    check_limit("nodes", &ended[..1], joined(2, 2), forget);
    check_limit("nodes", &ended, joined(3, 3), joined(2, 3));
    check_limit("bytes of metadata", &[], metadata(9), metadata(8));
    check_limit("names of one object", &[copy("z")], copy("w"), copy("z"));
    check_limit("copies", &[], add(Residency::Disk), add(Residency::Dram));
    check_limit("consumers", &[consume(1)], consume(2), consume(1));
    check_limit("names at once", &[], rename, delete("y"));
    check_limit("names at once", &[], delete(""), delete("x/1"));
}

/// After some commands one is refused, and the other still allowed.
fn check_limit(what: &str, first: &[Op], refused: Op, allowed: Op) {
    let mut index = small(Limits::default());
    index.limits = Limits {
        buckets_max: 1,
        nodes_max: 1,
        metadata_bytes_max: 8,
        names_max: 2,
        copies_max: 1,
        consumers_max: 1,
        transaction_names_max: 1,
        ..Limits::default()
    };
    for op in first {
        execute(&mut index, op.clone()).expect("within the limits");
    }
    let refused = execute(&mut index, refused);
    assert!(
        matches!(refused, Err(Error::Limit { what: found, .. }) if found == what),
        "{what}: {refused:?}"
    );
    execute(&mut index, allowed).expect(what);
}

#[test]
fn an_index_that_is_full_takes_no_names_and_gives_them_back() {
    let mut index = small(Limits::default());
    index.limits.names_bytes_max = index.names_bytes - 1;
    let full = execute(&mut index, Op::Seal(Box::new(seal("z", 4))));
    assert!(matches!(full, Err(Error::Limit { .. })));
    execute(&mut index, Op::Delete(name("y"))).expect("it makes room");
    execute(&mut index, Op::Seal(Box::new(seal("z", 4)))).expect("there is room");
    execute(&mut index, Op::DeletePrefix(folder(""))).expect("there are some");
    assert_eq!(index.names_bytes, 0);
}

#[test]
fn an_owner_has_no_more_bytes_than_it_may() {
    let mut index = small(Limits::default());
    let acme = owner("acme");
    let most = index.owned_bytes(&acme);
    index.limits.owned_bytes_max = most;
    let sized = |key, serial, size| {
        let mut seal = seal(key, serial);
        seal.sealed.size = size;
        Op::Seal(Box::new(seal))
    };
    let refused = |index: &mut Index, op| {
        let refused = execute(index, op);
        assert!(
            matches!(refused, Err(Error::OwnerFull { .. })),
            "{refused:?}"
        );
    };
    refused(&mut index, sized("z", 4, 1));
    refused(&mut index, sized("z", 4, u64::MAX));
    refused(&mut index, sized("y", 4, 6));
    refused(&mut index, copy("y", "z", None));
    execute(&mut index, sized("z", 4, 0)).expect("it takes nothing");
    execute(&mut index, sized("y", 5, 5)).expect("it takes the place of as much");
    let renamed = Op::Rename {
        from: name("y"),
        to: name("yy"),
    };
    execute(&mut index, renamed).expect("it is there already");
    // A limit that is lower now is no reason to refuse what makes it less.
    index.limits.owned_bytes_max = 0;
    execute(&mut index, sized("yy", 6, 4)).expect("less than before");
    refused(&mut index, sized("yy", 7, 5));
    index.limits.unlimited_owner = Some(acme.clone());
    execute(&mut index, sized("yy", 7, u64::MAX)).expect("no limit");
    execute(&mut index, copy("yy", "zz", None)).expect("no limit");
    assert_eq!(index.owned_bytes(&acme), u64::MAX);
    execute(&mut index, Op::DeletePrefix(folder(""))).expect("there are some");
    assert_eq!(index.owned_bytes(&acme), 0);
    assert!(index.owned_bytes.is_empty());
}

#[test]
fn a_record_that_does_not_fit_changes_nothing() {
    let mut index = small(Limits::default());
    let pieces: Vec<_> = index.pieces().collect();
    let next = index.revision().next();
    let cases = [
        (index.revision(), Op::Delete(name("y"))),
        (next.next(), Op::Delete(name("y"))),
        (next, Op::Delete(name("z"))),
        (next, Op::NodeJoined(NodeId(1), Epoch(1))),
        (next, Op::Seal(Box::new(seal("z", 1)))),
    ];
    for (revision, op) in cases {
        let applied = index.apply(Record { revision, op });
        assert!(matches!(applied, Err(Error::Corrupt(_))));
        assert!(index.pieces().eq(pieces.iter().cloned()));
    }
}

#[test]
fn pieces_that_do_not_belong_together_are_refused() {
    let mut index = small(Limits::default());
    execute(&mut index, copy("x/1", "z", None)).expect("it is there");
    let pieces: Vec<_> = index.pieces().collect();
    let of = |pieces: Vec<Piece>| Index::from_pieces(Limits::default(), pieces.into_iter().map(Ok));
    let again = of(pieces.clone()).expect("all of them");
    assert!(again.pieces().eq(pieces.iter().cloned()));
    for n in 0..pieces.len() {
        let mut less = pieces.clone();
        let piece = less.remove(n);
        assert!(
            matches!(of(less), Err(Error::Corrupt(_))),
            "without {piece:?}"
        );
        let mut more = pieces.clone();
        more.insert(n, pieces[n].clone());
        assert!(
            matches!(of(more), Err(Error::Corrupt(_))),
            "twice {piece:?}"
        );
    }
}

#[test]
fn a_head_that_knows_less_than_was_sealed_is_refused() {
    let index = small(Limits::default());
    let check = |edit: fn(&mut Node, &mut Epoch), is_refused| {
        let mut pieces: Vec<_> = index.pieces().collect();
        let Some(Piece::Head {
            nodes, last_epoch, ..
        }) = pieces.first_mut()
        else {
            panic!("the first piece is the head");
        };
        edit(&mut nodes[0].1, last_epoch);
        let made = Index::from_pieces(Limits::default(), pieces.into_iter().map(Ok));
        assert_eq!(made.is_err(), is_refused);
    };
    check(|_, _| {}, false);
    check(|node, _| node.last_serial = 2, true);
    check(|node, _| node.epoch = Epoch(0), true);
    check(|_, last_epoch| *last_epoch = Epoch(0), true);
}

#[test]
fn an_object_is_sealed_once_and_in_order() {
    let mut index = small(Limits::default());
    let seal = |epoch, serial| {
        let mut seal = seal("z", serial);
        seal.sealed.id.epoch = Epoch(epoch);
        Op::Seal(Box::new(seal))
    };
    let sealed = |serial| Err(Error::Sealed(id(serial)));
    let fenced = |epoch| {
        let (node, epoch) = (NodeId(1), Epoch(epoch));
        Err(Error::Fenced { node, epoch })
    };
    let joined = Op::NodeJoined(NodeId(1), Epoch(2));
    let cases = [
        (seal(1, 7), Ok(true)),
        (seal(1, 7), sealed(7)),
        (seal(1, 6), sealed(6)),
        (Op::Delete(name("z")), Ok(true)),
        (seal(1, 7), sealed(7)),
        (seal(1, u64::MAX), Ok(true)),
        (seal(1, u64::MAX), sealed(u64::MAX)),
        (seal(2, 1), fenced(2)),
        (joined, Ok(true)),
        (seal(1, 8), fenced(1)),
        (seal(2, 1), Ok(true)),
        (Op::NodeLost(NodeId(1), Epoch(2)), Ok(true)),
        (seal(2, 2), fenced(2)),
        (Op::ForgetNode(NodeId(1)), Ok(true)),
        (seal(2, 2), fenced(2)),
    ];
    for (op, expected) in cases {
        let pieces: Vec<_> = index.pieces().map(Ok).collect();
        index = Index::from_pieces(Limits::default(), pieces).expect("all of them");
        let said = format!("{op:?}");
        assert_eq!(execute(&mut index, op), expected, "{said}");
    }
}

#[test]
fn a_bucket_that_is_made_anew_says_nothing_of_the_one_before() {
    let mut index = small(Limits::default());
    let (old, all) = (index.cursor(""), index.revision());
    let data = folder("").bucket;
    execute(&mut index, Op::DeletePrefix(folder(""))).expect("it is there");
    let empty = index.revision();
    execute(&mut index, Op::DeleteBucket(data.clone())).expect("it is empty");
    let made = Op::CreateBucket {
        bucket: data,
        owner: "other".parse().expect("a name"),
        created_at_ms: 1,
    };
    execute(&mut index, made).expect("there is none");
    let oldest = index.revision();
    let query = Query {
        folder: &folder(""),
        delimiter: "",
        items_max: 9,
    };
    let compacted = Error::Compacted { oldest };
    assert_eq!(index.list(&query, &old), Err(compacted.clone()));
    let now = index.cursor("");
    assert_eq!(index.list(&query, &now).map(|page| page.items), Ok(vec![]));
    for scope in [Scope::Folder(folder("")), Scope::Name(name("y"))] {
        for since in [all, empty] {
            let told = index.changes_since(since, &scope).err();
            assert_eq!(told, Some(compacted.clone()));
        }
        let told = index.changes_since(oldest, &scope).map(Iterator::count);
        assert_eq!(told, Ok(0));
    }
    let told = index.changes_since(all, &Scope::All).map(Iterator::count);
    assert!(told.is_ok_and(|told| told > 2));
}

#[test]
fn what_was_before_is_forgotten_with_the_changes() {
    let mut index = small(Limits::default());
    index.limits.history_bytes_max = 0;
    let old = index.cursor("");
    let pieces: Vec<_> = index.pieces().map(Ok).collect();
    let mut index = Index::from_pieces(index.limits, pieces).expect("all of them");
    execute(&mut index, Op::Delete(name("y"))).expect("it is there");
    let oldest = index.revision();
    let query = Query {
        folder: &folder(""),
        delimiter: "",
        items_max: 9,
    };
    assert_eq!(index.list(&query, &old), Err(Error::Compacted { oldest }));
    let changes = index.changes_since(old.revision, &Scope::All);
    assert_eq!(changes.err(), Some(Error::Compacted { oldest }));
    let future = index.changes_since(oldest.next(), &Scope::All);
    assert_eq!(future.err(), Some(Error::Compacted { oldest }));
    assert!(index.history.is_empty());
    execute(&mut index, Op::NodeJoined(NodeId(2), Epoch(2))).expect("it is new");
    assert!(index.history.is_empty(), "also of what changed no name");
}
