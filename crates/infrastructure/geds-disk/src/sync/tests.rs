use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::Together;

/// What a sync has made durable is what was written when it began.
#[test]
fn nobody_returns_before_what_it_wrote_is_durable() {
    let together = Together::default();
    let (written, durable, n_syncs) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let is_running = Mutex::new(());
    let sync = || {
        let _alone = is_running.try_lock().expect("one at a time");
        let began_with = written.load(Ordering::SeqCst);
        thread::yield_now();
        durable.store(began_with, Ordering::SeqCst);
        n_syncs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    let mine = written.fetch_add(1, Ordering::SeqCst) + 1;
                    together.sync(sync).expect("it works");
                    assert!(durable.load(Ordering::SeqCst) >= mine);
                }
            });
        }
    });
    assert!(n_syncs.load(Ordering::SeqCst) <= 8000);
}

#[test]
fn the_first_failure_is_final() {
    let together = Together::default();
    together.sync(|| Ok(())).expect("it works");
    let first = together.sync(|| Err(io::ErrorKind::StorageFull.into()));
    assert!(first.is_err());
    let later = together.sync(|| unreachable!("a failed sync is never tried again"));
    let later = later.expect_err("it is final");
    assert_eq!(later.kind(), io::ErrorKind::StorageFull);
}
