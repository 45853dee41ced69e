//! Which part of the machine's processors the units of a site may use.
//!
//! Whole processors are given by *affinity*: the agent keeps itself to them, and what it starts inherits that. Parts of processors are given by
//! the quota of a *cgroup* (v2 or v1), into which the units' processes are put and the agent is not: an agent that waits for its quota would
//! be silent just when its site is overloaded. Where neither is possible the units may use all, and the site says so.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ids::Name;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use sha2::{Digest as _, Sha256};

/// The quota is counted in times this short, so that a unit that has used it up does not stand still for long.
const PERIOD_US: u32 = 20_000;
/// The kernel takes no smaller quota.
const QUOTA_MIN_US: u32 = 1_000;

/// What a site shall be given.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    All,
    /// Exactly these processors.
    Processors(Vec<usize>),
    /// So much processor time; 0.5 is half a processor.
    Part(f64),
}

/// What it has been given. Dropping it gives back what can be.
#[derive(Debug)]
pub struct Share {
    cores: f64,
    by: &'static str,
    problem: Option<String>,
    group: Option<Group>,
}

impl Share {
    /// Takes the share. Affinity is that of the calling thread, and of the threads and processes that it starts from now on: so this is called
    /// before anything is started. What cannot be had is said by [`Share::problem`]. `dir` is the site's directory: two sites of
    /// one name on one machine have two shares.
    #[must_use]
    pub fn take(wanted: &Wanted, site: &Name, dir: &Path) -> Self {
        let result = match wanted {
            Wanted::All => Ok(Self::all(None)),
            Wanted::Processors(list) => keep_to(list),
            Wanted::Part(cores) => Group::create(*cores, site, dir).map(|group| Self {
                cores: *cores,
                by: "cgroup",
                problem: None,
                group: Some(group),
            }),
        };
        result.unwrap_or_else(|why| {
            Self::all(Some(format!("its units may use all processors: {why}")))
        })
    }

    fn all(problem: Option<String>) -> Self {
        Self {
            cores: cores(rt::processors()),
            by: "none",
            problem,
            group: None,
        }
    }

    /// The processors that units may use.
    #[must_use]
    pub fn cores(&self) -> f64 {
        self.cores
    }

    /// How that is enforced: `cgroup`, `affinity` or `none`.
    #[must_use]
    pub fn by(&self) -> &'static str {
        self.by
    }

    /// Why what was wanted could not be had.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Puts processes under the share that are not under it yet. Those that have ended meanwhile are passed over.
    pub(crate) fn admit(&self, pids: &[u32]) -> io::Result<()> {
        self.group
            .as_ref()
            .map_or(Ok(()), |group| group.admit(pids))
    }
}

fn keep_to(list: &[usize]) -> Result<Share, String> {
    let mut set = CpuSet::new();
    for cpu in list {
        if *cpu >= CpuSet::MAX_CPU {
            return Err(format!("there is no processor {cpu}"));
        }
        set.set(*cpu);
    }
    let mine = sched_getaffinity(None).map_err(|error| error.to_string())?;
    if let Some(cpu) = list.iter().find(|cpu| !mine.is_set(**cpu)) {
        return Err(format!("processor {cpu} is not one of ours"));
    }
    sched_setaffinity(None, &set).map_err(|error| format!("set the affinity: {error}"))?;
    Ok(Share {
        cores: f64::from(set.count()),
        by: "affinity",
        problem: None,
        group: None,
    })
}

fn cores(processors: usize) -> f64 {
    u32::try_from(processors).map_or(f64::MAX, f64::from)
}

/// A control group with a quota. Removed when it is dropped, if no process is left in it.
#[derive(Debug)]
struct Group(PathBuf);

/// Where this platform's groups are, by version of cgroups.
enum Hierarchy {
    V2(PathBuf),
    V1(PathBuf),
}

impl Hierarchy {
    fn find(mounts: &Path) -> Option<Self> {
        let controllers = fs::read_to_string(mounts.join("cgroup.controllers"));
        if controllers.is_ok_and(|all| all.split_whitespace().any(|name| name == "cpu")) {
            return Some(Self::V2(mounts.to_owned()));
        }
        let names = ["cpu", "cpu,cpuacct"];
        let mut folders = names.iter().map(|name| mounts.join(name));
        folders.find(|folder| folder.is_dir()).map(Self::V1)
    }
}

impl Group {
    fn create(cores: f64, site: &Name, dir: &Path) -> Result<Self, String> {
        let hierarchy = Hierarchy::find(Path::new("/sys/fs/cgroup"))
            .ok_or("there is no cgroup hierarchy with a processor quota")?;
        let digest = Sha256::digest(dir.as_os_str().as_encoded_bytes());
        let name = format!(
            "{site}-{:02x}{:02x}{:02x}{:02x}",
            digest[0], digest[1], digest[2], digest[3]
        );
        Self::create_in(&hierarchy, &name, quota_us(cores)?).map_err(|error| {
            format!("make a control group, for which an agent that is not root needs a share of whole processors instead: {error}")
        })
    }

