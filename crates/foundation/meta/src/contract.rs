//! What every store must do, as a test that any implementation can run.

use std::sync::Arc;
use std::thread;

use crate::{
    Condition, Entry, Error, KEY_BYTES_MAX, MetaStore, Revision, VALUE_BYTES_MAX, WRITES_MAX, Write,
};

/// Checks a kind of store; `open` makes an empty one.
///
/// # Panics
/// When it does not keep the contract.
pub fn contract(open: &dyn Fn() -> Arc<dyn MetaStore>) {
    compare_and_set(open().as_ref());
    commits_are_whole(open().as_ref());
    lists_are_pages(open().as_ref());
    watches_have_no_gap(open().as_ref());
    history_is_bounded(open().as_ref());
    limits_hold(open().as_ref());
    writers_do_not_lose_each_other(&open());
}

const OK: &str = "the store works";

fn compare_and_set(store: &dyn MetaStore) {
    assert_eq!(store.get("a").expect(OK), None);
    let first = store.cas("a", None, b"1".to_vec()).expect("absent");
    assert!(is_conflict(store.cas("a", None, vec![]), "a"));
    let second = store.cas("a", Some(first), b"2".to_vec()).expect("as read");
    assert_eq!(second, Revision(first.0 + 1));
    assert!(is_conflict(store.cas("a", Some(first), vec![]), "a"));
    assert!(is_conflict(store.delete("a", first), "a"));
    let entry = Entry {
        key: "a".into(),
        revision: second,
        value: b"2".to_vec(),
    };
    assert_eq!(store.get("a").expect(OK), Some(entry));
    store.delete("a", second).expect("as read");
    assert_eq!(store.get("a").expect(OK), None);
    assert!(is_conflict(store.cas("a", Some(second), vec![]), "a"));
    store.cas("a", None, Vec::new()).expect("absent again");
}

fn commits_are_whole(store: &dyn MetaStore) {
    let writes = [Write::put("a", vec![1]), Write::put("b", vec![2])];
    let revision = store.commit(&[], &writes).expect("no conditions");
    let unmet = [
        Condition::new("a", Some(revision)),
        Condition::new("b", None),
    ];
    let writes = [Write::delete("a"), Write::put("c", vec![3])];
    assert!(is_conflict(store.commit(&unmet, &writes), "b"));
    assert_eq!(*store.revision().borrow(), revision);
    assert_eq!(keys(store, "", None, 9), ["a", "b"]);
    // A condition may be about a key that is not written.
    let met = [
        Condition::new("b", Some(revision)),
        Condition::new("x", None),
    ];
    store.commit(&met, &writes).expect("they hold");
    assert_eq!(keys(store, "", None, 9), ["b", "c"]);
}

fn lists_are_pages(store: &dyn MetaStore) {
    for key in ["a", "p/1", "p/2", "p/3", "p0", "z"] {
        store.cas(key, None, vec![]).expect("absent");
    }
    assert_eq!(keys(store, "p/", None, 9), ["p/1", "p/2", "p/3"]);
    assert_eq!(keys(store, "p/", None, 2), ["p/1", "p/2"]);
    assert_eq!(keys(store, "p/", Some("p/2"), 2), ["p/3"]);
    // The last one of a page may have gone since.
    assert_eq!(keys(store, "p/", Some("p/11"), 9), ["p/2", "p/3"]);
    assert_eq!(keys(store, "p/", Some("a"), 9), ["p/1", "p/2", "p/3"]);
    assert_eq!(keys(store, "p/", Some("q"), 9), [""; 0]);
    assert_eq!(keys(store, "none", None, 9), [""; 0]);
}

fn watches_have_no_gap(store: &dyn MetaStore) {
    let mut signal = store.revision();
    assert!(!signal.has_changed().expect("the store is there"));
    let start = *signal.borrow_and_update();
    let both = [Write::put("w/a", vec![1]), Write::put("w/b", vec![2])];
    let first = store.commit(&[], &both).expect(OK);
    store.cas("other", None, vec![]).expect("absent");
    let last = store.commit(&[], &[Write::delete("w/a")]).expect(OK);
    assert!(signal.has_changed().expect("the store is there"));
    assert_eq!(*signal.borrow_and_update(), last);

    let seen = |after, limit| -> Vec<_> {
        let changes = store.changes("w/", after, limit).expect("kept");
        let short = changes.into_iter().map(|c| (c.revision, c.key, c.value));
        short.collect()
    };
    let (a, b) = ("w/a".to_owned(), "w/b".to_owned());
    let whole = [(first, a.clone(), Some(vec![1])), (first, b, Some(vec![2]))];
    assert_eq!(seen(start, 1), whole, "a commit is not torn");
    assert_eq!(seen(first, 9), [(last, a, None)]);
    assert_eq!(seen(last, 9), []);
    let future = store.changes("", Revision(last.0 + 1), 9);
    assert!(matches!(future, Err(Error::Compacted { .. })));
}

fn history_is_bounded(store: &dyn MetaStore) {
    let start = *store.revision().borrow();
    let value = vec![0; VALUE_BYTES_MAX];
    for _ in 0..80 {
        let write = Write::put("big", value.clone());
        store.commit(&[], &[write]).expect(OK);
    }
    let error = store.changes("", start, 9).expect_err("more than is kept");
    let Error::Compacted { oldest } = error else {
        panic!("{error}");
    };
    assert!(oldest > start);
    store
        .changes("", oldest, 9)
        .expect("from here on it is kept");
}

fn limits_hold(store: &dyn MetaStore) {
    let before = *store.revision().borrow();
    store.cas("", None, vec![]).expect_err("no key");
    let long = "k".repeat(KEY_BYTES_MAX + 1);
    store.cas(&long, None, vec![]).expect_err("a long key");
    let large = vec![0; VALUE_BYTES_MAX + 1];
    store.cas("a", None, large).expect_err("a large value");
    let many = vec![Write::delete("a"); WRITES_MAX + 1];
    store.commit(&[], &many).expect_err("many writes");
    assert_eq!(*store.revision().borrow(), before);
    let value = vec![0; VALUE_BYTES_MAX];
    store
        .cas(&long[1..], None, value)
        .expect("just at the limits");
}

fn writers_do_not_lose_each_other(store: &Arc<dyn MetaStore>) {
    const WRITERS: u64 = 4;
    const EACH: u64 = 25;
    let write = || {
        for _ in 0..EACH {
            loop {
                let entry = store.get("n").expect(OK);
                let n = entry.as_ref().map_or(0, |entry| number(&entry.value));
                let next = (n + 1).to_le_bytes().to_vec();
                let revision = entry.map(|entry| entry.revision);
                match store.cas("n", revision, next) {
                    Ok(_) => break,
                    Err(Error::Conflict { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(write);
        }
    });
    let entry = store.get("n").expect(OK).expect("was written");
    assert_eq!(number(&entry.value), WRITERS * EACH);
    assert_eq!(entry.revision, Revision(WRITERS * EACH));
}

fn number(value: &[u8]) -> u64 {
    u64::from_le_bytes(value.try_into().expect("8 bytes"))
}

fn keys(store: &dyn MetaStore, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let entries = store.list(prefix, after, limit).expect(OK);
    entries.into_iter().map(|entry| entry.key).collect()
}

fn is_conflict(result: Result<Revision, Error>, key: &str) -> bool {
    matches!(result, Err(Error::Conflict { key: found }) if found == key)
}
