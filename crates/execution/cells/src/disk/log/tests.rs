use std::cell::Cell;
use std::rc::Rc;

use super::*;

/// What a world writes: rank, number, stream, text. The third piece leaves a line unfinished that the fifth ends.
const PIECES: [(Rank, u64, bool, &str); 6] = [
    (0, 0, false, "first\n"),
    (1, 0, false, "of another\nand "),
    (0, 1, false, "here "),
    (0, 2, true, "error\n"),
    (0, 3, false, "too\nend"),
    (1, 1, false, "more\n"),
];
const TEXT: &str = "first\nof another\nerror\nhere too\nand more\n";
const LIMIT: u64 = LIMIT_BYTES_MIN;

fn new_dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn open(dir: &Path) -> Log {
    Log::open(dir, LIMIT).expect("opens")
}

fn take(log: &mut Log, (rank, seq, stderr, text): (Rank, u64, bool, &str)) {
    log.take(rank, seq, stderr, text.into()).expect("taken");
}

/// All text from `offset` on, and where it begins.
fn read_all(dir: &Path, offset: u64, max: usize) -> (u64, String) {
    let (begin, mut all) = read(dir, offset, max).expect("read");
    loop {
        let at = begin + all.len() as u64;
        let (next, bytes) = read(dir, at, max).expect("read");
        assert_eq!(next, at, "no text between two that are kept is left out");
        if bytes.is_empty() {
            return (begin, String::from_utf8(all).expect("text"));
        }
        all.extend(bytes);
    }
}

fn only_segment(dir: &Path) -> (PathBuf, Vec<u8>) {
    let (_, path) = numbered(dir).expect("listed").pop().expect("a segment");
    let bytes = fs::read(&path).expect("read");
    (path, bytes)
}

#[test]
fn golden() {
    let dir = new_dir();
    take(&mut open(dir.path()), (1, 0, true, "a\nb"));
    let hex: String = only_segment(dir.path())
        .1
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        hex,
        "43534b4e4f55543100000000000000008ab2288c09000000598670ef0101010002610a0162"
    );
}

#[test]
fn text_comes_back_in_pieces_of_any_size() {
    let dir = new_dir();
    assert_eq!(read(dir.path(), 7, 10).expect("read"), (0, Vec::new()));
    let mut log = open(dir.path());
    for piece in PIECES {
        take(&mut log, piece);
    }
    for max in 1..TEXT.len() + 2 {
        for offset in 0..=TEXT.len() {
            let wanted = (offset as u64, TEXT[offset..].to_owned());
            assert_eq!(read_all(dir.path(), offset as u64, max), wanted);
        }
    }
    let end = (TEXT.len() as u64, Vec::new());
    assert_eq!(read(dir.path(), 1000, 10).expect("read"), end);
    log.finish().expect("finished");
    let text = format!("{TEXT}end");
    assert_eq!(read_all(dir.path(), 0, 100), (0, text));
}

#[test]
fn a_log_that_is_opened_again_repeats_nothing_and_knows_unfinished_lines() {
    let dir = new_dir();
    for (n, piece) in PIECES.into_iter().enumerate() {
        let mut log = open(dir.path());
        for piece in PIECES.iter().take(n) {
            take(&mut log, *piece);
        }
        assert!(!log.has_all(piece.0, piece.1 + 1));
        take(&mut log, piece);
        assert!(open(dir.path()).has_all(piece.0, piece.1 + 1));
    }
    assert_eq!(read_all(dir.path(), 0, 100), (0, TEXT.into()));
    open(dir.path()).finish().expect("finished");
    open(dir.path()).finish().expect("finished");
    assert_eq!(read_all(dir.path(), 0, 100), (0, format!("{TEXT}end")));
}

/// Whatever `damaged` has in place of the only segment: a reader gets what was before the damage, and a world that starts again
/// writes the rest.
fn check_damage(damaged: &[u8]) {
    let dir = new_dir();
    fs::write(path_of(dir.path(), 0), damaged).expect("written");
    let (begin, text) = read_all(dir.path(), 0, 100);
    assert_eq!(begin, 0);
    assert!(TEXT.starts_with(&text), "{text:?}");
    let mut log = open(dir.path());
    for piece in PIECES {
        take(&mut log, piece);
    }
    assert_eq!(read_all(dir.path(), 0, 100), (0, TEXT.into()));
    log.finish().expect("finished");
    assert_eq!(read_all(dir.path(), 0, 100), (0, format!("{TEXT}end")));
}