    fn create_in(hierarchy: &Hierarchy, name: &str, quota_us: u32) -> io::Result<Self> {
        let (Hierarchy::V2(root) | Hierarchy::V1(root)) = hierarchy;
        let parent = root.join("cloudskin");
        let group = Self(parent.join(name));
        fs::create_dir_all(&group.0)?;
        match hierarchy {
            Hierarchy::V2(_) => {
                fs::write(root.join("cgroup.subtree_control"), "+cpu")?;
                fs::write(parent.join("cgroup.subtree_control"), "+cpu")?;
                fs::write(group.0.join("cpu.max"), format!("{quota_us} {PERIOD_US}"))?;
            }
            Hierarchy::V1(_) => {
                fs::write(group.0.join("cpu.cfs_period_us"), PERIOD_US.to_string())?;
                fs::write(group.0.join("cpu.cfs_quota_us"), quota_us.to_string())?;
            }
        }
        Ok(group)
    }

    fn admit(&self, pids: &[u32]) -> io::Result<()> {
        if pids.is_empty() {
            return Ok(());
        }
        let path = self.0.join("cgroup.procs");
        let text = fs::read_to_string(&path)?;
        let inside: BTreeSet<&str> = text.lines().collect();
        for pid in pids {
            let pid = pid.to_string();
            if inside.contains(pid.as_str()) {
                continue;
            }
            match fs::write(&path, &pid) {
                Err(error) if error.raw_os_error() != Some(NO_SUCH_PROCESS) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

const NO_SUCH_PROCESS: i32 = rustix::io::Errno::SRCH.raw_os_error();

fn quota_us(cores: f64) -> Result<u32, String> {
    let quota = cores * f64::from(PERIOD_US);
    if !(0.0..=1e9).contains(&quota) || quota == 0.0 {
        return Err(format!("{cores} is no number of processors"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is in range"
    )]
    Ok((quota as u32).max(QUOTA_MIN_US))
}

impl Drop for Group {
    fn drop(&mut self) {
        // Units that go on keep it, and other sites the folder above it.
        if fs::remove_dir(&self.0).is_ok()
            && let Some(parent) = self.0.parent()
        {
            fs::remove_dir(parent).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn site() -> Name {
        "edge".parse().expect("a name")
    }

    #[test]
    fn whole_processors_are_inherited() {
        let dir = tempfile::tempdir().expect("a folder");
        // In a thread, so that the other tests keep their processors.
        let body = move || {
            let mine = sched_getaffinity(None).expect("known");
            let first = (0..CpuSet::MAX_CPU)
                .find(|cpu| mine.is_set(*cpu))
                .expect("one");
            let share = Share::take(&Wanted::Processors(vec![first]), &site(), dir.path());
            assert_eq!(
                (share.by(), share.cores(), share.problem()),
                ("affinity", 1.0, None)
            );
            let output = Command::new("grep")
                .args(["Cpus_allowed_list", "/proc/self/status"])
                .output()
                .expect("grep runs");
            let text = String::from_utf8(output.stdout).expect("text");
            assert_eq!(
                text.split_whitespace().last(),
                Some(first.to_string().as_str())
            );
            let missing = Wanted::Processors(vec![CpuSet::MAX_CPU - 1]);
            let share = Share::take(&missing, &site(), dir.path());
            assert_eq!(share.by(), "none");
            assert!(
                share
                    .problem()
                    .is_some_and(|why| why.contains("not one of ours"))
            );
        };
        let thread = rt::thread("affinity".into(), 1 << 20, body).expect("a thread");
        thread.join().expect("no panic");
    }

    #[test]
    fn a_part_of_a_processor_is_a_quota_or_a_named_problem() {
        let dir = tempfile::tempdir().expect("a folder");
        let share = Share::take(&Wanted::Part(0.25), &site(), dir.path());
        let Some(group) = &share.group else {
            assert_eq!(share.by(), "none");
            assert!(
                share
                    .problem()
                    .is_some_and(|why| why.contains("all processors"))
            );
            return;
        };
        let path = group.0.clone();
        let quota = fs::read_to_string(path.join("cpu.cfs_quota_us"))
            .or_else(|_| fs::read_to_string(path.join("cpu.max")));
        assert!(quota.expect("it has a quota").starts_with("5000"));
        let mut child = Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("cat runs");
        share
            .admit(&[child.id(), u32::MAX >> 2])
            .expect("one is gone, one goes in");
        share.admit(&[child.id()]).expect("it is in already");
        let inside = fs::read_to_string(path.join("cgroup.procs")).expect("readable");
        assert_eq!(inside.trim(), child.id().to_string());
        drop(child.stdin.take());
        child.wait().expect("cat ends");
        drop(share);
        assert!(!path.exists(), "an empty group is removed");
    }

    /// The other version of cgroups than this machine's, as far as files go.
    #[test]
    fn both_versions_are_found_and_written() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(Hierarchy::find(dir.path()).is_none());
        fs::create_dir(dir.path().join("cpu,cpuacct")).expect("room");
        let v1 = Hierarchy::find(dir.path()).expect("v1");
        let group = Group::create_in(&v1, "edge", 7_000).expect("plain files");
        let quota = fs::read_to_string(group.0.join("cpu.cfs_quota_us"));
        assert_eq!(quota.expect("written"), "7000");
        fs::write(dir.path().join("cgroup.controllers"), "cpuset cpu io\n").expect("room");
        let v2 = Hierarchy::find(dir.path()).expect("v2");
        let group = Group::create_in(&v2, "edge", 7_000).expect("plain files");
        assert_eq!(
            fs::read_to_string(group.0.join("cpu.max")).expect("written"),
            "7000 20000"
        );
    }

    #[test]
    fn no_number_of_processors_is_refused() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            quota_us(bad).expect_err("no number of processors");
        }
        assert_eq!(quota_us(0.000_1), Ok(1_000));
    }
}
