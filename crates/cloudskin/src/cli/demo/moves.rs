//! `cloudskin demo moves`: an ordinary MPI program moves between two hosts while it runs, and computes the same bits.
//!
//! The program (`guests/mpi/diffuse`) smooths a photograph. It runs without moves; then again, while every rank moves to the other host and
//! back; then once more with one lost message, to show that the comparison would notice.

use std::collections::VecDeque;
use std::fs;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use cells::world::{Proof, Report, Schedule, Sinks, World};
use clap::Args;

use super::{
    HEADER, Indented, PHOTO, PROGRAM, compile, picture, progress, read, round, timeline, yes,
};
use crate::cli::say;
use crate::config::Config;

/// The part of the run, from its start, in which ranks move.
const MOVES_FROM: f64 = 0.10;
const MOVES_UNTIL: f64 = 0.80;
/// Iterations whose median a disturbed one is compared with.
const BASELINE: usize = 20;

#[derive(Debug, Args)]
pub(in crate::cli) struct Moves {
    /// Print the result as one JSON line.
    #[arg(long)]
    json: bool,
    /// Decides in which order the ranks move.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 4)]
    ranks: u32,
    /// Width that the photograph is scaled to, pixels: the work grows with its square.
    #[arg(long, default_value_t = 1024)]
    size: u32,
    #[arg(long, default_value_t = 1000)]
    iterations: u32,
    /// A photograph, binary PPM or PGM, instead of the cat.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Where the pictures and the timeline go.
    #[arg(long, value_name = "DIR", default_value = "target/demo")]
    out: PathBuf,
}

/// What the demo found.
struct Verdict {
    report: Report,
    is_identical: bool,
    differs_from_input: bool,
    canary_noticed: bool,
    pause_ms_max: f64,
    disruption_pct: f64,
}

impl Moves {
    pub(in crate::cli) fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        ensure!(
            self.ranks > 0 && self.size > 0 && self.iterations > 0,
            "ranks, size and iterations are positive"
        );
        fs::create_dir_all(&self.out).with_context(|| format!("create {}", self.out.display()))?;
        let out = fs::canonicalize(&self.out)?;
        let photo = match &self.image {
            Some(path) => fs::read(path).with_context(|| format!("read {}", path.display()))?,
            None => PHOTO.to_vec(),
        };
        fs::write(out.join("photo.ppm"), photo)?;
        progress("compile diffuse.c for cells")?;
        let module = compile(
            &out,
            "diffuse",
            &[("diffuse.c", PROGRAM), ("picture.h", HEADER)],
            config,
        )?;

        let run = |what: &str, picture: &str, args: &[String], schedule| {
            progress(what)?;
            self.diffuse(config, &module, &out, (picture, args), schedule)
        };
        let iterations = self.iterations.to_string();
        let full = ["-n".to_owned(), iterations];
        run(
            "scale the photograph, for comparison",
            "input.ppm",
            &["-n".into(), "0".into()],
            Schedule::None,
        )?;
        let unmoved = run(
            "run it on two hosts, without moves",
            "unmoved.ppm",
            &full,
            Schedule::None,
        )?;
        let times = self.times(unmoved.duration);
        let report = run(
            "run it again, and move every rank there and back",
            "moved.ppm",
            &full,
            times,
        )?;
        let drop = [
            "--drop-halo".to_owned(),
            (self.iterations / 2).max(1).to_string(),
        ];
        let canary = [full.as_slice(), drop.as_slice()].concat();
        run(
            "run it with one lost message, which must show",
            "canary.ppm",
            &canary,
            Schedule::None,
        )?;