fn segment_of_all_pieces() -> Vec<u8> {
    let dir = new_dir();
    let mut log = open(dir.path());
    for piece in PIECES {
        take(&mut log, piece);
    }
    only_segment(dir.path()).1
}

#[test]
fn a_segment_cut_anywhere_costs_only_its_end() {
    let bytes = segment_of_all_pieces();
    for cut in 0..=bytes.len() {
        check_damage(&bytes[..cut]);
        check_damage(&[&bytes[..cut], &[0; 9]].concat());
    }
}

#[test]
fn a_flipped_bit_costs_only_what_is_behind_it() {
    let bytes = segment_of_all_pieces();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        check_damage(&damaged);
    }
}

fn line(n: u64) -> String {
    let width = usize::try_from(n % 500).expect("small");
    format!("{n:0>width$}\n")
}

fn size_of(dir: &Path) -> u64 {
    numbered(dir)
        .expect("listed")
        .iter()
        .map(|(_, path)| path.metadata().expect("a file").len())
        .sum()
}

#[test]
fn the_oldest_text_goes_at_the_limit_and_the_rest_stays_readable() {
    let dir = new_dir();
    let mut log = open(dir.path());
    take(&mut log, (1, 0, false, "unfinished"));
    let mut text = String::new();
    for n in 0..6000 {
        take(&mut log, (0, n, false, &line(n)));
        text += &line(n);
        assert!(size_of(dir.path()) <= LIMIT + 1000);
        if n % 1000 == 999 {
            log = open(dir.path());
        }
    }
    assert!(size_of(dir.path()) > LIMIT / 2);
    let (begin, kept) = read_all(dir.path(), 0, 5000);
    let begin = usize::try_from(begin).expect("small");
    assert!(begin > 0 && kept == text[begin..], "text from {begin} on");
    assert!(text[..begin].ends_with('\n'));

    take(&mut log, (1, 1, false, " but now\n"));
    let end = text.len() as u64;
    let last = (end, b"unfinished but now\n".to_vec());
    assert_eq!(read(dir.path(), end, 100).expect("read"), last);
}

#[test]
fn damage_in_an_old_segment_is_jumped_over() {
    let dir = new_dir();
    let mut log = open(dir.path());
    for n in 0..200 {
        take(&mut log, (0, n, false, &line(n)));
    }
    let (_, text) = read_all(dir.path(), 0, 1000);
    let (_, first) = numbered(dir.path()).expect("listed").remove(0);
    let mut bytes = fs::read(&first).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&first, bytes).expect("written");
    let (begin, before) = read(dir.path(), 0, 1 << 20).expect("read");
    assert_eq!(begin, 0);
    let damaged_at = before.len() as u64;
    let (begin, after) = read(dir.path(), damaged_at, 1 << 20).expect("read");
    assert!(begin > damaged_at && !after.is_empty());
    let begin = usize::try_from(begin).expect("small");
    assert!(text.as_bytes()[begin..].starts_with(&after));
    assert!(open(dir.path()).has_all(0, 200));
}

#[test]
fn a_reader_follows_while_the_log_grows_and_its_oldest_segments_go() {
    let dir = new_dir();
    let mut log = open(dir.path());
    const LINES: u64 = 8000;
    let text: String = (0..LINES).map(line).collect();
    let writer = rt::thread("writer".into(), 1 << 20, move || {
        for n in 0..LINES {
            take(&mut log, (0, n, false, &line(n)));
        }
    });
    let writer = writer.expect("a thread");
    let mut at = 0;
    loop {
        let is_over = writer.is_finished();
        let (begin, bytes) = read(dir.path(), at as u64, 3000).expect("read");
        let begin = usize::try_from(begin).expect("small");
        assert!(begin >= at, "offsets go up");
        assert!(text.as_bytes()[begin..].starts_with(&bytes));
        at = begin + bytes.len();
        if is_over && bytes.is_empty() {
            break;
        }
    }
    writer.join().expect("the writer has not panicked");
    assert_eq!(at, text.len());
}

#[test]
fn ranks_without_end_of_line_do_not_fill_the_log_with_what_it_repeats() {
    let dir = new_dir();
    let mut log = open(dir.path());
    for seq in 0..40 {
        for rank in 0..20 {
            take(&mut log, (rank, seq, false, &"x".repeat(100)));
            assert!(size_of(dir.path()) <= LIMIT + 1000);
        }
    }
    log.finish().expect("finished");
    let (begin, text) = read_all(dir.path(), 0, 1 << 20);
    assert_eq!(begin + text.len() as u64, 40 * 20 * 100);
}

