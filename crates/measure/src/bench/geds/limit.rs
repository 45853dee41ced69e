//! Whether a node keeps its limit, as the kernel counts it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use geds::client::Client;

use super::data::{self, MIB};
use super::network::put;
use super::node::{self, Served};
use super::{Measured, Setting};

/// So much is written or read between two looks at the memory.
const LOOK_EVERY_BYTES: usize = 32 * MIB;

/// Writes four times as much as there is memory, and reads all of it; nothing may fail. What counts is what the node has of memory that is not a copy
/// of a file: `smaps_rollup` of its process and, where the kernel lets us have one, `memory.stat` of a group of its own; the largest of all looks.
pub(super) fn limit(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let limit = if setting.is_quick { 64 } else { 1024 };
    let n_objects = 4 * limit;
    let memory = format!("{limit}Mi");
    // It goes after its process.
    let group;
    let served = Served::start(&setting.dir.join("node"), &["--memory", &memory])?;
    let found = Group::around(served.pid());
    if !setting.is_quick
        && let Err(error) = &found
    {
        anyhow::bail!(
            "the kernel has no group for the node, which is to count its memory: {error:#}"
        );
    }
    group = found.ok();
    let runtime = rt::runtime()?;
    let client = runtime.block_on(served.first_client())?;
    let (mut most, mut n_looks) = (0, 0);
    let mut look = |n: usize| {
        if (n * MIB).is_multiple_of(LOOK_EVERY_BYTES) {
            let of_group = group.as_ref().map_or(Ok(0), Group::bytes)?;
            most = most.max(of_process(served.pid())?).max(of_group);
            n_looks += 1;
        }
        anyhow::Ok(())
    };
    let mut content = data::random_bytes(MIB);
    let mut sums = Vec::new();
    for n in 0..n_objects {
        content[..8].copy_from_slice(&data::mix(n).to_le_bytes());
        sums.push(data::sum(&content));
        let name = node::name(&n.to_string())?;
        let put = runtime.block_on(put(&client, &name, &content));
        put.with_context(|| format!("write object {n}"))?;
        look(n)?;
    }
    for n in 0..n_objects {
        let n = n * 7 % n_objects;
        let found = runtime.block_on(read(&client, n));
        let found = found.with_context(|| format!("read object {n}"))?;
        ensure!(found == sums[n], "object {n} is not what was written");
        look(n)?;
    }
    Ok(vec![Measured {
        value: most as f64 / MIB as f64,
        peer_value: limit as f64,
        runs: n_looks,
        cpu: None,
    }])
}

async fn read(client: &Client, n: usize) -> anyhow::Result<u64> {
    let (_, content) = client.get(&node::name(&n.to_string())?, MIB).await?;
    Ok(data::sum(&content))
}

/// What is not a copy of a file.
fn of_process(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let kib = |name| field(&text, name).with_context(|| format!("find {name} in {path}"));
    Ok((kib("Pss_Anon:")? + kib("Pss_Shmem:")?) << 10)
}

/// The number behind a word at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    let mut line = lines.find(|line| line.clone().next() == Some(name))?;
    line.nth(1)?.parse().ok()
}

/// A memory group of the kernel for one process, below that of this one. It is removed when that process has ended.
struct Group {
    dir: PathBuf,
}

impl Group {
    fn around(pid: u32) -> anyhow::Result<Self> {
        let text = fs::read_to_string("/proc/self/cgroup").context("read the own group")?;
        let dir = own_groups(&text)
            .find(|dir| dir.join("memory.stat").exists())
            .context("find the own group")?;
        let group = Self {
            dir: dir.join(format!("cloudskin-bench-{pid}")),
        };
        let making = || format!("make {}", group.dir.display());
        fs::create_dir(&group.dir).with_context(making)?;
        // Pages belong to the group in which they were first touched.
        let mut procs = fs::OpenOptions::new()
            .write(true)
            .open(group.dir.join("cgroup.procs"))
            .with_context(making)?;
        write!(procs, "{pid}").with_context(making)?;
        ensure!(group.bytes().is_ok(), "it does not count memory");
        Ok(group)
    }

    fn bytes(&self) -> anyhow::Result<u64> {
        let path = self.dir.join("memory.stat");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        // The first version calls it otherwise.
        let anonymous = field(&text, "anon").or_else(|| field(&text, "rss"));
        let anonymous = anonymous.context("find what is no file's in memory.stat")?;
        Ok(anonymous + field(&text, "shmem").unwrap_or_default())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // As long as the process is there it stays, and is in nobody's way.
        fs::remove_dir(&self.dir).ok();
    }
}

/// Where the groups of a process may be, by what `/proc/self/cgroup` says of it: `0::/path`, or `4:memory:/path` of the first version.
fn own_groups(text: &str) -> impl Iterator<Item = PathBuf> {
    text.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let root = match controllers {
            "" => Path::new("/sys/fs/cgroup").to_owned(),
            "memory" => Path::new("/sys/fs/cgroup/memory").to_owned(),
            _ => return None,
        };
        Some(root.join(path.trim_start_matches('/')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_both_versions_are_found() {
        let found: Vec<_> = own_groups("5:cpu:/a\n4:memory:/b/c\n0::/d\n").collect();
        let expected = ["/sys/fs/cgroup/memory/b/c", "/sys/fs/cgroup/d"];
        assert_eq!(found, expected.map(PathBuf::from));
    }

    #[test]
    fn fields_are_found_by_whole_words() {
        let text = "rss_huge 1\nrss 2\nPss_Anon:    3 kB\n";
        assert_eq!(field(text, "rss"), Some(2));
        assert_eq!(field(text, "Pss_Anon:"), Some(3));
        assert_eq!(field(text, "Pss"), None);
    }
}