        let verdict = self.judge(&out, report)?;
        for name in ["input", "moved"] {
            picture::to_bmp(
                &read(&out, &format!("{name}.ppm"))?,
                &out.join(format!("{name}.bmp")),
            )?;
        }
        fs::write(
            out.join("timeline.svg"),
            timeline::draw(&verdict.report, self.ranks, BASELINE),
        )?;
        self.tell(&verdict, &out)
    }

    /// Compares the pictures, and measures the moves.
    fn judge(&self, out: &Path, report: Report) -> anyhow::Result<Verdict> {
        let moved = read(out, "moved.ppm")?;
        let pauses = report.moves.iter().map(|m| m.pause().as_secs_f64() * 1e3);
        Ok(Verdict {
            is_identical: moved == read(out, "unmoved.ppm")?,
            differs_from_input: moved != read(out, "input.ppm")?,
            canary_noticed: self.ranks == 1 || moved != read(out, "canary.ppm")?,
            pause_ms_max: pauses.fold(0.0, f64::max),
            disruption_pct: disruption(&report) * 100.0,
            report,
        })
    }

    /// When which rank moves: each there and back, evenly through the run.
    fn times(&self, unmoved: Duration) -> Schedule {
        let mut order: Vec<u32> = (0..self.ranks).collect();
        let mut state = self.seed;
        for place in (1..order.len()).rev() {
            // Knuth's 64-bit multiplier; the high bits are good enough to shuffle with.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let other = usize::try_from(state >> 33).unwrap_or(0) % (place + 1);
            order.swap(place, other);
        }
        let moves: Vec<u32> = order.iter().chain(&order).copied().collect();
        let step = (MOVES_UNTIL - MOVES_FROM) / f64::from(self.ranks * 2);
        let at = |n: u32| unmoved.mul_f64(MOVES_FROM + step * f64::from(n));
        Schedule::Timed(
            (0..)
                .zip(moves)
                .map(|(n, rank)| (at(n), rank))
                .collect::<VecDeque<_>>(),
        )
    }

    fn diffuse(
        &self,
        config: &Config,
        module: &[u8],
        out: &Path,
        (picture, args): (&str, &[String]),
        schedule: Schedule,
    ) -> anyhow::Result<Report> {
        let fixed = [
            "diffuse",
            "-i",
            "/out/photo.ppm",
            "-o",
            &format!("/out/{picture}"),
            "--size",
        ];
        let mut argv: Vec<String> = fixed.map(str::to_owned).to_vec();
        argv.push(self.size.to_string());
        argv.extend_from_slice(args);
        let world = World {
            name: "diffuse".into(),
            module: module.to_vec(),
            n_ranks: self.ranks,
            n_hosts: 2,
            args: argv,
            env: Vec::new(),
            mounts: vec![("/out".into(), out.to_owned())],
            memory_bytes_max: 2 << 30,
            hash_memory: false,
            proof: Proof::None,
            schedule,
            checkpoint_every: None,
            marks: true,
            interpret: false,
            report_moves: true,
            fail_point: None,
            host_program: std::env::current_exe().context("find this program")?,
            log: "warn".into(),
            state_dir: config.state_dir.clone(),
            code_dir: config.code_dir(),
        };
        let (mut stdout, mut stderr) = (Indented, Indented);
        let report = cells::world::run(
            world,
            Sinks {
                stdout: &mut stdout,
                stderr: &mut stderr,
            },
        )?;
        ensure!(
            report.exit_code == 0,
            "diffuse ended with code {}",
            report.exit_code
        );
        Ok(report)
    }

    fn tell(&self, verdict: &Verdict, out: &Path) -> anyhow::Result<ExitCode> {
        let migrations = verdict.report.moves.len();
        let all_moved = verdict.report.missing_moves == 0 && migrations == self.ranks as usize * 2;
        let ok = verdict.is_identical
            && verdict.differs_from_input
            && verdict.canary_noticed
            && all_moved
            && verdict.disruption_pct < 10.0;
        progress(&format!(
            "{migrations} moves; identical to the unmoved run: {}; a lost message shows: {}; \
             longest pause {:.1} ms; disruption {:.1} % of the run time",
            yes(verdict.is_identical),
            yes(verdict.canary_noticed),
            verdict.pause_ms_max,
            verdict.disruption_pct
        ))?;
        progress(&format!(
            "look at {0}/input.bmp, {0}/moved.bmp and {0}/timeline.svg",
            out.display()
        ))?;
        if self.json {
            let line = serde_json::json!({
                "ok": ok,
                "identical": verdict.is_identical,
                "migrations": migrations,
                "pause_ms_max": round(verdict.pause_ms_max),
                "disruption_pct": round(verdict.disruption_pct),
                "differs_from_input": verdict.differs_from_input,
                "canary_noticed": verdict.canary_noticed,
                "seconds": round(verdict.report.duration.as_secs_f64()),
                "timeline": out.join("timeline.svg"),
            });
            say(&line.to_string())?;
        }
        if !all_moved {
            let wanted = self.ranks * 2;
            bail!(
                "{migrations} of {wanted} moves happened: the program ended first; try a larger --size"
            );
        }
        Ok(if ok {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// The time lost around moves as a part of the run's: for each iteration in which a rank stood still, what it took beyond the median of
/// those before it.
fn disruption(report: &Report) -> f64 {
    let Some(marks) = report.marks.first_key_value().map(|(_, marks)| marks) else {
        return 0.0;
    };
    let mut lost_ns = 0;
    for (n, pair) in marks.windows(2).enumerate() {
        let (start, end) = (pair[0].1, pair[1].1);
        let is_disturbed = report
            .moves
            .iter()
            .any(|m| m.frozen_ns < end && m.resumed_ns > start);
        if is_disturbed {
            let before = &marks[n.saturating_sub(BASELINE)..=n];
            lost_ns += (end - start).saturating_sub(median(before));
        }
    }
    Duration::from_nanos(lost_ns).div_duration_f64(report.duration)
}

/// The median distance of marks, ns.
fn median(marks: &[(u8, u64)]) -> u64 {
    let mut distances: Vec<u64> = marks.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
    distances.sort_unstable();
    distances.get(distances.len() / 2).copied().unwrap_or(0)
}