/// A file system on which a log may take so much, bytes.
#[derive(Clone, Debug)]
struct Small {
    dir: PathBuf,
    capacity: Rc<Cell<u64>>,
}

impl Small {
    fn new(dir: &Path, capacity: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            capacity: Rc::new(Cell::new(capacity)),
        }
    }

    fn grow(&self, by: u64) {
        self.capacity.set(self.capacity.get() + by);
    }
}

impl Volume for Small {
    fn create(&self, path: &Path) -> io::Result<File> {
        Disk.create(path)
    }

    /// A file system that becomes full takes the first part.
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        let growth = (at + bytes.len() as u64).saturating_sub(file.metadata()?.len());
        let room = self.capacity.get().saturating_sub(size_of(&self.dir));
        let missing = growth.saturating_sub(room);
        let n_taken = bytes.len() - usize::try_from(missing).expect("small");
        Disk.write(file, &bytes[..n_taken], at)?;
        if missing > 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

fn take_on(log: &mut Log<Small>, (rank, seq, stderr, text): (Rank, u64, bool, &str)) {
    log.take(rank, seq, stderr, text.into()).expect("taken");
}

#[test]
fn a_disk_that_is_full_anywhere_costs_nothing_and_repeats_nothing() {
    let whole = segment_of_all_pieces().len() as u64;
    for room in 0..=whole {
        let dir = new_dir();
        let volume = Small::new(dir.path(), room);
        let mut log = Log::open_on(volume.clone(), dir.path(), LIMIT).expect("opens");
        for piece in PIECES {
            take_on(&mut log, piece);
        }
        assert_eq!(log.is_full(), room < whole);
        assert_eq!(log.held_bytes() > 0, room < whole);
        for _ in room..whole {
            assert!(log.is_full() && !log.has_all(1, 2));
            let error = log.sync().expect_err("it is not on the disk");
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert_eq!(log.finish().map_err(|e| e.kind()), Err(error.kind()));
            let (_, text) = read_all(dir.path(), 0, 100);
            assert!(TEXT.starts_with(&text), "{text:?}");
            volume.grow(1);
            log.retry().expect("no other error");
        }
        assert!(!log.is_full() && log.has_all(1, 2));
        assert_eq!(log.held_bytes(), 0);
        assert_eq!(read_all(dir.path(), 0, 100), (0, TEXT.into()));
        log.finish().expect_err("the end of the line finds no room");
        volume.grow(100);
        log.finish().expect("it has room");
        log.finish().expect("there is nothing more");
        let text = format!("{TEXT}end");
        assert_eq!(read_all(dir.path(), 0, 100), (0, text.clone()));
        assert!(open(dir.path()).has_all(1, 2));
        assert_eq!(read_all(dir.path(), 0, 100), (0, text));
    }
}

#[test]
fn a_world_that_is_killed_on_a_full_disk_goes_on_where_its_log_is() {
    let whole = segment_of_all_pieces().len() as u64;
    for room in 0..=whole {
        let dir = new_dir();
        let mut log = Log::open_on(Small::new(dir.path(), room), dir.path(), LIMIT).expect("opens");
        for piece in PIECES {
            take_on(&mut log, piece);
        }
        drop(log);
        let mut log = open(dir.path());
        for piece in PIECES {
            take(&mut log, piece);
        }
        assert_eq!(read_all(dir.path(), 0, 100), (0, TEXT.into()));
    }
}

#[test]
fn a_log_with_many_segments_goes_on_when_there_is_room_again() {
    let dir = new_dir();
    let volume = Small::new(dir.path(), 0);
    let mut log = Log::open_on(volume.clone(), dir.path(), LIMIT).expect("opens");
    let (mut text, mut n_full) = (String::new(), 0);
    for n in 0..3000 {
        take_on(&mut log, (0, n, false, &line(n)));
        text += &line(n);
        // Room comes seldom and in pieces of any size, so that it ends in records as well as in beginnings.
        if n % 7 == 6 {
            n_full += u32::from(log.is_full());
            volume.grow(n % 1900);
            log.retry().expect("no other error");
        }
        assert!(size_of(dir.path()) <= LIMIT + 1000);
    }
    assert!(n_full > 100, "it was full {n_full} times");
    volume.grow(10 * LIMIT);
    log.retry().expect("no other error");
    assert!(log.has_all(0, 3000) && log.held_bytes() == 0);
    let (begin, kept) = read_all(dir.path(), 0, 5000);
    let begin = usize::try_from(begin).expect("small");
    assert!(begin > 0 && kept == text[begin..], "text from {begin} on");
    assert!(open(dir.path()).has_all(0, 3000));
}
